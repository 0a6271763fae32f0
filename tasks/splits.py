"""Splits for data without any: stratified, deterministic, and independent of names and order.

Units (distinct contents, or groups) are ordered within each stratum by a hash of their identity and dealt 3:1:1 to train,
valid and test. The same units give the same splits on any machine; a renamed file keeps its split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from marble.errors import MarbleError
from marble.task import Split

ALIASES: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test", "evaluation": "test", "eval": "test",
}  # fmt: skip


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
        for rank, unit in enumerate(sorted(units, key=lambda unit: hashlib.sha256(unit.encode()).digest())):
            splits[unit] = "test" if rank < held_out else "valid" if rank < 2 * held_out else "train"
    return splits
