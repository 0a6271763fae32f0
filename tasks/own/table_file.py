"""Read the user's tables: from CSV, TSV, Parquet and JSON files, or from a DataFrame.

Text
    UTF-8, or UTF-16 with its mark. Fields are separated by what the header is separated by: commas, semicolons, tabs or
    vertical bars. All cells are text as written: "01" is not "1", and a label may be called "None"; an empty cell is missing.
    Empty rows, and empty fields after the last column, are left out; any other field without a column is an error.
JSON
    An object a line, one array of objects, or an object of columns.
Columns
    Near-misses of known columns are read as these; see `marble.tasks.own.columns`. Where semicolons separate fields, a number
    may have a decimal comma.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import pyarrow

from marble.audio.decode import is_audio_name
from marble.errors import MarbleError
from marble.tasks.own.columns import TARGETS, Columns, listed, meaning, read_columns
from marble.tasks.own.parquet import parquet_size, read_parquet

# A table of more is a mistake or a bomb: 560 kB of Parquet hold 100 million equal rows, 4 GB once they are read.
MOST_ROWS = 10_000_000
MOST_BYTES = 2**30
_NUMBERS = ("start", "stop", "duration", "score", "target")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Table(NamedTuple):
    """A table of the user.

    Attributes:
        name: the path of its file, or what it is.
        folder: that its paths are relative to.
        rows: the columns that are read, under marble's names; each row has a path.
        columns: what all its columns are read as.
    """

    name: str
    folder: Path
    rows: pandas.DataFrame
    columns: Columns


def read_table(file: Path, targets: Sequence[str] = TARGETS, extra: str | None = None) -> Table:
    """Return the table in a file.

    Args:
        file: CSV, TSV, Parquet, JSON or JSONL; or a folder of Parquet files, which paths are then relative to.
        targets: the known columns that hold the target.
        extra: name of one more column to read.

    Raises:
        MarbleError: the file cannot be read as a table, is too large for one, a path is missing, or two columns may be meant by
            one known name.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None and file.is_dir() and next(file.rglob("*.parquet"), None):
        reader = read_parquet
    if reader is None:
        raise MarbleError(
            f"table:{file} is no table that marble reads: give a {', '.join(READERS)} file, or a folder of Parquet files."
        )
    path = file.absolute()
    try:
        _refuse_size(file)
        rows = reader(file)
    except UnicodeError as error:
        raise MarbleError(f"The table {path} is not UTF-8 text: save it as UTF-8, in Excel as 'CSV UTF-8'.") from error
    except (OSError, ValueError, csv.Error, pyarrow.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0].rstrip(".")
        raise MarbleError(f"The table {path} cannot be read ({reason}): check its path and its format.") from error
    except (
        LookupError,
        TypeError,
        AttributeError,
        NotImplementedError,
        RecursionError,
    ) as error:  # damaged metadata of Parquet
        raise MarbleError(f"The table {path} is damaged: write it again.") from error
    folder = file if file.suffix.lower() not in READERS else file.parent
    return table_of(str(file), folder, rows, targets, extra)


def table_of(
    name: str, folder: Path, rows: pandas.DataFrame, targets: Sequence[str] = TARGETS, extra: str | None = None
) -> Table:
    """Return rows as a table; arguments and errors as those of `Table` and `read_table`."""
    if rows.index.names != [None] and not set(rows.index.names) & set(rows.columns):
        rows = rows.reset_index()
    known, columns = read_columns(name, rows, targets, extra)
    if "path" not in known or not len(known):
        raise MarbleError(f"The table {name} needs rows with a 'path' in each; {_about_header(columns.names)}.")
    if known["path"].isna().any():
        raise MarbleError(
            f"The table {name} has no path in row {int(known['path'].isna().to_numpy().argmax()) + 1}: fill it in."
        )
    return Table(name, folder, known.reset_index(drop=True), columns)


