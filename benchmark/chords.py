"""Chord labels: what they mean, and which of 25 classes they are.

Syntax
    That of Harte et al. (2005) as `mir_eval.chord` reads it: a root, then perhaps a shorthand or degrees after a colon, then
    perhaps a bass degree after a slash, such as ``Eb:min7(9)/b3``; ``N`` is no chord, ``X`` an unknown one. Case matters.
Classes
    0 to 11 are C to B major, 12 to 23 C to B minor, 24 is no chord. A label is major or minor if its tones below the minor
    sixth are those of the triad, so sevenths and ninths count and sus, dim, aug and power chords do not. The bass counts as a
    tone: ``C:maj/3`` is major and ``C:maj/2`` is not. What is none of the 25 is not scored. This is the rule of
    `mir_eval.chord.majmin`, and `class_of` agrees with it on every label.
Labels of other annotators
    `written` puts a label that is none into this syntax: ``N.C.``, ``NC`` and ``&pause`` (Billboard) are N; all others, also
    an empty one, are X.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from marble.frames import Grid, Spans

PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
LABELS = (*(f"{root}:{mode}" for mode in ("maj", "min") for root in PITCH_CLASSES), "N")
NONE = len(LABELS) - 1

_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_DEGREES = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21)
# Semitones above the root; of the ninths and higher ones those below the octave alone, as in mir_eval.
_QUALITIES = {
    "maj": (0, 4, 7), "min": (0, 3, 7), "aug": (0, 4, 8), "dim": (0, 3, 6), "sus4": (0, 5, 7), "sus2": (0, 2, 7),
    "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "min7": (0, 3, 7, 10), "minmaj7": (0, 3, 7, 11), "maj6": (0, 4, 7, 9),
    "min6": (0, 3, 7, 9), "dim7": (0, 3, 6, 9), "hdim7": (0, 3, 6, 10), "9": (0, 4, 7, 10), "maj9": (0, 4, 7, 11),
    "min9": (0, 3, 7, 10), "11": (0, 4, 7, 10), "min11": (0, 3, 7, 10), "13": (0, 4, 7, 10), "maj13": (0, 4, 7, 11),
    "min13": (0, 3, 7, 10), "1": (0,), "5": (0, 7),
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
    """A chord: its root as a pitch class, and its tones as semitones above the root, in order, the bass among them."""

    root: int
    tones: tuple[int, ...]


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
    counts = [0] * 12
    for tone in _QUALITIES[quality or "maj"] if quality or not degrees else (0,):
        counts[tone] += 1
    for degree in set((degrees or "").split(",")) - {""}:
        tone = _semitones(degree.removeprefix("*"))
        if tone < 12:
            counts[tone % 12] += -1 if degree.startswith("*") else 1
    bass = _semitones(match["bass"] or "1") % 12
    return Chord(pitch_class(match["root"]), tuple(tone for tone in range(12) if counts[tone] > 0 or tone == bass))


def _semitones(degree: str) -> int:
    return _DEGREES[int(degree.lstrip("b#")) - 1] + degree.count("#") - degree.count("b")


@lru_cache(maxsize=4096)
def class_of(label: str) -> int:
    """Return the class of a label, 0 to 24; -1 for one that is not scored.

    Raises:
        ValueError: the label is not one of the syntax.
    """
    chord = parse(label)
    if chord is None:
        return NONE if label == "N" else -1
    triad = _TRIADS.get(tuple(tone for tone in chord.tones if tone < _BELOW))
    return -1 if triad is None else chord.root + triad


@lru_cache(maxsize=4096)
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


def classes(target: Spans, labels: tuple[str, ...], grid: Grid, frames: int) -> np.ndarray:
    """Return the class of the chord that holds the centre of each frame, ``int64[frames]``; -1 is not scored.

    Args:
        target: chords, as annotated.
        labels: of the task, `LABELS`.
        grid: of the frames.
        frames: how many.
    """
    return classed(target).classes(labels, grid, frames)


def classed(target: Spans) -> Spans:
    """Return the same intervals labelled with classes, those that are not scored left out."""
    numbered = [(start, stop, class_of(label)) for start, stop, label in target.rows]
    return Spans(tuple((start, stop, LABELS[number]) for start, stop, number in numbered if number >= 0))
