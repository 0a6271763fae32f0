"""Columns that nearly have a known name are read as what they mean where that is certain; the others are named."""

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marble.data.verify import Finding, verify
from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks.own.columns import TARGETS, read_columns

ROWS = {
    "path": ["a.wav", "b.wav", "c.wav"],
    "label": ["x", "y", "x"],
    "start": ["0", "1", "2"],
    "stop": ["1", "2", "3"],
    "group": ["g", "h", "i"],
    "artist": ["j", "k", "l"],
    "split": ["train", "valid", "test"],
}
SPLITS = ["train", "val", "eval"]


def read(columns, **options):
    return read_columns("t.csv", pandas.DataFrame(columns), **options)


@st.composite
def spelt(draw, name):
    """A name in other case and with spaces around it, and with spaces or hyphens between its words."""
    letters = [draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in name]
    text = "".join(letters).replace("_", draw(st.sampled_from(["_", " ", "-", "  "])))
    return draw(st.sampled_from(["", " ", "\t", "\u00a0"])) + text + draw(st.sampled_from(["", " ", "  "]))


@settings(max_examples=30)
@given(st.data())
def test_any_spelling_of_the_known_names_reads_the_same_rows(data):
    names = {name: data.draw(spelt(name)) for name in ROWS}
    order = data.draw(st.permutations(list(ROWS)))
    others = data.draw(st.lists(st.text(max_size=9).filter(lambda text: not text.strip().lower().startswith("t")), max_size=3))
    plain, _ = read(ROWS)
    odd = {names[name]: ROWS[name] for name in order} | {f"unknown {text}": ["1", "2", "3"] for text in others}
    rows, columns = read(odd)
    pandas.testing.assert_frame_equal(rows[list(ROWS)], plain)
    assert sorted(columns.unread) == sorted({f"unknown {text}" for text in others})
    for name, spelling in names.items():
        assert (f"'{spelling}' is read as {name}" in "".join(columns.notes)) == (name != spelling)


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("filename", "path", ROWS["path"]),
        ("File Path", "path", ROWS["path"]),
        ("audio_filepath", "path", ROWS["path"]),
        ("slice_file_name", "path", ROWS["path"]),
        ("genre", "label", ROWS["label"]),
        ("Category", "label", ROWS["label"]),
        ("class-name", "label", ROWS["label"]),
        ("tags", "labels", ROWS["label"]),
        ("Genres", "labels", ROWS["label"]),
        ("end", "stop", ROWS["stop"]),
        ("End Time", "stop", ROWS["stop"]),
        ("onset", "start", ROWS["start"]),
        ("performer", "artist", ROWS["artist"]),
        ("Singer ID", "artist", ROWS["artist"]),
        ("subset", "split", SPLITS),
        ("train/test", "split", ["train", "test", "Train"]),
        ("Usage", "split", SPLITS),
        ("\u200bsplit", "split", SPLITS),
        ("Partition", "split", ["Training ", "validation", "TEST"]),
        ("ID", "id", ["1", "2", "3"]),
    ],
)
def test_a_synonym_is_read_where_the_known_column_is_absent(name, field, values):
    target = {} if field.startswith("label") else {"label": ROWS["label"]}
    path = {} if field == "path" else {"path": ROWS["path"]}
    rows, columns = read(path | target | {name: values})
    assert list(rows[field]) == values
    assert columns.notes == [f"'{name}' is read as {field}"]
    rows, columns = read({"path": ROWS["path"], "label": ROWS["label"], field: ["train", "valid", "test"], name: values})
    assert list(rows[field]) == ["train", "valid", "test"]
    assert columns.unread == [name]


