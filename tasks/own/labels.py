"""The targets in a user's table: classes, tags or numbers.

Classes
    The text of ``label`` without spaces at its ends.
Tags
    ``labels`` is a list, or text. Text is split at semicolons where a cell of the column has one, else at vertical bars. Where
    there is neither, commas separate tags if most of what they separate stands in other cells, too; else the table is refused,
    since a tag may hold a comma. A column whose cells are all lists written as text, ``[rock, 'loud']``, is one of lists.
Numbers
    ``target``, or one column ``target.NAME`` for each.
Near labels
    Labels that differ only in case, spaces or Unicode form, and those that are others joined, are labels of their own, and
    named in a note.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from marble.errors import MarbleError
from marble.kinds import Target
from marble.tasks.own.columns import listed, meaning
from marble.tasks.own.table_file import Table

_ITEM = r"""(?:\s*'([^']*)'\s*|\s*"([^"]*)"\s*|([^'",]*))"""
_LIST = re.compile(rf"{_ITEM}(?:,{_ITEM})*")
_JOINS = re.compile(r"\s*[,;|/+&]\s*")
_SHOWN = 3


class Targets(NamedTuple):
    """The targets of a table: the kind of task, the target of each row, the labels, and what a user should know of them."""

    kind: str
    values: list[Target]
    labels: tuple[str, ...]
    notes: list[str]


def read_targets(table: Table) -> Targets:
    """Return the targets of a table.

    Raises:
        MarbleError: there is not exactly one kind of target, or a target is missing or cannot be read.
    """
    numbers = [name for name in table.rows.columns if name.partition(".")[0] == "target"]
    kinds = [name for name in ("label", "labels") if name in table.rows.columns] + ["target"] * bool(numbers)
    if kinds == ["label"]:
        return _classes(table)
    if kinds == ["labels"]:
        return _tags(table)
    if kinds == ["target"]:
        return _numbers(table, numbers)
    unread = table.columns.unread
    advice = (
        f" (of {listed(unread)}, call one label, or target if it holds numbers to predict, or write tags joined by ; into one "
        "column labels)"
    ) * bool(unread)
    raise MarbleError(
        f"The table {table.name} needs one of the columns label, labels and target; it has "
        f"{', '.join(kinds) or f'none{advice}'}."
    )


