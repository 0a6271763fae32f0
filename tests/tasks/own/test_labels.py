"""Labels as people write them: spaces, separators and lists are no part of a label; what looks the same is named."""

import unicodedata

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.tasks.own.labels import near_labels, read_targets
from marble.tasks.own.table_file import table_of

WORDS = ["rock", "hip hop", "r&b", "80's", "été", "NA", "a/b"]
TAGS = st.lists(st.frozensets(st.sampled_from(WORDS), max_size=4), min_size=1, max_size=9).filter(any)


def targets(**columns):
    return read_targets(table_of("t.csv", "", pandas.DataFrame({"path": "a.wav", **columns})))


def tags(cells):
    return targets(labels=cells)


@settings(max_examples=30)
@given(rows=TAGS, separator=st.sampled_from([";", "|"]), space=st.sampled_from(["", " ", "\t"]))
def test_tags_are_split_where_a_separator_is_certain(rows, separator, space):
    read = tags([f"{space}{separator}{space}".join(sorted(row)) for row in rows])
    assert read.values == [tuple(sorted(row)) for row in rows]
    joined = any(len(row) > 1 for row in rows)
    single = "no row has more than one tag; where several are meant, write ; between them"
    assert read.notes == (["tags are separated by '|'"] * (separator == "|") if joined else [single])
    assert read.labels == tuple(sorted(frozenset().union(*rows)))


@settings(max_examples=30)
@given(rows=TAGS.map(lambda rows: [row - {"80's"} for row in rows]).filter(any), quote=st.sampled_from(["", "'", '"']))
@pytest.mark.parametrize("brackets", ["[]", "()", "{}"])
def test_a_list_written_as_text_is_a_list(brackets, rows, quote):
    left, right = brackets
    cells = [f"{left}{', '.join(f'{quote}{tag}{quote}' for tag in sorted(row))}{right}" for row in rows]
    assert tags([*cells, None]).values == [*(tuple(sorted(row)) for row in rows), ()]
    assert tags(list(map(str, map(sorted, rows)))).values == [tuple(sorted(row)) for row in rows]


def test_commas_separate_where_the_parts_stand_in_other_cells_too():
    read = tags(["rock,loud", "rock", "jazz", "loud, jazz", "", None])
    assert read.values == [("loud", "rock"), ("rock",), ("jazz",), ("jazz", "loud"), (), ()]
    assert read.notes == ["tags are separated by ','"]
    assert tags(["speech, male;loud", "loud", "rock,"]).labels == ("loud", "rock,", "speech, male")


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (["Crosby, Stills & Nash", "speech"], "'Crosby, Stills & Nash' for one, where a comma may separate tags or belong"),
        (["drums, acoustic", "drums, electric", "bass"], "'drums, acoustic' for one, where a comma may"),
        (["['x', 'y']", "z"], r"has the tags \['x', 'y'\], a list among others that are none"),
        (["['x' 'y']", "['z']"], r"has the tags \['x' 'y'\], a list that marble cannot read"),
        (["[rock 'n' roll]"], r"a list that marble cannot read: separate them by ; alone"),
        ([" ", None, ";"], "has no tag in its column labels"),
        (["[]", "[ ]"], "has no tag in its column labels"),
    ],
)
def test_tags_that_could_be_read_in_two_ways_are_refused(cells, sentence):
    with pytest.raises(MarbleError, match=sentence):
        tags(cells)


def test_a_semicolon_makes_a_comma_part_of_a_tag_as_the_refusal_advises():
    assert tags(["Crosby, Stills & Nash;", "speech"]).labels == ("Crosby, Stills & Nash", "speech")


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(["rock", "jazz"]), min_size=2, max_size=9).filter(lambda labels: len(set(labels)) > 1), st.data()
)
def test_spaces_at_the_ends_are_no_part_of_a_label(labels, data):
    spaces = st.text(" \t\u00a0\u3000", max_size=2)
    written = [data.draw(spaces) + label + data.draw(spaces) for label in labels]
    read = targets(label=written)
    assert (read.values, read.labels, read.notes) == (labels, ("jazz", "rock"), [])


@pytest.mark.parametrize(
    "pair",
    [
        ("Rock", "rock"),
        ("hip hop", "hip  hop"),
        ("hip hop", "hip\u00a0hop"),
        ("Beyoncé", unicodedata.normalize("NFD", "Beyoncé")),
        ("straße", "STRASSE"),
        ("rock", "\ufeffrock"),
        ("rock", "ro\u200bck"),
    ],
)
def test_labels_that_look_the_same_stay_two_and_are_named(pair):
    for read in (targets(label=[*pair, "other"]), tags([*pair, "other"])):
        assert len(read.labels) == 3
        assert read.notes[-1].startswith("labels that differ only in case, spaces or Unicode form are labels of their own: ")
        assert all(repr(label) in read.notes[-1] for label in pair)
    assert near_labels(["c0", "c1", "hip-hop", "hiphop", "+1", "-1"]) == []


def test_of_many_pairs_three_are_named():
    labels = [spelling for number in range(9) for spelling in (f"a{number}", f"A{number}")]
    assert near_labels(labels)[0].count(" and ") == 3
    assert near_labels(labels)[0].endswith("…")


def test_the_refusal_of_a_table_without_target_names_what_there_is():
    with pytest.raises(
        MarbleError,
        match=r"it has none \(of 'rock', 'jazz', call one label, or target if it holds numbers",
    ):
        targets(rock=["0"], jazz=["1"])


@pytest.mark.parametrize("joined", ["rock,loud", "rock;loud", "rock / jazz", "loud+jazz", "rock|x", "R&B & jazz"])
def test_labels_that_are_others_joined_stay_their_own_and_are_named(joined):
    note = f"labels that hold others are labels of their own: {joined!r}; for tags, write ; between them"
    assert targets(label=["rock", "jazz", joined]).notes == [note]
    assert targets(label=["AC/DC", "R&B", "rock"]).notes == []
    if not {",", ";", "|"} & set(joined):
        assert tags(["rock;loud", "jazz", joined]).notes == [note]


def test_a_list_where_a_class_is_needed_is_refused():
    for cells in (["['x', 'y']", "['x']"], [["x", "y"], ["x"]]):
        with pytest.raises(MarbleError, match=r"has the label \['x', 'y'\], a list: call the column labels"):
            targets(label=cells)


def test_classes_that_are_numbers_with_a_fraction_are_doubted():
    (note,) = targets(label=["0.5", "1.25", "-.75"]).notes
    assert note == "label holds numbers, each of which is a class; to predict them, call the column target"
    for cells in (["0.0", "1.0"], ["1", "2"], ["0.5", "a"], ["1.2.3", "4.5.6"]):
        assert targets(label=cells).notes == []


def test_a_target_that_never_changes_is_refused():
    with pytest.raises(MarbleError, match="has one target in all rows: there is nothing to predict"):
        targets(target=["1", "1.0", "1"])
    constant_and_not = pandas.DataFrame({"path": "a.wav", "target.a": ["1", "1"], "target.b": ["1", "2"]})
    assert read_targets(table_of("t.csv", "", constant_and_not)).labels == ("a", "b")


def test_numbers_beside_names_of_classes_are_doubted():
    """As in ESC-50, whose target is the number of a class."""
    read = targets(target=["3", "7"], category=["dog", "rain"], fold=["1", "2"])
    assert (read.kind, read.values) == ("regression", [(3.0,), (7.0,)])
    assert read.notes == ["target is a number to predict; for the classes in 'category', call that label"]
