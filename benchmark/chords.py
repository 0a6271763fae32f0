"""Chord labels: what they mean, which of 25 classes they are, and annotations as targets.

Syntax
    That of Harte et al. (2005) as `mir_eval.chord` reads it: a root, then perhaps a shorthand or degrees after a colon, then
    perhaps a bass degree after a slash, such as ``Eb:min7(9)/b3``; ``N`` is no chord, ``X`` an unknown one. Case matters.
Classes
    0 to 11 are C to B major, 12 to 23 C to B minor, 24 is no chord. A label is major or minor if its tones below the minor
    sixth are those of the triad, so sevenths and ninths count and sus, dim, aug and power chords do not. The bass counts as a
    tone: ``C:maj/3`` is major and ``C:maj/2`` is not. What is none of the 25 is not scored. This is the rule of
    `mir_eval.chord.majmin`, and `class_of` agrees with it on every label.
Targets
    `target` makes one interval of neighbours that are the same chord, degree for degree and with the same bass, as mir_eval
    does before it compares segmentations. Each is named by its class, or as it is written if it has none.
Labels of other annotators
    `written` puts a label that is none into this syntax: ``N.C.``, ``NC`` and ``&pause`` (Billboard) are N; all others, also
    an empty one, are X.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from marble.frames import Spans

PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
LABELS = (*(f"{root}:{mode}" for mode in ("maj", "min") for root in PITCH_CLASSES), "N")

_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_DEGREES = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21)
# Semitones above the root, and the degrees that a ninth and higher ones add.
_QUALITIES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "maj": ((0, 4, 7), ()), "min": ((0, 3, 7), ()), "aug": ((0, 4, 8), ()), "dim": ((0, 3, 6), ()),
    "sus4": ((0, 5, 7), ()), "sus2": ((0, 2, 7), ()), "1": ((0,), ()), "5": ((0, 7), ()),
    "7": ((0, 4, 7, 10), ()), "maj7": ((0, 4, 7, 11), ()), "min7": ((0, 3, 7, 10), ()), "minmaj7": ((0, 3, 7), ("7",)),
    "maj6": ((0, 4, 7, 9), ()), "min6": ((0, 3, 7, 9), ()), "dim7": ((0, 3, 6, 9), ()), "hdim7": ((0, 3, 6, 10), ()),
    "9": ((0, 4, 7, 10), ("9",)), "maj9": ((0, 4, 7, 11), ("9",)), "min9": ((0, 3, 7, 10), ("9",)),
    "11": ((0, 4, 7, 10), ("9", "11")), "min11": ((0, 3, 7, 10), ("9", "11")),
    "13": ((0, 4, 7, 10), ("9", "11", "13")), "maj13": ((0, 4, 7, 11), ("9", "11", "13")),
    "min13": ((0, 3, 7, 10), ("9", "11", "13")),
}  # fmt: skip
_DEGREE = r"(?:b*|#*)(?:1[0-3]|[1-9])"
_LABEL = re.compile(
    rf"(?P<root>[A-G](?:b*|#*))(?P<colon>:(?P<quality>[a-z0-9]*)(?:\((?P<degrees>\*?{_DEGREE}(?:,\*?{_DEGREE})*)\))?)?"
    rf"(?:/(?P<bass>{_DEGREE}))?"
)
_SILENT = {"N.C.", "N.C", "NC", "&pause"}
_TRIADS = {(0, 4, 7): 0, (0, 3, 7): 12}
_BELOW = 8  # the minor sixth


class Chord(NamedTuple):
    """A chord, its tones as semitones above the root, in order and the bass among them.

    Attributes:
        root: as a pitch class.
        tones: without degrees above the octave.
        all_tones: with those, in the octave.
        bass: in semitones above the root.
    """

    root: int
    tones: tuple[int, ...]
    all_tones: tuple[int, ...]
    bass: int


def pitch_class(name: str) -> int:
    """Return the pitch class of a name such as ``C``, ``F##`` or ``Cb``, 0 to 11."""
    return (_NATURALS[name[0]] + name.count("#") - name.count("b")) % 12


@lru_cache(maxsize=4096)
def parse(label: str) -> Chord | None:
    """Return the chord of a label; None for ``N`` and ``X``.

    Raises:
        ValueError: the label is not one of this syntax.
    """
    if label in ("N", "X"):
        return None
    match = _LABEL.fullmatch(label)
    quality, degrees = (match["quality"], match["degrees"]) if match else (None, None)
    if not match or (match["colon"] and not (degrees or quality)) or (quality and quality not in _QUALITIES):
        raise ValueError(f"'{label}' is no chord label")
    triad, extension = _QUALITIES[quality or "maj"] if quality or not degrees else ((0,), ())
    added = {*extension, *filter(None, (degrees or "").split(","))}
    bass = _semitones(match["bass"] or "1") % 12
    inside = _tones(triad, [degree for degree in added if _semitones(degree) < 12], bass)
    return Chord(pitch_class(match["root"]), inside, _tones(triad, added, bass), bass)


def _tones(triad: tuple[int, ...], degrees: Iterable[str], bass: int) -> tuple[int, ...]:
    """Return the tones of a triad with degrees added and, where a star precedes them, taken away."""
    counts = [int(tone in triad) for tone in range(12)]
    for degree in degrees:
        counts[_semitones(degree) % 12] += -1 if degree.startswith("*") else 1
    return tuple(tone for tone in range(12) if counts[tone] > 0 or tone == bass)


def _semitones(degree: str) -> int:
    return _DEGREES[int(degree.lstrip("*b#")) - 1] + degree.count("#") - degree.count("b")


@lru_cache(maxsize=4096)
def class_of(label: str) -> int:
    """Return the class of a label, 0 to 24; -1 for one that is not scored.

    Raises:
        ValueError: the label is not one of the syntax.
    """
    chord = parse(label)
    if chord is None:
        return LABELS.index("N") if label == "N" else -1
    triad = _TRIADS.get(tuple(tone for tone in chord.tones if tone < _BELOW))
    return -1 if triad is None else chord.root + triad


def root_of(label: str) -> int | None:
    """Return the root of a label as a pitch class, -1 for no chord, None for an unknown one; errors as `parse`."""
    chord = parse(label)
    if chord is None:
        return -1 if label == "N" else None
    return chord.root


def written(label: str) -> str:
    """Return a label as it stands if it is one of the syntax, else ``N`` or ``X``."""
    try:
        parse(label)
    except ValueError:
        return "N" if label in _SILENT else "X"
    return label


def target(rows: Iterable[tuple[float, float, str]]) -> Spans:
    """Return an annotation as a target: (start, stop, label) in order, in seconds; errors as `parse`."""
    merged: list[tuple[float, float, str]] = []
    for start, stop, label in rows:
        if merged and merged[-1][1] == start and _same(merged[-1][2], label):
            merged[-1] = (merged[-1][0], stop, label)
        else:
            merged.append((start, stop, label))
    return Spans(
        tuple((start, stop, LABELS[class_of(label)] if class_of(label) >= 0 else label) for start, stop, label in merged)
    )


def _same(label: str, other: str) -> bool:
    one, two = parse(label), parse(other)
    if one is None or two is None:
        return label == other
    return (one.root, one.all_tones, one.bass) == (two.root, two.all_tones, two.bass)
