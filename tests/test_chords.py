"""Chord labels: the parser agrees with mir_eval, label for label."""

import json

import mir_eval
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marble import chords
from marble.frames import Grid

SHORTHANDS = [
    "maj", "min", "dim", "aug", "1", "5", "sus2", "sus4", "maj6", "min6", "7", "maj7", "min7", "dim7", "hdim7", "minmaj7",
    "aug7", "9", "maj9", "min9", "11", "maj11", "min11", "13", "maj13", "min13",
]  # fmt: skip
accidentals = st.sampled_from(["", "", "b", "#", "bb", "##"])
degree = st.builds(str.__add__, accidentals, st.integers(1, 13).map(str))
degrees = st.lists(st.builds(str.__add__, st.sampled_from(["", "*"]), degree), min_size=1, max_size=4).map(
    lambda names: f"({','.join(names)})"
)
shape = st.one_of(
    st.just(""),
    st.sampled_from(SHORTHANDS).map(":".__add__),
    degrees.map(":".__add__),
    st.builds(":{}{}".format, st.sampled_from(SHORTHANDS), degrees),
)
written = st.builds(
    "{}{}{}{}".format,
    st.sampled_from("ABCDEFGABCDEFGHc"),
    accidentals,
    shape,
    st.one_of(st.just(""), degree.map("/".__add__)),
)
noise = st.text("ABCDEFGNX:/()*b#,1357majinsud \n", max_size=8)


def by_mir_eval(label):
    """The class of a label by mir_eval's comparison with each of the 25, or its complaint."""
    try:
        scores = mir_eval.chord.majmin([label] * 25, list(chords.LABELS))
    except mir_eval.chord.InvalidChordException:
        return ValueError
    return int(scores.argmax()) if scores.max() == 1 else -1


def ours(label):
    try:
        return chords.class_of(label)
    except ValueError:
        return ValueError


@given(st.one_of(written, noise))
@example("N")
@example("X")
@example("C:maj(*1)/5")
@example("C:maj(*1)")
@example("C:maj(b8)")
@example("C:maj/2")
@example("C:")
@example("C:maj()")
@example("C:maj\n")
@example("Cb:min/b10")
@example("F#:(1,*3,3)")
@example("G:7(b1)")
def test_every_label_has_the_class_of_mir_eval(label):
    assert ours(label) == by_mir_eval(label)


@given(written)
@example("C:13(*9)/b7")
@example("C:minmaj7(*7)")
def test_every_label_has_the_root_the_tones_and_the_bass_of_mir_eval(label):
    if ours(label) is not ValueError:
        for tones, folded in ((chords.parse(label).tones, False), (chords.parse(label).all_tones, True)):
            root, bitmap, bass = mir_eval.chord.encode(label, reduce_extended_chords=folded)
            assert (chords.root_of(label), chords.parse(label).bass) == (root, bass)
            assert tones == tuple(np.flatnonzero(bitmap))


def test_the_labels_of_the_data_sets(shared):
    labels = json.loads((shared / "fixtures/frames/chords/labels.json").read_text())
    assert len(labels) == 847
    assert {label: chords.class_of(label) for label in labels} == labels


@pytest.mark.parametrize(
    ("label", "meaning"),
    [
        ("C", "C:maj"), ("B#:maj7", "C:maj"), ("Cb:min9", "B:min"), ("A:min/b7", "A:min"), ("Eb:maj/3", "Eb:maj"),
        ("D:7(#9)", "D:maj"), ("E:minmaj7", "E:min"), ("N", "N"),
    ],
)  # fmt: skip
def test_classes_by_name(label, meaning):
    assert chords.LABELS[chords.class_of(label)] == meaning


@pytest.mark.parametrize(
    "label", ["X", "C:sus4", "C:dim", "C:aug", "C:hdim7", "C:5", "C:1", "C:maj/2", "C:maj/4", "A:min(*5)", "C:maj(*3)/5"]
)
def test_other_chords_are_not_scored(label):
    assert chords.class_of(label) == -1


@pytest.mark.parametrize(
    ("label", "read"),
    [("N.C.", "N"), ("NC", "N"), ("&pause", "N"), ("", "X"), ("H", "X"), ("c:maj", "X"), ("C:aug7", "X"), ("C:min7", "C:min7")],
)
def test_labels_of_other_annotators_are_read_by_hand(label, read):
    assert chords.written(label) == read


def test_targets_are_the_chords_named_by_their_classes():
    rows = [
        (0.0, 1.0, "N"), (1.0, 1.5, "C"), (1.5, 2.0, "C:maj"), (2.0, 3.0, "C:7"), (3.0, 4.0, "D:sus4"), (4.0, 4.5, "D:sus4"),
        (5.0, 6.0, "A:min/b3"), (6.0, 7.0, "A:min"), (7.0, 8.0, "X"), (8.0, 8.5, "X"), (8.5, 9.0, "N"),
    ]  # fmt: skip
    assert chords.target(rows).rows == (
        (0.0, 1.0, "N"), (1.0, 2.0, "C:maj"), (2.0, 3.0, "C:maj"), (3.0, 4.5, "D:sus4"), (5.0, 6.0, "A:min"),
        (6.0, 7.0, "A:min"), (7.0, 8.5, "X"), (8.5, 9.0, "N"),
    )  # fmt: skip


@given(st.lists(st.sampled_from(["N", "X", "C", "C:maj", "C:9", "C:7(9)", "C:7", "C:maj/3", "B#", "G:13", "G:7(9,11,13)"])))
def test_neighbours_are_merged_as_by_mir_eval(labels):
    times = np.arange(len(labels) + 1.0)
    rows = chords.target(zip(times[:-1].tolist(), times[1:].tolist(), labels, strict=True)).rows
    merged = mir_eval.chord.merge_chord_intervals(np.stack([times[:-1], times[1:]], axis=1), labels)
    assert [row[:2] for row in rows] == [tuple(pair) for pair in merged.tolist()]


def test_frames_take_the_chord_that_holds_their_centre():
    target = chords.target([(0.0, 0.1, "N"), (0.1, 0.2, "C:maj7"), (0.2, 0.3, "D:sus4"), (0.34, 0.4, "A:min/b3")])
    encoded = target.classes(chords.LABELS, Grid(25.0), 12)
    np.testing.assert_array_equal(encoded, [24, 24, 24, 0, 0, -1, -1, -1, -1, 21, -1, -1])
    assert encoded.dtype == np.int64
