"""Which upstreams may have heard the audio of which tasks, by what both declare."""

import pytest

from marble import registry
from marble.data.leakage import COLLECTIONS, UNLISTED, contamination

UPSTREAMS = {name: registry.find_upstream(name).info for name in registry.complete_upstream_names()}
COMMERCIAL = {
    "gtzan", "giantsteps-key", "chords", "chords-uspop", "chords-isophonics", "chords-billboard", "local-key"
}  # fmt: skip
TASKS = {name: registry.load_task(name) for name in registry.complete_task_names()}


def test_upstreams_and_tasks_name_collections_by_the_same_words():
    named = [name for info in UPSTREAMS.values() for name in info.trained_on]
    named += [name for task in TASKS.values() for name in task.audio_from]
    assert set(named) == set(COLLECTIONS)
    assert not any(UNLISTED in task.audio_from for task in TASKS.values())


@pytest.mark.parametrize(
    ("upstream", "tasks"),
    [
        ("muq", COMMERCIAL),
        ("musicfm-msd", COMMERCIAL),
        ("musicfm-fma", {"emomusic"}),
        ("branchformer-summarymixing-tiny", {name for name, task in TASKS.items() if task.synthetic}),
        ("fbank-chroma", set()),
        ("constant", set()),
    ],
)
def test_what_was_trained_on_the_collection_of_a_task_is_said(upstream, tasks):
    assert {name for name, task in TASKS.items() if contamination(UPSTREAMS[upstream], task)} == tasks


@pytest.mark.parametrize("upstream", ["mert-95m", "mert-330m", "omar-rq-base", "omar-rq-multifeature-25hz-fsq"])
def test_an_unlisted_training_set_may_hold_any_music_but_that_of_marble(upstream):
    flagged = {name for name, task in TASKS.items() if contamination(UPSTREAMS[upstream], task)}
    music = {name for name, task in TASKS.items() if task.audio_from and not task.synthetic}
    assert flagged == music
    assert {"gtzan", "emomusic", "mtt", "mtg-top50", "giantsteps-key", "piano-difficulty"} <= music
    assert not {"nsynth-pitch", "vocalset-singer"} & music


def test_the_sentences():
    assert contamination(UPSTREAMS["musicfm-fma"], TASKS["emomusic"]) == (
        "The upstream may have heard this music: musicfm-fma was trained on the Free Music Archive, 30 s clips; this and "
        "emomusic both draw on the Free Music Archive."
    )
    assert contamination(UPSTREAMS["mert-95m"], TASKS["mtt"]) == (
        "The upstream may have heard this music: mert-95m was trained on 20 000 h of music, 5 s clips, and nobody has "
        "published which recordings these are."
    )
    assert "both draw on commercial releases." in contamination(UPSTREAMS["omar-rq-base"], TASKS["gtzan"])


def test_random_weights_have_heard_nothing():
    control = registry.load_upstream("random-init:branchformer-summarymixing-tiny").info
    assert not any(contamination(control, task) for task in TASKS.values())
