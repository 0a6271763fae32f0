"""Suites name every task of their papers, and tasks on the same audio share its features."""

from collections import Counter
from pathlib import Path

import pytest

from marble import registry
from marble.data.excerpts import represent
from marble.errors import MarbleError
from marble.features.space import DEFAULT_SECONDS
from marble.jobs.many import run_all
from marble.probe.presets import PROTOCOLS
from marble.results.published import published_numbers
from marble.tasks.suites import SUITES

# The tables that list the tasks of each paper, and the tasks that wait for their judgement frame by frame or for other parts.
TABLES = {
    "muq": ("MuQ", {1, 2}),
    "layerwise": ("layer-wise", {1}),
    "omar": ("OMAR-RQ", {4}),
    "branchformer": ("Branchformer", {3}),
}
NOT_YET = {"harmonix-structure", "gtzan-beat", "musdb18-separation", "hooktheory-key", "hooktheory-structure"}
PRIVATE = {"music-preference", "rap-detection", "sound-quality"}
QUICK = {"seeds": 1, "settings": ["probe.epochs=1", "probe.hidden=4", "probe.learning_rates=1e-3"], "layers": "0", "workers": 1}


@pytest.mark.parametrize("name", TABLES)
def test_a_suite_has_every_task_of_its_tables(name):
    paper, tables = TABLES[name]
    printed = {number["task"] for number in published_numbers() if number["paper"] == paper and number["table"] in tables}
    assert set(SUITES[name].tasks) == printed - {"average"}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_declares_itself_and_misspells_nothing(name):
    suite = SUITES[name]
    assert suite.protocol in PROTOCOLS
    assert len(suite.paper) > 40
    assert suite.tables
    assert len(set(suite.tasks)) == len(suite.tasks)
    assert set(suite.tasks) <= {*registry.complete_task_names(), *NOT_YET, *PRIVATE}


def test_the_nine_tasks_of_muq_and_the_fourteen_of_marble():
    assert len(SUITES["muq"].tasks) == 9
    assert set(SUITES["muq"].tasks) < set(SUITES["layerwise"].tasks)
    assert len(SUITES["marble"].tasks) == 14 + len({"chords", "hooktheory-key", "hooktheory-structure"})


def test_what_marble_cannot_run_is_named_with_the_reason_unless_it_is_given():
    opened = registry.open_suites(["suite:layerwise", "music-preference:mine.csv", "gtzan"])
    assert next(iter(opened)) == "gtzan"
    assert "music-preference" not in opened
    assert opened["music-preference:mine.csv"] is None
    assert opened["rap-detection"] == "on data of yours: add rap-detection:FILE to --task"
    assert {name for name, why in opened.items() if why} <= NOT_YET | PRIVATE
    assert list(registry.open_suites(["nsynth-pitch", "suite:omar"]))[:2] == ["nsynth-pitch", "mtt-clean"]
    with pytest.raises(MarbleError, match="no suite called 'muk': did you mean muq"):
        registry.open_suites(["suite:muk"])
    with pytest.raises(MarbleError, match=r"suite:omar is several tasks \(mtt-clean, .*: give it to marble.jobs.many.run_all"):
        registry.load_task("suite:omar")


@pytest.fixture
def one_root(stand_in, tmp_path, monkeypatch):
    """A data root with the stand-ins of all data sets, and the tasks of marble with the sizes of those."""

    def make(names):
        for name in names:
            task, root = stand_in(name)
            module, attribute = registry.TASKS[name].split(":")
            monkeypatch.setattr(f"{module}.{attribute}", task)
            for folder in root.iterdir():
                link = tmp_path / "data" / folder.name
                link.parent.mkdir(exist_ok=True)
                if folder.is_dir() and not link.exists():
                    link.symlink_to(folder)
        return tmp_path / "data"

    return make


def test_a_suite_runs_and_no_audio_is_encoded_twice(one_root, small_net, tmp_path, monkeypatch):
    shared = {"mtg": 4, "nsynth": 2, "vocalset": 2, "mtt": 2}
    names = [name for name in SUITES["marble"].tasks if name.split("-")[0] in shared] + ["mtt-clean"]
    root = one_root(names)
    clips = {name: registry.load_task(name).read(root) for name in names}
    assert {group: sum(name.split("-")[0] == group for name in names) for group in shared} == shared
    log = tmp_path / "log"
    monkeypatch.setenv("SMALL_NET_LOG", str(log))
    outcomes = list(
        run_all(
            ["small_net:Net"], ["suite:marble", "mtt-clean"], data_root=root,
            results=tmp_path / "results", **QUICK,
        )
    )  # fmt: skip
    ran = {outcome.task: outcome.result for outcome in outcomes if outcome.result}
    assert set(ran) == set(names)
    distinct = {
        (clip.path.read_bytes(), clip.start, clip.stop)
        for name, task in ((name, registry.load_task(name)) for name in names)
        for clip in represent(clips[name], task.most_windows or "all", task.window or DEFAULT_SECONDS)
    }
    assert sum(result.cost.clips_encoded for result in ran.values()) == len(distinct)
    assert max(Counter(log.read_text().split()).values()) == 1
    waiting = [outcome for outcome in outcomes if not outcome.in_marble]
    assert {outcome.task for outcome in waiting} <= NOT_YET
    assert {outcome.complaint for outcome in waiting} == {"not in marble yet"}
    failed = {outcome.task: outcome.complaint for outcome in outcomes if outcome.failed}
    assert set(failed) == {"gtzan", "giantsteps-key", "emomusic", "chords"}
    assert all(Path(root).name in complaint for complaint in failed.values())
