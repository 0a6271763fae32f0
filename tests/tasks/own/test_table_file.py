"""Tables as programs write them: whatever separates and encodes them, the same rows are read, or one sentence says why not."""

import codecs
import csv
import io
import json

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks.own import table_file
from marble.tasks.own.table_file import read_table

# Text of cells: nothing that programs drop or that ends a line of a table.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
ENCODINGS = {"utf-8": b"", "utf-8-sig": b"", "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def written(rows, separator=",", encoding="utf-8", trailing=0, line="\n", quoting=csv.QUOTE_MINIMAL):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=separator * trailing + line, quoting=quoting).writerows(rows)
    return ENCODINGS[encoding] + text.getvalue().encode(encoding)


@settings(max_examples=40)
@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    trailing=st.integers(0, 3),
    line=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    suffix=st.sampled_from(["csv", "tsv", "CSV"]),
)
def test_the_same_rows_are_read_however_they_are_written(tmp_path_factory, cells, suffix, trailing, **how):
    file = tmp_path_factory.getbasetemp() / f"written.{suffix}"
    for header in (0, trailing):
        head, body = written([("path", "label")], trailing=header, **how), written(cells, trailing=trailing, **how)
        file.write_bytes(head + body.removeprefix(ENCODINGS[how["encoding"]] or codecs.BOM_UTF8))
        table = read_table(file)
        assert list(table.rows["path"]) == [path for path, _ in cells]
        assert list(table.rows["label"]) == [label for _, label in cells]
        assert table.columns.notes == []


