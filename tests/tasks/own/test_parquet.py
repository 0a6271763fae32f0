"""Parquet files: those that hold far more than they are long are refused unread, and a folder of them is one table."""

import json
import shutil

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from marble.errors import MarbleError
from marble.registry import load_task
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


def hub_rows(numbers, **columns):
    audio = [{"bytes": None, "path": f"{number}.wav"} for number in numbers]
    return pyarrow.table({"audio": audio, **columns})


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"),
        ("music.train", "music.dev", "music.eval"),
        ("TRAIN_0", "Val_0", "Testing_0"),
        ("train/0000", "valid/0000", "test/0000"),
        ("default/train/partial-0", "default/validation/partial-0", "default/test/partial-0"),
    ],
)
def test_a_folder_of_parquet_files_is_one_table_with_the_splits_of_their_names(audio, names):
    for name, first in zip(names, (0, 4, 8), strict=True):
        file = audio / "data" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(hub_rows(range(first, first + 4), genre=["ska", "polka"] * 2), file)
    (audio / "README.md").write_text("about")
    with pytest.warns(UserWarning, match="'audio' is read as path, 'genre' is read as label"):
        task = load_task(f"table:{audio}")
    clips = task.read(audio)
    assert task.name == f"table:{audio.name}"
    expected = {f"{number}.wav": ("train", "valid", "test")[number // 4] for number in range(12)}
    assert {clip.path.name: clip.split for clip in clips} == expected


@pytest.mark.parametrize("names", [("train-0", "train-1", "train-2"), ("a", "b", "c"), ("train-test", "valid", "test")])
def test_files_that_do_not_name_several_splits_state_none(audio, names):
    for number, name in enumerate(names):
        parquet.write_table(hub_rows(range(4 * number, 4 * number + 4), label=list("abab")), audio / f"{name}.parquet")
    rows = table_file.read_table(audio).rows
    assert list(rows.columns) == ["path", "label"]
    assert len(rows) == 12


def test_the_split_of_a_row_counts_before_that_of_its_file(audio):
    for number, name in enumerate(("train", "test")):
        rows = hub_rows(range(6 * number, 6 * number + 6), label=list("ab") * 3, Split=["train", "valid", "test"] * 2)
        parquet.write_table(rows, audio / f"{name}.parquet")
    assert list(table_file.read_table(audio).rows["split"]) == ["train", "valid", "test"] * 4


def test_class_labels_of_the_hub_are_read_by_their_names(audio):
    names = {"names": ["ska", "polka"], "_type": "ClassLabel"}
    features = {"path": {"dtype": "string", "_type": "Value"}, "label": names, "labels": {"feature": names, "_type": "List"}}
    columns = {"path": ["0.wav", "1.wav", "2.wav"], "label": [1, 0, -1], "labels": [[0, 1], [], [1]]}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), audio / "t.parquet")
    rows = table_file.read_table(audio / "t.parquet").rows
    assert rows["label"].dropna().tolist() == ["polka", "ska"]
    assert rows["labels"].tolist() == [["ska", "polka"], [], ["polka"]]


@pytest.mark.parametrize("about", ["[" * 100_000, "[]", '{"info": {"features": {"label": 5}}}', "{"])
def test_damaged_words_of_the_hub_about_its_columns_are_one_sentence(audio, about):
    rows = pyarrow.table({"path": ["0.wav"], "label": ["a"]}).replace_schema_metadata({"huggingface": about})
    parquet.write_table(rows, audio / "t.parquet")
    with pytest.raises(MarbleError, match=r"The table .*t\.parquet (is damaged|cannot be read)"):
        table_file.read_table(audio / "t.parquet")


def test_a_folder_without_a_table_is_one_sentence(audio):
    with pytest.raises(MarbleError, match=r"no table that marble reads: give a .* file, or a folder of Parquet files"):
        table_file.read_table(audio)


def test_a_column_in_the_names_of_folders_is_read(audio):
    for label, first in (("ska", 0), ("polka", 6)):
        (audio / f"parts.parquet/label={label}").mkdir(parents=True)
        paths = {"path": [f"{number}.wav" for number in range(first, first + 6)]}
        parquet.write_table(pyarrow.table(paths), audio / f"parts.parquet/label={label}/0.parquet")
    clips = load_task(f"table:{audio}/parts.parquet").read(audio)
    assert {clip.target for clip in clips if clip.path.stem in "012345"} == {"ska"}
    assert len(clips) == 12
