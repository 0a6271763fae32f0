"""Splits for data without splits: pinned, since a change of one changes every score on it."""

from collections import Counter

import pytest

from marble.errors import MarbleError
from marble.tasks.splits import stratified_splits


def dealt(stratum_of):
    """Return the units of each split in one string a split."""
    splits = stratified_splits(stratum_of, "x")
    return {
        split: "".join(sorted(unit[-1] for unit in splits if splits[unit] == split)) for split in ("train", "valid", "test")
    }


def test_units_are_dealt_in_the_order_of_their_hashes_not_of_their_names():
    strata = {f"unit {name}": "low" if number < 6 else "high" for number, name in enumerate("ABCDEFGHIJKL")}
    assert dealt(strata) == {"train": "BDEFIJKL", "valid": "CH", "test": "AG"}
    assert dealt(dict(reversed(strata.items()))) == dealt(strata)
    assert dealt({f"group {name}": "the table" for name in "ABCDEF"}) == {"train": "ACDE", "valid": "F", "test": "B"}


@pytest.mark.parametrize(("units", "held_out"), [(3, 1), (7, 1), (8, 2), (12, 2), (13, 3), (100, 20)])
def test_a_fifth_each_and_at_least_one_is_held_out(units, held_out):
    splits = stratified_splits({f"{number}": "s" for number in range(units)}, "x")
    assert Counter(splits.values()) == {"train": units - 2 * held_out, "valid": held_out, "test": held_out}


def test_two_units_are_too_few():
    with pytest.raises(MarbleError, match="'s' has only 2 distinct recordings in x: it needs 3"):
        stratified_splits({"a": "s", "b": "s"}, "x")