def test_a_decimal_comma_counts_where_semicolons_separate(audio):
    lines = ["path;target;Begin", *(f"{number}.wav;-{number},5;0,25" for number in range(12))]
    (audio / "t.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="'Begin' is read as start"):
        clips = load_task(f"table:{audio}/t.csv").clips(audio)
    assert [(clip.target, clip.start) for clip in clips[:2]] == [((-0.5,), 0.25), ((-1.5,), 0.25)]
    (audio / "t.csv").write_text('path,target\n0.wav,"0,5"\n')
    with pytest.raises(MarbleError, match=r"has a target that is no number .*'0,5'.*: write one number with a point"):
        load_task(f"table:{audio}/t.csv")
    (audio / "t.csv").write_text("path;label\n0.wav;1,5\n1.wav;2\n")
    assert load_task(f"table:{audio}/t.csv").labels == ("1,5", "2")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"path": "a.wav", "label": "x"}, {"path": "b.wav", "label": "y"}], indent=1),
        '{"path": "a.wav", "label": "x"}\n\n{"path": "b.wav", "label": "y"}\n',
        json.dumps({"path": ["a.wav", "b.wav"], "label": ["x", "y"]}),
        json.dumps({"path": {"0": "a.wav", "1": "b.wav"}, "label": {"0": "x", "1": "y"}}),
        '\ufeff[{"path": "a.wav", "label": "x"}, {"path": "b.wav", "label": "y"}]',
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_of_every_shape(tmp_path, text, suffix):
    file = tmp_path / f"t.{suffix}"
    file.write_text(text, encoding="utf-8")
    assert read_table(file).rows.to_dict("list") == {"path": ["a.wav", "b.wav"], "label": ["x", "y"]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("path,label\na.wav,caf\xe9\n".encode("latin-1"), r"t\.csv is not UTF-8 text: save it as UTF-8"),
        ("path,label\na.wav,x\n".encode("utf-16-le"), r"t\.csv is not UTF-8 text: save it as UTF-8"),
        (b"path,label\na.wav,x,y\n", r"row 1 has more fields than the header; quote what holds commas"),
        (b"path,label\na.wav,x\nb.wav,x,y,z\n", r"row 2 has more fields than the header; quote what holds commas"),
        (b"path;label\na.wav;x;y\n", r"row 1 has more fields than the header; quote what holds semicolons"),
        (b"path,label\na.wav,x,,\nb.wav,x,,,,\n", r"line 3 has more fields than the header"),
        (b"# made by a tool\npath,label\na.wav,x\n", r"it begins with the line '# made by a tool', which must go"),
        (b"sep=;\npath;label\na.wav;x\n", r"it begins with the line 'sep=;', which must go"),
        (b"a.wav,x\nb.wav,y\n", r"its first line is 'a.wav, x', where the names of the columns must stand, such as path,label"),
        (b"name,label\na,x\n", r"needs rows with a 'path' in each; its columns are 'name', 'label'"),
        (b"path:label\na.wav:x\n", r"needs rows with a 'path' in each; its column is 'path:label'"),
        (b"path,label\n", r"needs rows with a 'path' in each; it is empty"),
        (b"path,label\n , \n", r"needs rows with a 'path' in each; it is empty"),
        (b"path,label\na.wav,x\n,y\n", r"t\.csv has no path in row 2: fill it in"),
        (b"", r"needs rows with a 'path' in each; it is empty"),
        (b'path,label\n"a.wav,x\n', r"cannot be read \(Error tokenizing data"),
        (b"path," + b"x" * 200_000, r"cannot be read \(field larger than field limit"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path, content, sentence):
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(MarbleError, match=sentence) as caught:
        read_table(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_is_explained(audio):
    with pytest.raises(MarbleError, match="no table that marble reads"):
        load_task(f"table:{audio}/0.wav")
    with pytest.raises(MarbleError, match="cannot be read"):
        load_task(f"table:{audio}/none.csv")
    (audio / "broken.parquet").write_text("not parquet")
    with pytest.raises(MarbleError, match="cannot be read"):
        load_task(f"table:{audio}/broken.parquet")


def test_empty_rows_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text("\npath,label\na.wav,x\n\n,\n  , \nb.wav,y\n,,\n")
    assert read_table(tmp_path / "t.csv").rows.to_dict("list") == {"path": ["a.wav", "b.wav"], "label": ["x", "y"]}


def test_an_index_with_a_name_is_a_column(tmp_path):
    frame = pandas.DataFrame({"path": ["a.wav", "b.wav"], "label": ["x", "y"]}).set_index("path")
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").rows.to_dict("list") == {"path": ["a.wav", "b.wav"], "label": ["x", "y"]}


def test_a_column_without_a_name_is_left_out_where_it_is_empty(tmp_path):
    (tmp_path / "t.csv").write_text("path,label,\na.wav,x,\nb.wav,y,\n")
    assert read_table(tmp_path / "t.csv").columns.names == ["path", "label"]
    (tmp_path / "t.csv").write_text("path,label,\na.wav,x,\nb.wav,y,z\n")
    assert read_table(tmp_path / "t.csv").columns.unread == ["column 3"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_table_that_would_fill_memory_is_refused_before_it_is_read(tmp_path, suffix):
    """As 55 kB of Parquet do, whose 10 million rows are equal."""
    file, amount = tmp_path / f"t.{suffix}", table_file.MOST_ROWS + 1
    if suffix == "parquet":
        same = pandas.Categorical.from_codes(numpy.zeros(amount, numpy.int8), ["a"])
        pandas.DataFrame({"path": same, "label": same}).to_parquet(file)
        assert file.stat().st_size < 100_000
    else:
        file.write_bytes(b"a\n" * amount)
    with pytest.raises(MarbleError, match=r"holds 10,000,001 rows, where marble reads up to 10,000,000 rows"):
        load_task(f"table:{file}")
    if suffix != "parquet":
        with file.open("r+b") as text:
            text.truncate(table_file.MOST_BYTES + 1)
        with pytest.raises(MarbleError, match=r"holds 1,073,741,825 bytes"):
            load_task(f"table:{file}")


@pytest.mark.parametrize("key", ["name", "numpy_type", "pandas_type"])
def test_damaged_metadata_of_parquet_is_one_sentence(tmp_path, key):
    file = tmp_path / "table.parquet"
    whole = pyarrow.Table.from_pandas(pandas.DataFrame({"path": ["a.wav"] * 6, "label": ["a", "b"] * 3}))
    metadata = json.loads(whole.schema.metadata[b"pandas"])
    for column in metadata["columns"]:
        del column[key]
    parquet.write_table(whole.replace_schema_metadata({b"pandas": json.dumps(metadata).encode()}), file)
    with pytest.raises(MarbleError, match=r"table\.parquet is damaged: write it again"):
        read_table(file)
