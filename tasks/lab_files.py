"""Annotations in ``.lab`` files, and the audio that belongs to them.

Files
    A line is ``start stop label``, in seconds, separated by spaces or tabs; the label is the rest of the line and may be
    absent. Blank lines and intervals of no length are passed over. Lines follow in time: of neighbours that overlap by up to
    1 ms, as rounding leaves them, the first keeps its end.
Audio
    The audio of an annotation is the file of its name, whatever its extension. Of several such files that one counts whose
    folders agree with those of the annotation over most levels, from the file upwards, case and Unicode form left aside, unless
    it agrees better with another annotation:
    ``annotations/chordlab/Queen/Greatest Hits I/01 Bohemian Rhapsody.lab`` belongs to
    ``audio/Greatest Hits I/01 Bohemian Rhapsody.flac``.
"""

from __future__ import annotations

import math
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from marble import chords
from marble.audio.decode import is_audio_name
from marble.errors import MarbleError, reason
from marble.frames import Spans

_OVERLAP = 1e-3


def read_lab(file: Path) -> list[tuple[float, float, str]]:
    """Return the lines of a file: (start, stop, label) in order, in seconds.

    Raises:
        MarbleError: the file cannot be read, a line is none of the format, lines are not in order, or there is none.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise MarbleError(f"{file} cannot be read ({reason(error)}): mend that.") from error
    rows: list[tuple[float, float, str]] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split(maxsplit=2)
        if not fields:
            continue
        start, stop = (_seconds(field) for field in (*fields[:2], "")[:2])
        if not 0 <= start <= stop < math.inf:
            raise MarbleError(f"{file} has '{line:.60}' in line {number}: write start, stop and label, in seconds.")
        earliest = rows[-1][1] if rows else 0.0
        if start < earliest - _OVERLAP:
            raise MarbleError(f"{file} has an interval in line {number} that begins before the one above ends: mend one.")
        if stop > max(start, earliest):
            rows.append((max(start, earliest), stop, fields[2].strip() if len(fields) > 2 else ""))
    if not rows:
        raise MarbleError(f"{file} holds no interval: mend it, or remove it.")
    return rows


def read_chords(files: Sequence[Path]) -> list[Spans]:
    """Return the chords in each file as targets; warn of labels that are no chord labels. Errors as `read_lab`."""
    changed: Counter[str] = Counter()
    first, targets = "", []
    for file in files:
        rows = [(start, stop, label, chords.written(label)) for start, stop, label in read_lab(file)]
        other = [(label, read) for _, _, label, read in rows if label != read]
        changed.update(read for _, read in other)
        first = first or (f"'{other[0][0]}' in {file}" if other else "")
        targets.append(chords.target((start, stop, read) for start, stop, _, read in rows))
    if changed:
        warnings.warn(
            f"{changed.total()} labels are none of chords and are read as no chord ({changed['N']}) or as unknown "
            f"({changed['X']}), first {first}",
            stacklevel=2,
        )
    return targets


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the ``.lab`` files and the audio files below a folder, in order; hidden ones are left out, links are followed."""
    labs: list[Path] = []
    audio: list[Path] = []
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        names = [] if real in seen else sorted(name for name in names if not name.startswith("."))
        seen.add(real)
        labs += [Path(parent, name) for name in names if name.lower().endswith(".lab")]
        audio += [Path(parent, name) for name in names if is_audio_name(name)]
    return labs, audio


def audio_of(labs: Sequence[Path], audio: Iterable[Path]) -> dict[Path, Path]:
    """Return the audio file of each annotation that has one.

    Raises:
        MarbleError: two files in different folders fit an annotation equally, or two annotations a file.
    """
    named: dict[str, tuple[list[Path], list[Path]]] = {}
    for lab in labs:
        named.setdefault(_folded(lab.stem), ([], []))[0].append(lab)
    for path in audio:
        if _folded(path.stem) in named:
            named[_folded(path.stem)][1].append(path)
    pairs = [pair for group in named.values() for pair in _pairs(*group)]
    lab_of: dict[Path, Path] = {}
    path_of: dict[Path, Path] = {}
    for lab, path in pairs:
        for name, partner, partners in ((lab, path, path_of), (path, lab, lab_of)):
            # Files beside each other are formats of one song.
            if partners.setdefault(name, partner).parent != partner.parent:
                raise MarbleError(
                    f"{name} may belong to {partners[name]} or to {partner}: keep one, or give both sides the same folders."
                )
    return {lab: path_of[lab] for lab in labs if lab in path_of}


def _pairs(labs: list[Path], audio: list[Path]) -> list[tuple[Path, Path]]:
    """Return annotations and audio files of one name that agree with no other better than with each other."""
    shared = {(lab, path): _shared(lab, path) for lab in labs for path in audio}
    best_of_lab = {lab: max((shared[lab, path] for path in audio), default=0) for lab in labs}
    best_of_path = {path: max(shared[lab, path] for lab in labs) for path in audio}
    return [pair for pair, count in shared.items() if count == best_of_lab[pair[0]] == best_of_path[pair[1]]]


def _shared(lab: Path, path: Path) -> int:
    pairs = zip(map(_folded, lab.parts[-2::-1]), map(_folded, path.parts[-2::-1]), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), len(path.parts))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
