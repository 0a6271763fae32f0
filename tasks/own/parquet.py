"""Read Parquet whose size in memory is known before the memory is taken, in the calling thread alone.

A folder of Parquet files is one table. Where the name of each file, or else of its folders, holds one split
(``train-00000-of-00001.parquet``, ``test/0.parquet``), as in datasets of the Hugging Face hub, that is the split of its rows.
Class labels that a dataset of the hub stores as numbers are read by their names.

Equal values are stored once, so 25 kB of Parquet may hold five terabytes of text. What the footer does not tell is counted in
pieces, with text as the numbers of its different values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet as pq

from marble.task import Split
from marble.tasks.own.columns import meaning
from marble.tasks.splits import split_in

_PIECE = 65_536  # rows
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def read_parquet(file: Path) -> pandas.DataFrame:
    """Return the table in a Parquet file, or in a folder of them.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    if file.is_file():
        return _read_file(file)
    parts = [part.relative_to(file) for part in sorted(file.rglob("*.parquet"))]
    if not parts or any("=" in folder for folder in parts[0].parent.parts):  # a column in the names of folders
        return pandas.read_parquet(file, use_threads=False, pre_buffer=False)
    splits = [_split_in(part) for part in parts]
    stated = None not in splits and len(set(splits)) > 1
    tables = [_read_file(file / part) for part in parts]
    if stated and not any(meaning(str(name)) == "split" for table in tables for name in table.columns):
        tables = [table.assign(split=split) for table, split in zip(tables, splits, strict=True)]
    return pandas.concat(tables, ignore_index=True)


def _read_file(file: Path) -> pandas.DataFrame:
    # Arrow waits for ever for threads of its own that a limit keeps from starting.
    content = pq.ParquetFile(file)
    rows = content.read(use_threads=False).to_pandas(use_threads=False)
    about = json.loads((content.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    for column, feature in about.get("info", {}).get("features", {}).items():
        names = feature.get("names") or feature.get("feature", {}).get("names")
        if names and column in rows:
            rows[column] = [_named(value, names) for value in rows[column]]
    return rows


def _named(value: Any, names: list[str]) -> Any:
    """Return the name of a class, or of each in a list; None for a number without one, as where a label is missing."""
    if numpy.ndim(value):
        return [_named(number, names) for number in value]
    return names[int(value)] if value in range(len(names)) else None


def _split_in(path: Path) -> Split | None:
    """Return the one split that the name of a file holds, or else a folder of it."""
    return next(filter(None, map(split_in, (path.stem, *reversed(path.parent.parts)))), None)


def parquet_size(file: Path, most_rows: int, most_bytes: int) -> tuple[int, int]:
    """Return the rows of a Parquet file, or of a folder of them, and the bytes that their values need.

    What exceeds one of the limits is not counted to its end. Errors as `read_parquet`.
    """
    rows, stored, size = 0, 0, 0
    for part in [file] if file.is_file() else sorted(file.rglob("*.parquet")):
        footer = pq.read_metadata(part)
        groups = map(footer.row_group, range(footer.num_row_groups))
        chunks = [
            (footer.schema.column(number), group.column(number)) for group in groups for number in range(group.num_columns)
        ]
        rows += footer.num_rows
        stored += sum(chunk.total_uncompressed_size for _, chunk in chunks)
        size += sum(chunk.num_values * _WIDTHS.get(column.physical_type, max(0, column.length)) for column, chunk in chunks)
        text = [(column, chunk) for column, chunk in chunks if column.physical_type == "BYTE_ARRAY"]
        pieces = _text_bytes(part, text, most_bytes) if stored <= most_bytes and rows <= most_rows else iter(())
        while size <= most_bytes and (piece := next(pieces, None)) is not None:
            size += piece
    return rows, max(stored, size)


def _text_bytes(part: Path, text: list[tuple[pq.ColumnSchema, pq.ColumnChunkMetaData]], most: int) -> Iterator[int]:
    """Yield the bytes of columns of text, piece by piece."""
    paths = {column.path for column, _ in text}
    # Others are read as they are, in pieces that are small even if each value were as long as all that is stored.
    plain = {column.path: chunk.total_uncompressed_size for column, chunk in text if not _is_numbered(column, chunk)}
    for columns, rows in ((paths - set(plain), _PIECE), (set(plain), most // 8 // max(plain.values(), default=1))):
        if columns:
            with pq.ParquetFile(part, read_dictionary=list(paths - set(plain))) as content:
                for piece in content.iter_batches(max(1, min(rows, _PIECE)), columns=list(columns), use_threads=False):
                    yield sum(map(_bytes, piece.columns))


def _is_numbered(column: pq.ColumnSchema, chunk: pq.ColumnChunkMetaData) -> bool:
    """Tell whether Arrow reads a column as numbers of its values: text alone, in no list, without shared beginnings."""
    return column.path == column.name and column.logical_type.type == "STRING" and "DELTA_BYTE_ARRAY" not in chunk.encodings


def _bytes(array: pyarrow.Array) -> int:
    """Return the bytes of the values of a column."""
    if isinstance(array, pyarrow.DictionaryArray):
        lengths = pc.call_function("binary_length", [array.dictionary])
        return pc.call_function("sum", [lengths.take(array.indices)]).as_py() or 0
    if isinstance(array, pyarrow.MapArray):
        return _bytes(array.keys) + _bytes(array.items)
    if pyarrow.types.is_nested(array.type):
        inner = array.flatten()
        return sum(map(_bytes, inner if isinstance(inner, list) else [inner]))
    return array.nbytes
