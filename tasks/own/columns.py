"""The meaning of the columns of a user's table.

Known columns
    ``path``; ``label``, ``labels``, ``target`` or ``target.NAME``; ``id``, ``start``, ``stop``, ``duration``, ``group``,
    ``artist``, ``split``.
Near-misses
    A name in other case, or with spaces or hyphens in place of underscores, is the known one (``Split``, `` label``). A synonym
    (``filename``, ``genre``, ``end``, ``subset``) stands for a known column that is absent, where it is the only one and its
    values fit: those of a split must be splits, those of an id distinct. A column of splits alone is the split whatever its
    name. ``duration`` counts where there is a ``start`` and no ``stop``; ``offset`` is the stop of an ``onset``, and the start
    of a ``duration``. What is read under another name, and what is not read, is said (`Columns.notes`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import pandas

from marble.errors import MarbleError
from marble.tasks.splits import ALIASES

TARGETS = ("label", "labels", "target")
_OTHERS = ("path", "id", "start", "stop", "duration", "group", "artist", "split")
_KNOWN = re.compile(rf"{'|'.join((*TARGETS, *_OTHERS, 'score'))}|target\..*")
_SYNONYMS = {
    "path": "file filename filepath file_name file_path fname audio audio_file audio_path audio_filename audio_filepath "
    "wav wav_file wav_path slice_file_name",
    "label": "class class_name category genre",
    "labels": "tags classes categories genres",
    "start": "begin onset start_time start_s start_sec start_seconds",
    "stop": "end stop_time stop_s stop_sec stop_seconds end_time end_s end_sec end_seconds",
    "duration": "duration_s duration_sec duration_seconds",
    "artist": "artist_id artist_name performer singer singer_id speaker speaker_id",
    "split": "subset partition set",
}
_MEANING = {synonym: field for field, synonyms in _SYNONYMS.items() for synonym in synonyms.split()}
_DIMENSION = re.compile(r"\s*target\.(.*\S)\s*", re.IGNORECASE)
_SHOWN = 20


class Columns(NamedTuple):
    """The columns of a table, as they are read.

    Attributes:
        names: of the columns, as the table has them.
        fields: the known column that each is read as; None for one that is not read.
    """

    names: list[str]
    fields: list[str | None]

    @property
    def unread(self) -> list[str]:
        """The names of the columns that are not read."""
        return [name for name, field in zip(self.names, self.fields, strict=True) if field is None]

    @property
    def notes(self) -> list[str]:
        """The columns that are read under another name, or not read, in words."""
        both = [(name, field) for name, field in zip(self.names, self.fields, strict=True) if field not in (None, name)]
        renamed = ", ".join(f"'{name}' is read as {field}" for name, field in both)
        return [renamed] * bool(both) + [f"not read: {listed(self.unread)}"] * bool(self.unread)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words, of which the first ones are enough."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more


def meaning(name: str) -> str | None:
    """Return the known column that a name stands for, exactly, nearly or as a synonym."""
    plain = _plain(name)
    return plain if _KNOWN.fullmatch(plain) else _MEANING.get(plain)


def read_columns(
    where: str, rows: pandas.DataFrame, targets: Sequence[str] = TARGETS, extra: str | None = None
) -> tuple[pandas.DataFrame, Columns]:
    """Return the columns of a table that are read, under marble's names, and what all its columns are read as.

    Args:
        where: the name of the table.
        rows: its rows.
        targets: the known columns that hold the target.
        extra: name of one more column to read.

    Raises:
        MarbleError: two columns may be meant by one known name.
    """
    names = [str(name) for name in rows.columns]
    plain = [_plain(name) for name in names]
    read: dict[int, str] = {}
    for field in dict.fromkeys([*targets, *_OTHERS, *filter(None, [extra])]):
        near = [number for number, name in enumerate(plain) if name == _plain(field)]
        exact = [number for number in near if names[number] == field]
        if field == "id" and not exact:
            near = [number for number in near if rows.iloc[:, number].notna().all() and rows.iloc[:, number].is_unique]
        _take(where, names, read, field, exact or near)
    if "target" in targets:
        read |= {number: f"target.{name[1]}" for number, text in enumerate(names) if (name := _DIMENSION.fullmatch(text))}
    if not any(field.partition(".")[0] in targets for field in read.values()):
        meant = [number for number, name in enumerate(plain) if _MEANING.get(name) in targets and number not in read]
        _take(where, names, read, _MEANING[plain[meant[0]]] if len(meant) == 1 else " or ".join(targets), meant)
    for field in _OTHERS:
        if field not in read.values():
            meant = [number for number, name in enumerate(plain) if _MEANING.get(name) == field and number not in read]
            if field == "split":
                splits = [number for number in range(len(names)) if number not in read and _are_splits(rows.iloc[:, number])]
                meant = [number for number in meant if number in splits] or splits
            if field in ("start", "stop"):
                meant = meant or [number for number, name in enumerate(plain) if name == "offset" and field == _offset(plain)]
            if field == "path" or len(meant) == 1:
                _take(where, names, read, field, meant)
    fields = set(read.values())
    if "start" not in fields or "stop" in fields:
        read = {number: field for number, field in read.items() if field != "duration"}
    used = sorted(read)
    columns = Columns(names, [read.get(number) for number in range(len(names))])
    return rows.iloc[:, used].set_axis([read[number] for number in used], axis=1), columns


def _take(where: str, names: Sequence[str], read: dict[int, str], field: str, numbers: Sequence[int]) -> None:
    """Note that a column is read as a known one, which only one of these can be."""
    if len(numbers) > 1:
        several = " and ".join(f"'{names[number]}'" for number in numbers)
        raise MarbleError(f"The table {where} has the columns {several}, where one can be {field}: rename those that are not.")
    read.update(dict.fromkeys(numbers, field))


def _are_splits(values: pandas.Series) -> bool:
    texts = {value.strip().lower() if isinstance(value, str) else "" for value in values}
    return texts <= set(ALIASES) and len({ALIASES[text] for text in texts}) > 1


def _offset(plain: Sequence[str]) -> str | None:
    """Return what a column called offset holds beside others."""
    return "stop" if "onset" in plain else "start" if any(_MEANING.get(name, name) == "duration" for name in plain) else None


def _plain(name: str) -> str:
    """Return a name without what people write differently: case, spaces and hyphens, forms of Unicode, unseen letters."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return re.sub(r"[\s-]+", "_", letters.strip().casefold())