def _about_header(names: list[str]) -> str:
    """Return what is wrong with a header that names no path, in words."""
    if names and names[0].lstrip().startswith(("#", "sep=")):
        return f"it begins with the line '{names[0]}', which must go"
    if any(map(is_audio_name, names)):
        return f"its first line is '{', '.join(names[:5])}', where the names of the columns must stand, such as path,label"
    if "path" in map(meaning, names) or not names:
        return "it is empty"
    return f"its column{'s are' if len(names) > 1 else ' is'} {listed(names)}"


def _with_point(value: object) -> object:
    return re.sub(r"^(\s*[+-]?\d*),(\d+\s*)$", r"\1.\2", value) if isinstance(value, str) else value


def _read_text(file: Path, separator: str) -> pandas.DataFrame:
    """Return a table of text; `separator` counts unless the names of its columns are separated otherwise."""
    with file.open("rb") as content:
        encoding = "utf-16" if content.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    header, separator = _header(file, encoding, separator)
    if "path" not in map(meaning, header):
        return pandas.DataFrame(columns=header)
    cells, width = None, len(header) + 1
    while cells is None:
        try:
            cells = pandas.read_csv(
                file, sep=separator, encoding=encoding, header=None, names=range(width),
                dtype=str, keep_default_na=False, na_values=[""],
            )  # fmt: skip
        except pandas.errors.ParserError as error:
            more = re.search(r"Expected \d+ fields in line (\d+), saw (\d+)", str(error))
            if not more or width > len(header) + 1:
                raise _more_fields(f"line {more[1]}", separator) if more else error from error
            width = int(more[2])
    rows = cells.iloc[1:]
    filled = rows.map(lambda cell: not isinstance(cell, str) or bool(cell.strip()))
    rows = rows.where(filled, None).dropna(how="all").reset_index(drop=True)
    surplus = rows.iloc[:, len(header) :].notna().any(axis=1)
    if surplus.any():
        raise _more_fields(f"row {int(surplus.to_numpy().argmax()) + 1}", separator)
    used = [number for number, name in enumerate(header) if name.strip() or rows[number].notna().any()]
    names = [header[number].strip() or f"column {number + 1}" for number in used]
    rows = rows[used].set_axis(names, axis=1)
    if separator == ";":
        for number, name in enumerate(names):
            if (meaning(name) or "").partition(".")[0] in _NUMBERS:
                rows.isetitem(number, rows.iloc[:, number].map(_with_point))
    return rows


def _header(file: Path, encoding: str, separator: str) -> tuple[list[str], str]:
    """Return the names of the columns of a text, and what separates them: the first that leaves a column of paths."""
    first: list[str] = []
    for candidate in dict.fromkeys([separator, *_SEPARATORS]):
        with file.open(encoding=encoding, newline="") as text:
            names = next((row for row in csv.reader(text, delimiter=candidate) if any(map(str.strip, row))), [])
        if any("\0" in name for name in names):
            raise UnicodeError
        if "path" in map(meaning, names):
            return names, candidate
        first = first or names
    return first, separator


def _more_fields(where: str, separator: str) -> ValueError:
    return ValueError(f"{where} has more fields than the header; quote what holds {_SEPARATORS[separator]}")


def _read_json(file: Path) -> pandas.DataFrame:
    options: dict[str, Any] = {"dtype": False, "encoding": "utf-8-sig"}
    with file.open("rb") as content:
        lines = content.read(64).lstrip(codecs.BOM_UTF8 + b" \r\n\t")[:1] != b"["
    rows = pandas.read_json(file, lines=lines, **options)
    if len(rows) == 1 and all(isinstance(value, dict | list) for value in rows.iloc[0]):
        rows = pandas.read_json(file, **options)
    return rows


READERS: dict[str, Callable[[Path], pandas.DataFrame]] = {
    ".csv": lambda file: _read_text(file, ","),
    ".tsv": lambda file: _read_text(file, "\t"),
    ".parquet": read_parquet,
    ".jsonl": _read_json,
    ".json": _read_json,
}


def _refuse_size(file: Path) -> None:
    """Refuse a table that is too large, before it is read."""
    if file.suffix.lower() == ".parquet" or file.is_dir():
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
