"""``table:FILE``: the kinds of targets, optional columns, and what is refused."""

import json
import shutil

import numpy
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks.own import table
from marble.tasks.own.parquet import parquet_size


@pytest.fixture
def audio(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.wav").write_text(f"content {number}")
    return tmp_path


def rows(**columns):
    return pandas.DataFrame({"path": [f"{number}.wav" for number in range(12)], **columns})


def test_labels_in_csv_with_splits_and_times(audio):
    rows(
        label=list("ab") * 6,
        split=["train", "val", "test"] * 4,
        start=[0.0, 1.5] * 6,
        stop=[None, 2.5] * 6,
        group=[f"g{number}" for number in range(12)],
    ).to_csv(audio / "t.csv", index=False)
    task = load_task(f"table:{audio}/t.csv")
    clips = task.read(audio)
    assert (task.kind, task.labels, task.main_metric) == ("multiclass", ("a", "b"), "accuracy")
    assert [clip.split for clip in clips[:3]] == ["train", "valid", "test"]
    assert (clips[1].start, clips[1].stop, clips[0].stop, clips[1].group) == (1.5, 2.5, None, "g1")
    assert clips[1].id == "1.wav@1.5-2.5"
    assert clips[1].path == audio / "1.wav"


def test_one_file_may_hold_many_clips(audio):
    frame = rows(label=list("ab") * 6, split=["train", "valid", "test"] * 4)
    frame["path"], frame["start"], frame["stop"], frame["group"] = (
        "0.wav",
        range(12),
        range(1, 13),
        [f"part {n}" for n in range(12)],
    )
    frame.to_csv(audio / "t.csv", index=False)
    assert len(load_task(f"table:{audio}/t.csv").read(audio)) == 12


def test_text_stands_as_it_was_written(audio):
    """What looks like a number or like nothing is a label all the same."""
    rows(label=["01", "1", "1.0", "None", "NA", "nan"] * 2, split=["train", "valid", "test"] * 4, group=range(12)).to_csv(
        audio / "t.csv", index=False
    )
    assert load_task(f"table:{audio}/t.csv").labels == ("01", "1", "1.0", "NA", "None", "nan")
    rows(labels=["None;x", "NA", "", "null"] * 3).to_csv(audio / "t.tsv", index=False, sep="\t")
    assert load_task(f"table:{audio}/t.tsv").labels == ("NA", "None", "null", "x")


def test_a_path_may_begin_like_a_home_that_nobody_has(audio):
    frame = rows(label=list("ab") * 6, split=["train", "valid", "test"] * 4)
    frame.loc[0, "path"] = "~nobody-of-this-name/x.wav"
    frame.to_csv(audio / "t.csv", index=False)
    assert load_task(f"table:{audio}/t.csv").read(audio)[0].path == audio / "~nobody-of-this-name/x.wav"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_tags_in_every_format(audio, suffix):
    tags = [["rock", "loud"], ["calm"], []] * 4
    file = audio / f"t{suffix}"
    if suffix == ".csv":
        rows(labels=[";".join(row) for row in tags]).to_csv(file, index=False)
    elif suffix == ".parquet":
        rows(labels=tags).to_parquet(file)
    else:
        file.write_text("\n".join(json.dumps({"path": f"{n}.wav", "labels": row}) for n, row in enumerate(tags)))
    task = load_task(f"table:{file}")
    assert (task.kind, task.labels, task.main_metric) == ("multilabel", ("calm", "loud", "rock"), "roc_auc")
    assert [clip.target for clip in task.read(audio)[:3]] == [("loud", "rock"), ("calm",), ()]


def test_numbers(audio):
    frame = rows(**{"target.valence": range(12), "target.arousal": [0.5] * 12})
    frame.to_csv(audio / "t.csv", index=False)
    task = load_task(f"table:{audio}/t.csv")
    assert (task.kind, task.labels, task.metrics) == ("regression", ("valence", "arousal"), ("r2", "mse"))
    assert task.read(audio)[3].target == (3.0, 0.5)


def test_without_a_split_column_groups_stay_together(audio):
    rows(label=list("aabb") * 3, group=[f"g{number // 2}" for number in range(12)]).to_csv(audio / "t.csv", index=False)
    split_of = {}
    for clip in load_task(f"table:{audio}/t.csv").read(audio):
        assert split_of.setdefault(clip.group, clip.split) == clip.split


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows(), "needs one of the columns label, labels and target; it has none"),
        (rows(label="a", target=1.0), "it has label, target"),
        (rows(label=["a", None] * 6), "no label in row 2"),
        (rows(target=["x"] * 12), "a target that is no number"),
        (rows(label=list("ab") * 6, split="holdout"), "the split 'holdout' in row 1"),
        (rows(label="a").drop(columns="path"), "needs rows with a 'path'"),
        (rows(label=list("ab") * 6).head(0), "needs rows with a 'path'"),
        (rows(label=["a"] * 12), "has one class, 'a'"),
        (rows(labels=[None] * 12), "has no tag in its column labels"),
        (rows(label=list("ab") * 6, start=[0, "0:01"] * 6), "has the start '0:01' in row 2: write seconds"),
        (rows(label=list("ab") * 6, stop=[1, float("inf")] * 6), "has the stop 'inf' in row 2: write seconds"),
        (rows(labels=["['x', 'y']"] * 12), r"The tags \['x', 'y'\] are a list written as text: separate them by ;"),
        (rows(label=list("ab") * 6, id=["x", None] * 6), "has no id in row 2"),
        (rows(label=list("ab") * 6, group="one", split="train"), "has the targets a and b"),
    ],
)
def test_a_wrong_table_is_explained(audio, frame, message):
    frame.to_csv(audio / "t.csv", index=False)
    with pytest.raises(MarbleError, match=message):
        load_task(f"table:{audio}/t.csv").read(audio)


