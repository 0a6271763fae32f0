"""Splits for data without splits: pinned, since a change of one changes every score on it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.tasks.splits import balanced_splits, stratified_splits


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


SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
UNITS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 5), min_size=1, max_size=3),
    min_size=3,
    max_size=30,
)


def shown(splits):
    return {split: " ".join(sorted(unit for unit in splits if splits[unit] == split)) for split in SHARES}


def test_whole_units_are_dealt_by_size_hash_and_need():
    singers = {"Ada": {"r": 2}, "Bob": {"r": 1}, "Cy": {"r": 1}, "Dee": {"j": 1}, "Eve": {"j": 2}, "Fay": {"j": 1}}
    assert shown(balanced_splits(singers, SHARES)) == {"train": "Ada Eve", "valid": "Cy Dee", "test": "Bob Fay"}
    kits = {f"kit{number}": {"kick": 2, "snare": 3} for number in range(5)}
    assert shown(balanced_splits(kits, SHARES)) == {"train": "kit1 kit3 kit4", "valid": "kit0", "test": "kit2"}


@given(UNITS, st.randoms())
def test_each_unit_is_in_one_split_whatever_the_order(units, random):
    names = list(units)
    random.shuffle(names)
    splits = balanced_splits(units, SHARES)
    shuffled = {name: dict(sorted(units[name].items(), key=lambda _: random.random())) for name in names}
    assert balanced_splits(shuffled, SHARES) == splits
    assert set(splits) == set(units)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=40), st.sampled_from([SHARES, {"train": 0.8, "valid": 0.2}]))
def test_units_of_one_stratum_fill_every_split_as_its_share_asks(sizes, shares):
    units = {str(number): {"all": size} for number, size in enumerate(sizes)}
    splits = balanced_splits(units, shares)
    dealt = {split: sum(sizes[int(unit)] for unit in units if splits[unit] == split) for split in shares}
    assert all(dealt.values())
    for split, share in shares.items():
        assert dealt[split] <= share * sum(sizes) + max(sizes)


@given(st.integers(3, 40), st.integers(1, 4))
def test_units_that_are_alike_are_dealt_three_to_one_to_one(count, size):
    units = {str(number): {"a": size, "b": size} for number in range(count)}
    dealt = Counter(balanced_splits(units, SHARES).values())
    assert all(abs(dealt[split] - share * count) < 1.5 for split, share in SHARES.items())
    if count % 5 == 0:
        assert dealt == {split: round(share * count) for split, share in SHARES.items()}
