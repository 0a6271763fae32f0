"""Splits for data without any: stratified, deterministic, and independent of names and order.

Units (distinct contents, or groups) are ordered within each stratum by a hash of their identity and dealt 3:1:1 to train,
valid and test. Units of several strata, such as artists with songs of several genres, are dealt whole and balanced. The same
units give the same splits on any machine; a renamed file keeps its split.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from math import fsum

from marble.errors import MarbleError
from marble.task import Split

ALIASES: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test", "evaluation": "test", "eval": "test",
}  # fmt: skip


def split_in(name: str) -> Split | None:
    """Return the one split that a name holds as a word (``nsynth-valid``); None where it holds none, or several."""
    splits = {ALIASES[word] for word in re.split(r"[^a-z]+", name.lower()) if word in ALIASES}
    return splits.pop() if len(splits) == 1 else None


def stratified_splits(stratum_of: Mapping[str, str], where: str) -> dict[str, Split]:
    """Deal units to splits, 3:1:1 within each stratum and at least one of each.

    Args:
        stratum_of: the stratum (as a rule the label) of each unit.
        where: the source of the units, for the error.

    Raises:
        MarbleError: a stratum has fewer than three units.
    """
    strata: dict[str, list[str]] = {}
    for unit, stratum in stratum_of.items():
        strata.setdefault(stratum, []).append(unit)
    splits: dict[str, Split] = {}
    for stratum, units in strata.items():
        if len(units) < 3:
            raise MarbleError(
                f"'{stratum}' has only {len(units)} distinct recordings in {where}: it needs 3, one for each split; "
                "add some or remove it."
            )
        held_out = max(1, round(len(units) / 5))
        for rank, unit in enumerate(sorted(units, key=_rank)):
            splits[unit] = "test" if rank < held_out else "valid" if rank < 2 * held_out else "train"
    return splits


def balanced_splits(strata_of: Mapping[str, Mapping[str, int]], shares: Mapping[Split, float]) -> dict[str, Split]:
    """Deal whole units to splits so that each split has its share of every stratum, as nearly as whole units allow.

    The largest unit is dealt first, of equal ones that of the lowest hash; each goes where its strata are filled least: of
    splits that are filled alike to the first one, else to the emptiest. So the largest unit of a stratum, and the only one, is
    in the first split, and three units of a stratum are in three splits.

    Args:
        strata_of: how many clips of each stratum (a label, as a rule) each unit holds; an artist holds several.
        shares: of the clips that each split should get, the training split first.
    """
    totals: Counter[str] = Counter()
    for strata in strata_of.values():
        totals.update(strata)
    counts: dict[Split, Counter[str]] = {split: Counter() for split in shares}
    sizes: Counter[Split] = Counter()
    first = next(iter(shares))
    splits: dict[str, Split] = {}

    def filled(split: Split, strata: Mapping[str, int]) -> tuple[float, bool, float]:
        """Return how full a split is of the strata of a unit, each counted by its share in it; later ones by everything."""
        own = fsum(number / totals[name] * counts[split][name] / totals[name] for name, number in strata.items())
        # Rounded, so that what is equal on paper is equal here.
        return round(own / shares[split], 9), split != first, round(sizes[split] / shares[split], 9)

    for unit in sorted(strata_of, key=lambda unit: (-sum(strata_of[unit].values()), _rank(unit))):
        strata = strata_of[unit]
        splits[unit] = split = min(shares, key=lambda split: filled(split, strata))
        counts[split].update(strata)
        sizes[split] += sum(strata.values())
    return splits


def _rank(unit: str) -> bytes:
    return hashlib.sha256(unit.encode()).digest()
