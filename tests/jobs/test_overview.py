"""What is said of a task before anything is encoded, and what --limit leaves of it."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.chords import LABELS
from marble.errors import MarbleError
from marble.frames import Spans
from marble.jobs.job import prepare
from marble.jobs.overview import contradictions, counts, label_cautions, limited, refuse_useless_splits
from marble.results.schema import BadClip
from marble.system.progress import Reporter
from marble.task import SPLITS, Clip, Task


def task(kind, labels, metrics):
    about = {"description": "", "citation": "", "licence": "", "source": ""}
    return Task("t", 1, kind=kind, labels=tuple(labels), metrics=metrics, clips=lambda _: (), **about)


def classes(labels):
    return task("multiclass", labels, ("accuracy", "balanced_accuracy"))


def clips(targets, split="train", **more):
    return [
        Clip(f"{split} {number}", Path(f"{split} {number}"), split, target, **more) for number, target in enumerate(targets)
    ]


def test_few_labels_are_counted_one_by_one():
    listed = clips("aab") + clips("ab", "valid") + clips("b", "test") + clips("bb", "test", group="one track")
    assert counts(classes("ab"), listed) == "3 / 2 / 2 tracks in train / valid / test, 2 labels: a 2 / 1 / 0, b 1 / 1 / 2"
    tags = clips([("x", "y"), ("y",), ()]) + clips([("x",)], "valid") + clips([()], "test")
    assert counts(task("multilabel", "xy", ("roc_auc",)), tags).endswith("2 labels: x 1 / 1 / 0, y 2 / 0 / 0")


def test_many_labels_are_summed_up_and_numbers_have_a_range():
    names = [f"l{number}" for number in range(13)]
    listed = clips(names + names[1:]) + clips(names, "valid") + clips(names[:5], "test")
    assert counts(classes(names), listed).endswith(
        "25 / 13 / 5 tracks in train / valid / test, 13 labels of 1 to 2 / 1 to 1 / 0 to 1 each"
    )
    numbers = clips([(1.0, -2.5), (3.0, 0.0)]) + clips([(2.0, 7.0)], "test")
    both = task("regression", ["valence", "arousal"], ("r2",))
    assert counts(both, numbers) == "2 / 0 / 1 tracks in train / valid / test: valence from 1 to 3, arousal from -2.5 to 7"


def test_labels_of_frames_have_shares_of_the_time_and_the_commonest_of_training_is_named():
    song = Spans(((0.0, 3.0, "C:maj"), (3.0, 4.0, "N"), (4.0, 9.0, "D:sus4")))
    quiet = Spans(((0.0, 16.0, "N"),))
    few = task("frame_classes", ["C:maj", "N"], ("wcsr",))
    assert counts(few, clips([song, song]) + clips([song], "valid") + clips([quiet], "test")).endswith(
        "0.0 h of 2 labels: C:maj 32%, N 68%; 'C:maj' most in training, 75.0%"
    )
    many = task("frame_classes", LABELS, ("wcsr",))
    assert counts(many, clips([song]) + clips([quiet], "test")).endswith(
        "0.0 h of 25 labels: 0.0% to 85.0% of the time each; 'C:maj' most in training, 75.0%"
    )


@pytest.mark.parametrize(
    ("of", "train", "test", "sentences"),
    [
        (classes("abc"), "aabc", "ab", ["balanced_accuracy of test: the mean over 2 of 3 labels, .* about 'c'"]),
        (classes("ab"), "aa", "ab", ["1 labels have no clip to train on, .*: 'b'\\."]),
        (
            task("multilabel", "xyz", ("roc_auc", "average_precision")),
            [("x",), ("y",)],
            [("x", "y"), ("x", "z"), ("x",)],
            ["1 labels have no clip to train on, .*: 'z'\\.", "roc_auc of test: the mean over 2 of 3 labels, .* about 'x'"],
        ),
        (
            task("multilabel", "xy", ("roc_auc", "average_precision")),
            [("x", "y")],
            [("x",), ()],
            ["roc_auc and average_precision of test: the mean over 1 of 2 labels, .* about 'y'"],
        ),
        (
            task("regression", "vw", ("r2", "mse")),
            [(1.0, 2.0)],
            [(1.0, 2.0), (1.0, 3.0)],
            ["r2 of test: .* 1 of 2 .* about 'v'"],
        ),
        (task("multilabel", "xy", ("roc_auc",)), [("x", "y")], [("x",), ("y",)], []),
    ],
)
def test_labels_that_a_mean_leaves_out_or_that_nothing_can_learn_are_said(of, train, test, sentences):
    listed = clips(train) + clips(train, "valid") + clips(test, "test")
    said = label_cautions(of, listed)
    assert len(said) == len(sentences)
    for caution, sentence in zip(said, sentences, strict=True):
        assert re.match(sentence, caution)


@given(
    st.lists(st.sampled_from("abcdef"), min_size=8, max_size=60).filter(lambda labels: len(set(labels)) > 1), st.integers(2, 20)
)
def test_a_limit_takes_labels_in_turn_the_same_ones_in_each_split(labels, limit):
    listed = [clip for split in SPLITS for clip in clips(labels, split)]
    few = limited(classes("abcdef"), listed, limit)
    for split in SPLITS:
        own = Counter(clip.target for clip in few if clip.split == split)
        present = Counter(labels)
        assert own.total() == min(limit, len(labels))
        assert len(own) == min(limit, len(present))
        assert all(own[label] in (present[label], max(own.values()), max(own.values()) - 1) for label in own)
    assert len({frozenset(clip.target for clip in few if clip.split == split) for split in SPLITS}) == 1
    assert limited(classes("abcdef"), listed[::-1], limit) == few[::-1]


def test_a_limit_keeps_all_excerpts_of_a_track_and_leaves_numbers_to_chance():
    numbers = [clip for split in SPLITS for clip in clips([(float(number),) for number in range(9)], split)]
    assert len(limited(task("regression", "v", ("r2",)), numbers, 2)) == 6
    tracks = [Clip(str(number), Path(), "train", "aaab"[number], group="ggg"[number:] or None) for number in range(3)]
    tracks += clips("b") + clips("a", "valid")
    few = limited(classes("ab"), tracks, 2)
    assert len({clip.track for clip in few if clip.split == "train"}) == 2
    assert all((clip in few) == (clip.track in {other.track for other in few}) for clip in tracks)
    assert limited(classes("ab"), tracks, None) is tracks


@pytest.mark.parametrize("limit", [1, 0, -1])
def test_a_limit_that_trains_on_one_class_is_refused(limit):
    with pytest.raises(MarbleError, match=f"--limit {limit} leaves one class to train on, or none: allow more tracks"):
        limited(classes("ab"), clips("aabb"), limit)


def test_a_split_without_a_usable_clip_is_named_with_an_example_of_its_own():
    bad = [BadClip(id=split, path=f"{split}.wav", split=split, reason="is empty") for split in ("train", "valid")]
    with pytest.raises(
        MarbleError, match=r"clip of the valid split of t could be used \(valid\.wav is empty\): check its files"
    ):
        refuse_useless_splits(classes("ab"), clips("ab"), bad, "its files")


@pytest.mark.parametrize("other", ["b", ("a", "b"), ()])
def test_an_excerpt_with_two_labels_is_named(other):
    same = "a" if isinstance(other, str) else ("a",)
    listed = clips([same, same, other])
    assert contradictions(listed, ["x", "x", "y"]) == []
    (said,) = contradictions(listed, ["x", "y", "x"])
    assert said.startswith("1 clips have the audio of another clip and other labels than it: one of the two is wrong (first ")
    assert contradictions(clips([(1.0,), (2.0,)]), ["x", "x"]) == []


def test_one_class_to_train_on_is_refused_with_a_clip_that_could_not_be_used():
    bad = [BadClip(id="b", path="b.wav", split="train", reason="is silent")]
    listed = [*clips("aa"), *clips("ab", "valid"), *clips("ab", "test")]
    with pytest.raises(MarbleError, match=r"t has clips of one class to train on, 'a' \(b\.wav is silent\): check its files"):
        refuse_useless_splits(classes("ab"), listed, bad, "its files")
    tags = [clip for split in SPLITS for clip in clips([("a",)], split)]
    refuse_useless_splits(task("multilabel", "ab", ("roc_auc",)), tags, [], "its files")


def test_the_overview_is_said_before_the_upstream_is_loaded(tones):
    said = []
    reporter = Reporter()
    reporter.say = said.append
    with pytest.raises(MarbleError, match="/no/such/place"):
        prepare("muq:/no/such/place", f"folder:{tones}", reporter=reporter)
    assert said[-1] == (
        "folder:tones: 12 / 6 / 6 tracks in train / valid / test, 3 labels: high 4 / 2 / 2, low 4 / 2 / 2, middle 4 / 2 / 2"
    )


def test_missing_files_are_told_before_what_follows_from_them(tones):
    """Not that no label has a clip to train on."""
    said = []
    reporter = Reporter()
    reporter.say = said.append
    gone = [*clips("aabb"), *clips("ab", "valid"), *clips("ab", "test")]
    of = Task("t", 1, "", "multiclass", ("a", "b"), ("accuracy",), lambda _: gone, "", "", "")
    with pytest.raises(MarbleError, match=r"No clip of the train split of t could be used \(train 0 cannot be read"):
        prepare("constant", of, reporter=reporter)
    assert not any("no clip to train on" in text for text in said)
