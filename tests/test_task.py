"""What a task refuses, and how targets are encoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marble.errors import MarbleError
from marble.task import Clip, Task

CLIPS = [Clip(f"{split}{label}", Path("x.wav"), split, label) for split in ("train", "valid", "test") for label in "ab"]


def task(clips, **changes) -> Task:
    fields = {
        "kind": "multiclass",
        "labels": ("a", "b"),
        "metrics": ("accuracy",),
        "citation": "c",
        "licence": "l",
        "source": "s",
    }
    return Task(name="toy", version=1, description="d", clips=lambda root: clips, **(fields | changes))


def test_a_task_returns_its_clips_and_their_encoding():
    toy = task(CLIPS)
    assert toy.read(Path()) == CLIPS
    assert toy.encode(CLIPS).tolist() == [0, 1, 0, 1, 0, 1]
    assert CLIPS[0].track == "traina"


@pytest.mark.parametrize(
    ("clips", "changes", "message"),
    [
        ([*CLIPS, CLIPS[0]], {}, "clip ids twice, 'traina' first"),
        (
            [replace(clip, group="one track", target="a") for clip in CLIPS],
            {},
            "'one track' of toy stands in train and in valid",
        ),
        ([replace(clip, group=f"of {clip.split}") for clip in CLIPS], {}, "'of train' of toy has the targets a and b"),
        ([replace(CLIPS[0], group="trainb"), *CLIPS[1:]], {}, "The group 'trainb' of toy has the name of a clip outside of it"),
        (CLIPS[:4], {}, "no clip in its test split"),
        ([*CLIPS[:5], replace(CLIPS[5], target="c")], {}, "has the label 'c'"),
        (CLIPS, {"split_sizes": {"train": 3, "valid": 2, "test": 2}}, "train split of toy has 2 tracks where 3"),
        ([replace(clip, target=(1.0,)) for clip in CLIPS], {"kind": "regression"}, "where 2 finite values"),
        (
            [replace(clip, target=(1.0, float("nan"))) for clip in CLIPS],
            {"kind": "regression"},
            "where 2 finite values",
        ),
        ([replace(clip, target=("a", "z")) for clip in CLIPS], {"kind": "multilabel"}, "has the label 'z'"),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(clips, changes, message):
    with pytest.raises(MarbleError, match=message):
        task(clips, **changes).read(Path())


def test_ordinal_targets_are_the_places_of_the_labels():
    assert task(CLIPS, kind="ordinal", labels=("b", "a")).encode(CLIPS).tolist() == [1, 0, 1, 0, 1, 0]


def test_multilabel_and_regression_targets():
    tags = [
        replace(clip, target=target) for clip, target in zip(CLIPS, [(), ("b",), ("a", "b"), ("a",), (), ("b",)], strict=True)
    ]
    assert task(tags, kind="multilabel").encode(tags).tolist() == [[0, 0], [0, 1], [1, 1], [1, 0], [0, 0], [0, 1]]
    numbers = [replace(clip, target=(0.5, -2.0)) for clip in CLIPS]
    assert np.array_equal(task(numbers, kind="regression").encode(numbers), np.tile(np.float32([0.5, -2]), (6, 1)))