def test_a_file_that_is_no_table_is_explained(audio):
    with pytest.raises(MarbleError, match="no table that marble reads"):
        load_task(f"table:{audio}/0.wav")
    with pytest.raises(MarbleError, match="cannot be read"):
        load_task(f"table:{audio}/none.csv")
    (audio / "broken.parquet").write_text("not parquet")
    with pytest.raises(MarbleError, match="cannot be read"):
        load_task(f"table:{audio}/broken.parquet")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_table_that_would_fill_memory_is_refused_before_it_is_read(tmp_path, suffix):
    """As 55 kB of Parquet do, whose 10 million rows are equal."""
    file, amount = tmp_path / f"t.{suffix}", table.MOST_ROWS + 1
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
            text.truncate(table.MOST_BYTES + 1)
        with pytest.raises(MarbleError, match=r"holds 1,073,741,825 bytes"):
            load_task(f"table:{file}")


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
    monkeypatch.setattr(table, "MOST_BYTES", 2**26)
    monkeypatch.setitem(table.READERS, ".parquet", lambda file: pytest.fail("it is read"))
    with pytest.raises(
        MarbleError, match=r"holds \d+,\d\d\d,\d\d\d bytes, where marble reads up to .* 67,108,864 bytes: divide"
    ):
        table.read_table(file)


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


@pytest.mark.parametrize("key", ["name", "numpy_type", "pandas_type"])
def test_damaged_metadata_of_parquet_is_one_sentence(tmp_path, key):
    file = tmp_path / "table.parquet"
    whole = pyarrow.Table.from_pandas(pandas.DataFrame({"path": ["a.wav"] * 6, "label": ["a", "b"] * 3}))
    metadata = json.loads(whole.schema.metadata[b"pandas"])
    for column in metadata["columns"]:
        del column[key]
    parquet.write_table(whole.replace_schema_metadata({b"pandas": json.dumps(metadata).encode()}), file)
    with pytest.raises(MarbleError, match=r"table\.parquet is damaged: write it again"):
        table.read_table(file)
