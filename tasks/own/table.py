"""``table:FILE``: any CSV, TSV, Parquet or JSONL file with paths and labels as a task.

Columns
    ``path``: audio file, relative to the table's folder or absolute. Exactly one kind of target: ``label`` (one class),
    ``labels`` (several tags: a list, or text separated by ``;``), or ``target`` / ``target.NAME`` (numbers to regress).
    Optional: ``id`` (default: the path, with the times if there are any), ``start`` and ``stop`` (seconds), ``group`` (the
    track of an excerpt), ``split`` (train, valid or test, and their usual synonyms).
Split
    The column ``split`` if there is one. Else 3:1:1 by a hash of the group, or of the file's content where there is no group,
    stratified by class for ``label``.
Metrics
    accuracy and balanced accuracy; macro ROC-AUC and average precision; R² and mean squared error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas
import pyarrow

from marble.errors import MarbleError
from marble.files import file_hashes, user_path
from marble.kinds import KINDS, Target
from marble.task import Clip, Task
from marble.tasks.own.parquet import parquet_size, read_parquet
from marble.tasks.splits import ALIASES, stratified_splits

# Text as written: "01" is not "1", and a tag may be called "None". The column decides what is a number.
_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]}
READERS = {
    ".csv": lambda path: pandas.read_csv(path, **_TEXT),
    ".tsv": lambda path: pandas.read_csv(path, sep="\t", **_TEXT),
    ".parquet": read_parquet,
    ".jsonl": lambda path: pandas.read_json(path, lines=True, dtype=False),  # ty: ignore[invalid-argument-type]
}
# A table of more is a mistake or a bomb: 560 kB of Parquet hold 100 million equal rows, 4 GB once they are read.
MOST_ROWS = 10_000_000
MOST_BYTES = 2**30


def table_task(argument: str) -> Task:
    """Return the task of a table.

    Raises:
        MarbleError: the file cannot be read as a table, or a column is missing or has a wrong value.
    """
    file = user_path(argument)
    return task_of_table(file, read_table(file))


def task_of_table(file: Path, table: pandas.DataFrame) -> Task:
    """Return the task of a table that was read from a file.

    Raises:
        MarbleError: a column is missing or has a wrong value.
    """
    kind, targets, labels = _targets(file, table)
    return Task(
        name=f"table:{file.stem}",
        version=1,
        description=f"The targets of {len(table)} clips in {file.name}.\n\n{__doc__}",
        kind=kind,
        labels=labels,
        metrics=KINDS[kind].metrics,
        clips=lambda _: _clips(file, table, targets),
        citation="the user's own data",
        licence="the user's own data",
        source=str(file.absolute()),
    )


def read_table(file: Path) -> pandas.DataFrame:
    """Return the table in a file; each row has a path.

    Raises:
        MarbleError: the file cannot be read as a table, is too large for one, or a path is missing.
    """
    if file.suffix.lower() not in READERS:
        raise MarbleError(f"table:{file} is no table that marble reads: give a {', '.join(READERS)} file.")
    try:
        _refuse_size(file)
        table = READERS[file.suffix.lower()](file)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0].rstrip(".")
        raise MarbleError(f"The table {file.absolute()} cannot be read ({reason}): check its path and its format.") from error
    except (LookupError, TypeError, AttributeError, NotImplementedError) as error:  # pandas, at damaged metadata of Parquet
        raise MarbleError(f"The table {file.absolute()} is damaged: write it again.") from error
    if "path" not in table.columns or table["path"].isna().any() or not len(table):
        raise MarbleError(
            f"The table {file} needs rows with a 'path' in each; its columns are {', '.join(map(str, table.columns))}."
        )
    return table


def _refuse_size(file: Path) -> None:
    """Refuse a table that is too large, before it is read."""
    if file.suffix.lower() == ".parquet":
        rows, size = parquet_size(file, MOST_ROWS, MOST_BYTES)
    else:
        rows, size = 0, file.stat().st_size
        if MOST_ROWS < size <= MOST_BYTES:
            with file.open("rb") as text:
                rows = sum(block.count(b"\n") for block in iter(lambda: text.read(2**20), b""))
    if rows > MOST_ROWS or size > MOST_BYTES:
        amount = f"{rows:,} rows" if rows > MOST_ROWS else f"{size:,} bytes"
        raise MarbleError(
            f"The table {file.absolute()} holds {amount}, where marble reads up to {MOST_ROWS:,} rows and "
            f"{MOST_BYTES:,} bytes: divide it."
        )


def _targets(file: Path, table: pandas.DataFrame) -> tuple[str, list[Target], tuple[str, ...]]:
    """Return the kind of task, the target of each row and the labels."""
    numbers = [name for name in map(str, table.columns) if name == "target" or name.startswith("target.")]
    kinds = [name for name in ("label", "labels") if name in table.columns] + (["target"] if numbers else [])
    if len(kinds) != 1:
        raise MarbleError(
            f"The table {file} needs one of the columns label, labels and target; it has {', '.join(kinds) or 'none'}."
        )
    if kinds == ["label"]:
        if table["label"].isna().any():
            raise MarbleError(
                f"The table {file} has no label in row {int(table['label'].isna().to_numpy().argmax()) + 1}: fill it in."
            )
        classes = [str(label) for label in table["label"]]
        if len(set(classes)) < 2:
            raise MarbleError(f"The table {file} has one class, '{classes[0]}': a task needs at least two.")
        return "multiclass", list(classes), tuple(sorted(set(classes)))
    if kinds == ["labels"]:
        tags = [_tags(value) for value in table["labels"]]
        if not any(tags):
            raise MarbleError(f"The table {file} has no tag in its column labels: fill it in.")
        return "multilabel", list(tags), tuple(sorted({tag for row in tags for tag in row}))
    try:
        values = table[numbers].astype(float).to_numpy()
    except (TypeError, ValueError) as error:
        raise MarbleError(
            f"The table {file} has a target that is no number ({error}): write one number, or several in columns target.NAME."
        ) from error
    return "regression", [tuple(map(float, row)) for row in values], tuple(name.removeprefix("target.") for name in numbers)


def _tags(value: Any) -> tuple[str, ...]:
    """Return the tags in a cell, sorted: text separated by semicolons, a list, or nothing."""
    if isinstance(value, str) and value.strip().startswith(("['", '["')):
        raise MarbleError(f"The tags {value} are a list written as text: separate them by ; without brackets and quotes.")
    parts = value.split(";") if isinstance(value, str) else value if isinstance(value, Iterable) else ()
    return tuple(sorted({str(part).strip() for part in parts if str(part).strip()}))


def _clips(file: Path, table: pandas.DataFrame, targets: list[Target]) -> list[Clip]:
    clips = []
    paths = [file.parent / user_path(str(path)) for path in table["path"]]
    rows = table.to_dict("records")
    if "id" in table.columns and table["id"].isna().any():
        raise MarbleError(f"The table {file} has no id in row {int(table['id'].isna().to_numpy().argmax()) + 1}: fill it in.")
    splits = _splits_of_column(file, rows) if "split" in table.columns else _dealt_splits(file, rows, paths, targets)
    for row, path, target, split in zip(rows, paths, targets, splits, strict=True):
        start, stop = (_seconds(file, len(clips), name, row.get(name)) for name in ("start", "stop"))
        times = "" if start is None and stop is None else f"@{start or 0:g}-{'end' if stop is None else f'{stop:g}'}"
        clips.append(
            Clip(
                id=str(row["id"]) if "id" in row else f"{row['path']}{times}",
                path=path,
                split=split,
                target=target,
                start=start or 0.0,
                stop=stop,
                group=None if pandas.isna(row.get("group")) else str(row["group"]),
            )
        )
    return clips


def _seconds(file: Path, row: int, column: str, value: Any) -> float | None:
    try:
        seconds = None if pandas.isna(value) else float(value)
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError("not finite")
        return seconds
    except (TypeError, ValueError) as error:
        raise MarbleError(f"The table {file} has the {column} '{value}' in row {row + 1}: write seconds.") from error


def _splits_of_column(file: Path, rows: list[dict]) -> list:
    for number, row in enumerate(rows):
        if str(row["split"]).strip().lower() not in ALIASES:
            raise MarbleError(
                f"The table {file} has the split '{row['split']}' in row {number + 1}: write train, valid or test."
            )
    return [ALIASES[str(row["split"]).strip().lower()] for row in rows]


def _dealt_splits(file: Path, rows: list[dict], paths: list[Path], targets: list[Target]) -> list:
    contents = file_hashes(paths)
    units = [
        str(contents[path]) if pandas.isna(row.get("group")) else f"group {row['group']}"
        for row, path in zip(rows, paths, strict=True)
    ]
    strata = [target if isinstance(target, str) else "the table" for target in targets]
    splits = stratified_splits(dict(zip(reversed(units), reversed(strata), strict=True)), str(file))
    return [splits[unit] for unit in units]