def near_labels(labels: Iterable[str]) -> list[str]:
    """Return a note on labels that a reader would take for one, if there are any."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        letters = "".join(letter for letter in unicodedata.normalize("NFKC", label) if unicodedata.category(letter) != "Cf")
        alike.setdefault(" ".join(letters.casefold().split()), []).append(label)
    near = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if not near:
        return []
    several = ", ".join(near[:_SHOWN]) + " …" * (len(near) > _SHOWN)
    return [f"labels that differ only in case, spaces or Unicode form are labels of their own: {several}"]


def _joined(labels: Sequence[str]) -> list[str]:
    """Return a note on labels that look like others of them, joined."""
    joined = [label for label in labels if len(parts := _JOINS.split(label)) > 1 and not set(labels).isdisjoint(parts)]
    several = ", ".join(map(repr, joined[:_SHOWN])) + " …" * (len(joined) > _SHOWN)
    return [f"labels that hold others are labels of their own: {several}; for tags, write ; between them"] * bool(joined)


def _fractions(labels: Sequence[str]) -> list[str]:
    """Return a note where classes are numbers with digits after the point."""
    numbers = [label for label in labels if re.fullmatch(r"[+-]?\d*[.]\d+", label)]
    fractions = len(numbers) == len(labels) and any(float(label) % 1 for label in labels)
    return ["label holds numbers, each of which is a class; to predict them, call the column target"] * fractions


def _classes(table: Table) -> Targets:
    column = table.rows["label"]
    classes = ["" if missing else str(label).strip() for label, missing in zip(column, column.isna(), strict=True)]
    if "" in classes:
        raise MarbleError(f"The table {table.name} has no label in row {classes.index('') + 1}: fill it in.")
    if len(set(classes)) < 2:
        raise MarbleError(f"The table {table.name} has one class, '{classes[0]}': a task needs at least two.")
    labels = tuple(sorted(set(classes)))
    if lists := [label for label in labels if label.startswith(("['", '["'))]:
        raise MarbleError(f"The table {table.name} has the label {lists[0]}, a list: call the column labels, of tags.")
    return Targets("multiclass", list(classes), labels, near_labels(labels) + _joined(labels) + _fractions(labels))


def _numbers(table: Table, names: Sequence[str]) -> Targets:
    try:
        values = table.rows[list(names)].astype(float)
    except (TypeError, ValueError) as error:
        raise MarbleError(
            f"The table {table.name} has a target that is no number ({error}): write one number with a point, or several in "
            "columns target.NAME."
        ) from error
    missing = values.isna().any(axis=1).to_numpy()
    if missing.any():
        raise MarbleError(f"The table {table.name} has no target in row {int(missing.argmax()) + 1}: write a number.")
    if (values.nunique() == 1).all():
        raise MarbleError(f"The table {table.name} has one target in all rows: there is nothing to predict.")
    labels = tuple(name.removeprefix("target.") for name in names)
    classes = [name for name in table.columns.unread if meaning(name) in ("label", "labels")]
    notes = [f"target is a number to predict; for the classes in '{classes[0]}', call that label"] if classes else []
    return Targets("regression", [tuple(map(float, row)) for row in values.to_numpy()], labels, notes)


def _tags(table: Table) -> Targets:
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in table.rows["labels"]]
    texts = sorted({cell for cell in cells if isinstance(cell, str) and cell})
    separator = None
    if texts and any({text[0] + text[-1] for text in texts} == {brackets} for brackets in ("[]", "()", "{}")):
        parts = {text: _items(table.name, text) for text in texts}
    else:
        separator = _separator(table.name, texts)
        parts = {text: text.split(separator) if separator else [text] for text in texts}
    rows = [_clean(parts.get(cell) if isinstance(cell, str) else cell) for cell in cells]
    labels = tuple(sorted({tag for row in rows for tag in row}))
    if not labels:
        raise MarbleError(f"The table {table.name} has no tag in its column labels: fill it in.")
    notes = [f"tags are separated by '{separator}'"] if separator in ("|", ",") else []
    notes += ["no row has more than one tag; where several are meant, write ; between them"] if max(map(len, rows)) == 1 else []
    return Targets("multilabel", list(rows), labels, notes + near_labels(labels) + _joined(labels))


def _clean(parts: Any) -> tuple[str, ...]:
    """Return the tags of one row, sorted; what is no list has none."""
    return tuple(sorted({str(part).strip() for part in parts} - {""})) if isinstance(parts, Iterable) else ()


def _items(where: str, text: str) -> list[str]:
    """Return the items of a list that is written as text."""
    if not _LIST.fullmatch(text[1:-1]):
        raise MarbleError(f"The table {where} has the tags {text}, a list that marble cannot read: separate them by ; alone.")
    return ["".join(item) for item in re.findall(_ITEM, text[1:-1])]


def _separator(where: str, texts: Sequence[str]) -> str | None:
    """Return what separates the tags in the distinct cells of a column, None where each is one tag."""
    if quoted := [text for text in texts if text.startswith(("['", '["'))]:
        raise MarbleError(
            f"The table {where} has the tags {quoted[0]}, a list among others that are none: separate them by ; alone."
        )
    for separator in ";|":
        if any(separator in text for text in texts):
            return separator
    joined = [text for text in texts if "," in text]
    cells_with = Counter(part for text in texts for part in {part.strip() for part in text.split(",")} - {""})
    parts = {part.strip() for text in joined for part in text.split(",")} - {""}
    if not joined:
        return None
    if 2 * sum(cells_with[part] > 1 for part in parts) > len(parts):
        return ","
    raise MarbleError(
        f"The table {where} has tags with commas, '{joined[0]}' for one, where a comma may separate tags or belong to one: "
        "write ; between tags, and one after a tag that holds a comma."
    )
