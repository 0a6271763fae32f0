"""Kinds of tasks: targets in, labels out."""

import numpy as np
import pytest
import torch

from marble.errors import MarbleError
from marble.kinds import KINDS, kind_of

LABELS = ("a", "b", "c")


@pytest.mark.parametrize(
    ("kind", "targets", "expected"),
    [
        ("multiclass", ["c", "a"], [2, 0]),
        ("ordinal", ["b"], [1]),
        ("multilabel", [("a", "c"), ()], [[1, 0, 1], [0, 0, 0]]),
        ("regression", [(1.0, 2.0, -3.5)], [[1.0, 2.0, -3.5]]),
    ],
)
def test_targets_are_encoded(kind, targets, expected):
    encoded = KINDS[kind].encode(targets, LABELS)
    assert encoded.dtype == (np.float32 if np.ndim(expected) == 2 else np.int64)
    assert encoded.tolist() == expected


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("multiclass", "z"),
        ("multiclass", ("a",)),
        ("multilabel", ("z",)),
        ("regression", (1.0,)),
        ("regression", (1.0, 2.0, np.inf)),
    ],
)
def test_a_target_of_another_kind_is_refused(kind, target):
    with pytest.raises(ValueError, match=r"label|finite"):
        KINDS[kind].encode([target], LABELS)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("multiclass", ["genre---b"], "b"),
        ("multiclass", ["a", "b"], None),
        ("ordinal", ["c"], "c"),
        ("multilabel", ["a", "x---c"], ("a", "c")),
        ("multilabel", ["z"], None),
        ("regression", [1, "2.5", -3], (1.0, 2.5, -3.0)),
        ("regression", [1, 2], None),
        ("regression", [1, None, 3], None),
        ("regression", [1, "nan", 3], None),
    ],
)
def test_values_of_a_file_become_a_target(kind, values, expected):
    assert KINDS[kind].parse(values, LABELS) == expected


def test_answers_are_decoded():
    answers = torch.tensor([[0.9, 0.8, 0.1], [0.1, 0.2, 0.3]])
    assert KINDS["multiclass"].decode(answers, LABELS) == ["a", "c"]
    assert KINDS["ordinal"].decode(answers, LABELS) == ["b", None]
    assert KINDS["multilabel"].decode(answers, LABELS) == KINDS["regression"].decode(answers, LABELS) == [None, None]


def test_labels_without_a_training_clip_are_named():
    assert (
        KINDS["ordinal"].untrained(["a", "c"], LABELS) == KINDS["multilabel"].untrained([("a",), ("c", "a")], LABELS) == ["b"]
    )
    assert KINDS["regression"].untrained([(1.0,)], LABELS) == []


def test_an_unknown_kind_is_one_sentence():
    with pytest.raises(MarbleError, match="no kind of task called 'multi': write multiclass, ordinal, multilabel, regression"):
        kind_of("multi")
