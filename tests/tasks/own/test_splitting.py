"""What belongs together stands in one split; stated splits are taken, and completed where that is asked for."""

import warnings
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.task import SPLITS, SplitRule
from marble.tasks.own.splitting import Row, groups_of_paths, split_rows


def split(rows, **rule):
    return split_rows("the data", rows, SplitRule(**rule))


def rows_of(groups, labels="ab", **more):
    return [Row(labels[number % len(labels)], (), f"unit {number}", group, **more) for number, group in enumerate(groups)]


@given(st.lists(st.integers(0, 9), min_size=20, max_size=60).filter(lambda groups: len(set(groups)) > 5))
def test_a_group_is_never_parted_and_each_split_has_some(groups):
    rows = rows_of(map(str, groups))
    splits = split(rows, group="kit")
    of_group = {}
    for row, own in zip(rows, splits, strict=True):
        assert of_group.setdefault(row.group, own) == own
    assert set(splits) == set(SPLITS)


def test_what_has_no_group_is_a_unit_of_its_own():
    rows = rows_of(["a", "a", "a", "b", "b", "b", None, None, None, None])
    splits = split(rows, group="kit")
    assert len(set(splits[:3])) == len(set(splits[3:6])) == 1
    assert set(splits) == set(SPLITS)


def test_artists_are_kept_together_where_each_label_has_three():
    rows = [Row(label, (), f"{label}{number}", f"{label}{number // 4}") for label in "ab" for number in range(10)]
    with pytest.warns(UserWarning, match="the data: 6 artists are kept in one split each"):
        splits = split(rows)
    assert Counter((row.label, own) for row, own in zip(rows, splits, strict=True)).keys() == {
        (label, own) for label in "ab" for own in SPLITS
    }
    two = [row._replace(group=row.group.replace("2", "1")) for row in rows]
    with pytest.warns(UserWarning, match="artists are not kept in one split, since a label has too few of them"):
        by_content = split(two)
    assert by_content == split([row._replace(group=None) for row in rows])
    assert len({own for row, own in zip(two, split(two, group="artist"), strict=True) if row.group == "a1"}) == 1
    with pytest.warns(UserWarning, match="artists are not kept in one split"):
        assert split([row._replace(group="one for all") for row in rows]) == by_content


@pytest.mark.parametrize("valid", [0.1, 0.2, 0.5])
def test_validation_is_taken_out_of_training_alone_by_whole_groups_and_each_label_alike(valid):
    rows = rows_of([f"g{number // 4}" for number in range(80)], split="train") + rows_of(["t"] * 10, split="test")
    splits = split(rows, valid=valid)
    assert splits[80:] == ["test"] * 10
    assert abs(splits.count("valid") - valid * 80) <= 4
    assert {(row.group, own) for row, own in zip(rows, splits, strict=True)} == {
        (row.group, own) for row, own in zip(rows[::4], splits[::4], strict=True)
    }
    labels = Counter(row.label for row, own in zip(rows, splits, strict=True) if own == "valid")
    assert labels["a"] == labels["b"]


def test_copies_of_a_recording_are_taken_together():
    rows = [Row("ab"[number % 2], (), f"content {number // 5}", None, "train") for number in range(50)]
    rows += rows_of([None] * 5, split="test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = split(rows, valid=0.2)
    assert all(len(set(splits[first : first + 5])) == 1 for first in range(0, 50, 5))


@pytest.mark.parametrize(
    ("rows", "rule", "sentence"),
    [
        (
            rows_of("xxx", split="train") + rows_of("y", split="test"),
            {},
            r"has no valid split \(3 train, 1 test\): add one, or take",
        ),
        (rows_of("xxx", split="train"), {}, r"has no valid and no test split \(3 train\): add one\."),
        (rows_of("xxx", split="train"), {"valid": 0.2}, r"has no .*test split"),
        (
            rows_of("x", split="train") + rows_of("yz", split="valid"),
            {"valid": 0.2},
            "has a validation split of its own: leave out",
        ),
        (rows_of("xyz"), {"valid": 0.2}, "the data states no split: leave it out"),
        (
            rows_of("xx", split="train") + rows_of("y", split="test"),
            {"valid": 0.2},
            r"\(2 train, 1 test\): add one\.$",
        ),
        (rows_of("xyxyxy"), {"group": "kit"}, "has 2 groups where each of three splits needs one"),
        (rows_of("xyzw", labels="abcd"), {"group": "kit"}, "leave no label that is both trained and tested"),
        (rows_of([None] * 4, labels="ab"), {}, "'b' has only 2 distinct recordings in the data"),
    ],
)
def test_what_cannot_be_split_is_explained(rows, rule, sentence):
    with pytest.raises(MarbleError, match=sentence):
        split(rows, **rule)


def test_groups_that_cross_stated_splits_are_named():
    stated = [("x", "train"), ("y", "valid"), ("x", "test"), (None, "train")]
    rows = [Row("a", (), str(number), group, own) for number, (group, own) in enumerate(stated)]
    with pytest.warns(UserWarning, match="the data: 1 groups stand in train and in another split, first 'x'"):
        assert split(rows) == ["train", "valid", "test", "train"]


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("parent", ["kit1", "kit2", None]),
        ("regex:kit\\d", ["kit1", "kit2", None]),
        ("regex:kit(\\d)", ["1", "2", None]),
        ("regex:(x)?kit", [None, None, None]),
        ("regex:^[^/]+", ["kick", "snare", "tom"]),
    ],
)
def test_groups_of_paths(rule, groups):
    paths = ["kick/kit1/0.wav", "snare/kit2/1.wav", "tom/2.wav"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if not any(groups):
            with pytest.raises(MarbleError, match=r"finds no group in x, such as in 'kick/kit1/0\.wav'"):
                groups_of_paths(rule, "x", paths, ["kit1", "kit2", ""])
        else:
            assert groups_of_paths(rule, "x", paths, ["kit1", "kit2", ""]) == groups
    alone = [f"x: --group {rule} finds none for 1 of 3 files, first 'tom/2.wav'"] if None in groups and any(groups) else []
    assert [str(warning.message) for warning in said] == alone


def test_a_wrong_pattern_is_named():
    with pytest.raises(MarbleError, match=r"--group regex:kit\( is no regular expression \(missing \)"):
        groups_of_paths("regex:kit(", "x", ["a"], [""])