@pytest.mark.parametrize(
    ("columns", "unread"),
    [
        ({"subset": ["small", "medium", "large"]}, ["subset"]),
        ({"subset": ["train", "test", ""]}, ["subset"]),
        ({"usage": ["train", "train", "train"]}, ["usage"]),
        ({"usage": ["train", "test", "private"]}, ["usage"]),
        ({"usage": SPLITS, "phase": SPLITS}, ["usage", "phase"]),
        ({"offset": ["1", "2", "3"]}, ["offset"]),
        ({"start": ["0", "0", "0"], "offset": ["1", "2", "3"]}, ["offset"]),
        ({"fold": ["1", "2", "3"], "Take": ["1", "2", "3"]}, ["fold", "Take"]),
        ({"ID": ["7", "7", "8"]}, ["ID"]),
        ({"duration": ["1", "2", "3"]}, ["duration"]),
        ({"start": ["0", "0", "0"], "stop": ["1", "1", "1"], "duration": ["1", "2", "3"]}, ["duration"]),
        ({"subset": SPLITS, "partition": SPLITS}, ["subset", "partition"]),
        ({"Split": SPLITS, "subset": SPLITS}, ["subset"]),
        ({"class": ["1", "2", "3"], "genre": ["1", "2", "3"]}, ["class", "genre"]),
        ({"start_ms": ["1", "2", "3"], "end_samples": ["1", "2", "3"]}, ["start_ms", "end_samples"]),
        ({"label ": ["1", "2", "3"]}, ["label "]),
        ({number: [number] * 3 for number in range(30)}, list(map(str, range(30)))),
    ],
)
def test_what_is_not_certain_is_not_read_and_named(columns, unread):
    rows, read_as = read({"path": ROWS["path"], "label": ROWS["label"]} | columns)
    assert read_as.unread == unread
    assert not set(unread) & set(rows)
    named = ", ".join(f"'{name}'" for name in unread[:20]) + (" and 10 more" if len(unread) > 20 else "")
    assert read_as.notes[-1] == f"not read: {named}"


def test_a_duration_counts_from_the_start():
    rows, columns = read({"path": ROWS["path"], "label": ROWS["label"], "Begin": ["0"] * 3, "Duration": ["1"] * 3})
    assert list(rows.columns) == ["path", "label", "start", "duration"]
    assert columns.unread == []


@pytest.mark.parametrize(
    ("other", "fields"),
    [("onset", ["start", "stop"]), ("duration", ["start", "duration"]), ("Duration (s)", [])],
)
def test_an_offset_is_the_end_of_an_onset_or_the_start_of_a_duration(other, fields):
    columns = {other: ["0"] * 3, "Offset": ["1"] * 3}
    rows, _ = read({"path": ROWS["path"], "label": ROWS["label"]} | columns)
    assert sorted(rows.columns) == sorted(["path", "label", *fields])
    if "stop" in fields:
        assert list(rows["stop"]) == ["1"] * 3


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["Path", "PATH", "label"], r"has the columns 'Path' and 'PATH', where one can be path: rename"),
        (["file", "audio", "label"], r"'file' and 'audio', where one can be path"),
        (["path", "label", "Split", "split "], r"'Split' and 'split ', where one can be split"),
        (["path", "label", "label"], r"'label' and 'label', where one can be label"),
        (["path", "genre", "tags"], r"'genre' and 'tags', where one can be label or labels or target"),
    ],
)
def test_two_columns_for_one_meaning_are_refused(names, sentence):
    rows = pandas.DataFrame([["train"] * len(names)], columns=names)
    with pytest.raises(MarbleError, match=sentence):
        read_columns("t.csv", rows)


def test_the_column_that_groups_is_read_and_a_target_by_another_name_alone():
    rows, columns = read({"path": ROWS["path"], "label": ROWS["label"], "Kit": ["1", "2", "3"]}, extra="kit")
    assert list(rows["kit"]) == ["1", "2", "3"]
    rows, columns = read({"path": ROWS["path"], "genre": ROWS["label"], "score": ["1", "2", "3"]}, targets=("score",))
    assert (list(rows.columns), columns.unread) == (["path", "score"], ["genre"])
    assert set(TARGETS) == {"label", "labels", "target"}


def test_names_of_dimensions_are_kept_as_they_are():
    rows, _ = read({"path": ROWS["path"], " Target.Valence ": ["1", "2", "3"], "target.arousal": ["1", "2", "3"]})
    assert list(rows.columns) == ["path", "target.Valence", "target.arousal"]


def test_what_is_read_otherwise_is_said_and_stands_in_the_task(audio):
    names = [f"{number}.wav" for number in range(12)]
    frame = pandas.DataFrame({"file": names, "label": list("ab") * 6, "Subset": SPLITS * 4, "fold": 1})
    frame.to_csv(audio / "t.csv", index=False)
    with pytest.warns(UserWarning, match="t.csv: 'file' is read as path, 'Subset' is read as split; not read: 'fold'$"):
        task = load_task(f"table:{audio}/t.csv")
    notes = ("'file' is read as path, 'Subset' is read as split", "not read: 'fold'")
    assert task.notes == notes
    assert [clip.split for clip in task.read(audio)][:3] == ["train", "valid", "test"]
    findings = {finding.check: finding for finding in verify(task, audio, workers=1)}
    assert findings["reading"] == Finding("reading", True, "; ".join(notes))
