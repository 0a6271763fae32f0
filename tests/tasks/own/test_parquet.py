"""Parquet files that hold far more than they are long are refused before they are read."""

import shutil

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from marble.errors import MarbleError
from marble.tasks.own import table_file
from marble.tasks.own.parquet import parquet_size

SAME = pyarrow.DictionaryArray.from_arrays(pyarrow.array(numpy.zeros(20_000, numpy.int32)), ["x" * 5000])
PAIRS = pyarrow.array(range(0, 20_001, 2), pyarrow.int32())
BOMBS = {
    "text": {"path": SAME},
    "tags": {"labels": pyarrow.ListArray.from_arrays(PAIRS, SAME)},
    "tags in objects": {"labels": pyarrow.StructArray.from_arrays([SAME], ["tag"])},
    "beginnings": {"path": pyarrow.array(["x" * 50_000 + str(number) for number in range(2000)])},
    "numbers": {f"column {number}": numpy.zeros(10_000) for number in range(1000)},
}


@pytest.mark.parametrize("name", BOMBS)
def test_values_that_are_stored_once_are_counted_before_the_table_is_read(tmp_path, monkeypatch, name):
    """Or only their ends, where those before begin alike."""
    file = tmp_path / "t.parquet"
    delta = {"use_dictionary": False, "column_encoding": {"path": "DELTA_BYTE_ARRAY"}} if name == "beginnings" else {}
    parquet.write_table(pyarrow.table(BOMBS[name]), file, compression="zstd", **delta)
    assert file.stat().st_size < 2**20
    monkeypatch.setattr(table_file, "MOST_BYTES", 2**26)
    monkeypatch.setitem(table_file.READERS, ".parquet", lambda file: pytest.fail("it is read"))
    with pytest.raises(
        MarbleError, match=r"holds \d+,\d\d\d,\d\d\d bytes, where marble reads up to .* 67,108,864 bytes: divide"
    ):
        table_file.read_table(file)


def test_the_size_of_a_table_is_that_of_its_values(tmp_path):
    columns = {
        "path": [f"{number}.wav" for number in range(10)] * 100,
        "labels": [["rock", "loud"], ["calm"], [], None] * 250,
        "pairs": pyarrow.array([[("key", "value")]] * 1000, pyarrow.map_(pyarrow.string(), pyarrow.string())),
        "target": numpy.zeros(1000),
        "fixed": pyarrow.array([b"four"] * 1000, pyarrow.binary(4)),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=300)
    offsets = 4 * (3 * 250 + 2 * 1000)  # of text in lists
    values = 5 * 1000 + (4 + 4 + 4) * 250 + (3 + 5) * 1000 + offsets + 8 * 1000 + 4 * 1000
    assert parquet_size(tmp_path / "t.parquet", 10**4, 10**6) == (1000, values)
    (tmp_path / "parts.parquet").mkdir()
    for part in "ab":
        shutil.copy(tmp_path / "t.parquet", tmp_path / f"parts.parquet/{part}.parquet")
    assert parquet_size(tmp_path / "parts.parquet", 10**4, 10**6) == (2000, 2 * values)
