"""The splits of the user's own data: those that it states, or dealt 3:1:1.

Units
    What is never parted: the group of a clip, else its track, else the content of its file. Groups come from ``--group``
    (`marble.task.SplitRule`) or, in a table, from the column ``artist``.
Stated splits
    All three are needed. Where only validation is missing, ``--set split.valid=0.2`` takes a fifth of the training clips, by
    whole units and balanced over labels. Groups that stand in training and elsewhere are named in a warning.
Dealt splits
    Without groups stratified by label, by a hash of each unit. With groups whole groups, as balanced over labels as they allow:
    a label may be missing from a split where ``--group`` asks for it; the column ``artist`` alone is left aside then.
    ``--set split.near=group`` deals so once more, when the features of a run have told which tracks are near-duplicates.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from marble.errors import MarbleError
from marble.task import SPLITS, Clip, Split, SplitRule
from marble.tasks.splits import balanced_splits, stratified_splits

_SHARES: dict[Split, float] = {"train": 0.6, "valid": 0.2, "test": 0.2}


class Row(NamedTuple):
    """A clip before it has a split.

    Attributes:
        label: its class; None where it has tags or numbers.
        tags: its tags.
        unit: its track, or the content of its file.
        group: what must not be parted, if it is of a group.
        split: as the data states it.
    """

    label: str | None
    tags: tuple[str, ...]
    unit: str
    group: str | None = None
    split: Split | None = None

    @property
    def whole(self) -> str:
        """The unit that stands in one split."""
        return self.unit if self.group is None else f"artist {self.group}"


def split_rows(where: str, rows: Sequence[Row], rule: SplitRule) -> list[Split]:
    """Return the split of each row.

    Args:
        where: the data, in words.
        rows: all state a split, or none.
        rule: what the user asks for.

    Raises:
        MarbleError: a split is missing, there are too few units, or the rule does not fit the data.
    """
    if any(row.split for row in rows):
        if rule.near:
            raise MarbleError(f"split.near=group deals the clips to splits, but {where} states its own: leave it out.")
        return _stated(where, rows, rule.valid)
    if rule.valid:
        raise MarbleError(
            f"split.valid takes validation out of stated training data, but {where} states no split: leave it out."
        )
    if any(row.group for row in rows):
        by_group = _dealt_by_group(where, rows, asked=rule.group is not None)
        if by_group:
            return by_group
    strata = {row.unit: row.label or "the table" for row in reversed(rows)}
    splits = stratified_splits(strata, where)
    return [splits[row.unit] for row in rows]


def deal_again(where: str, clips: Sequence[Clip], units: Mapping[str, str]) -> dict[str, Split]:
    """Return the split of each track, with whole units in one split.

    Args:
        where: the data, in words.
        clips: of the task.
        units: the unit of each track that is used.

    Raises:
        MarbleError: there are too few units, or they leave no label that is both trained and tested.
    """
    used = [clip for clip in clips if clip.track in units]
    rows = [
        Row(
            label=clip.target if isinstance(clip.target, str) else None,
            tags=tuple(tag for tag in clip.target if isinstance(tag, str)),  # ty: ignore[not-iterable]
            unit=clip.track,
            group=units[clip.track],
        )
        for clip in used
    ]
    dealt = _dealt_by_group(where, rows, asked=True) or []
    return {clip.track: split for clip, split in zip(used, dealt, strict=True)}


def _stated(where: str, rows: Sequence[Row], valid: float | None) -> list[Split]:
    """Return the splits of the data, with validation taken out of training if that is asked for."""
    splits = [row.split or "train" for row in rows]
    if valid and "valid" in splits:
        raise MarbleError(f"{where} has a validation split of its own: leave out split.valid.")
    if valid:
        dealt = balanced_splits(_strata([row for row in rows if row.split == "train"]), {"train": 1 - valid, "valid": valid})
        splits = [dealt[row.whole] if row.split == "train" else split for row, split in zip(rows, splits, strict=True)]
    missing = [split for split in SPLITS if split not in splits]
    if missing:
        counts = ", ".join(f"{splits.count(split)} {split}" for split in SPLITS if split in splits)
        offer = "" if valid or missing != ["valid"] else ", or take a fifth of the training clips with --set split.valid=0.2"
        raise MarbleError(f"{where} has no {' and no '.join(missing)} split ({counts}): add one{offer}.")
    pairs = {(row.group, split == "train") for row, split in zip(rows, splits, strict=True) if row.group}
    crossing = sorted(group for group, trained in pairs if trained and (group, False) in pairs)
    if crossing:
        number, first = len(crossing), crossing[0]
        warnings.warn(f"{where}: {number} groups stand in train and in another split, first '{first}'", stacklevel=2)
    return splits


def _dealt_by_group(where: str, rows: Sequence[Row], *, asked: bool) -> list[Split] | None:
    """Return splits of whole groups; None where nobody asked for groups and some label is not in all splits."""
    strata = _strata(rows)
    dealt = balanced_splits(strata, _SHARES)
    splits = [dealt[row.whole] for row in rows]
    present = {(row.label, split) for row, split in zip(rows, splits, strict=True)}
    if not asked and len(present) < len(SPLITS) * len({row.label for row in rows}):
        warnings.warn(
            f"{where}: artists are not kept in one split, since a label has too few of them; --group artist keeps them anyway",
            stacklevel=3,
        )
        return None
    if not asked:
        warnings.warn(f"{where}: {len({row.group for row in rows})} artists are kept in one split each", stacklevel=3)
    if len(strata) < len(SPLITS):
        raise MarbleError(f"{where} has {len(strata)} groups where each of three splits needs one: group otherwise.")
    if not any((label, "test") in present for label, split in present if split == "train"):
        raise MarbleError(
            f"The groups of {where} leave no label that is both trained and tested, as each holds one label: group otherwise."
        )
    return splits


def _strata(rows: Sequence[Row]) -> dict[str, Counter[str]]:
    """Return the number of clips of each label in each unit, and of all where a clip may have several or none."""
    strata: dict[str, Counter[str]] = {}
    for row in rows:
        strata.setdefault(row.whole, Counter()).update((row.label,) if row.label is not None else (*row.tags, "every tag"))
    return strata


def groups_of_paths(rule: str, where: str, paths: Sequence[str], parents: Sequence[str]) -> list[str | None]:
    """Return the group of each file, None where it has none; warn of these.

    Args:
        rule: ``parent`` or ``regex:PATTERN``.
        where: the data, in words.
        paths: as the user writes them.
        parents: the name of the folder of each, empty where it says nothing.

    Raises:
        MarbleError: the pattern is wrong, or no file has a group.
    """
    if rule == "parent":
        groups = [parent or None for parent in parents]
    else:
        try:
            pattern = re.compile(rule.removeprefix("regex:"))
        except re.error as error:
            raise MarbleError(f"--group {rule} is no regular expression ({error}): mend it.") from error
        matches = [pattern.search(path) for path in paths]
        groups = [match[1 if pattern.groups else 0] if match else None for match in matches]
    alone = groups.count(None)
    if alone == len(groups):
        raise MarbleError(f"--group {rule} finds no group in {where}, such as in '{paths[0]}': group otherwise.")
    if alone:
        first = paths[groups.index(None)]
        warnings.warn(f"{where}: --group {rule} finds none for {alone} of {len(groups)} files, first '{first}'", stacklevel=2)
    return groups
