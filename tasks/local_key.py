"""Local key: which of 24 keys a song is in at each second.

Data
    The key annotations of Isophonics, below ``<data root>/isophonics``: ``keylab/<artist>/<album>/<title>.lab`` in any folder,
    with lines such as ``0.456 83.139 Key Bb`` or ``83.139 90.1 Key A:minor``. The audio is the user's own, found by name and
    album (`marble.tasks.lab_files`).
Labels
    C to B major, then C to B minor, spelled with flats. ``Silence`` and modal keys (``D:mixolydian``) are not scored.
Split
    3:1:1 by albums. Most songs are by the Beatles: artists are not kept in one split.
Frames
    1 Hz, the first centred at 0.5 s; a frame has the key that holds its centre.
Metrics
    local_key_score (main): seconds weighted by MIREX's score of the key, as for ``giantsteps-key``, over seconds with a major
    or minor key; frame_accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from marble.chords import PITCH_CLASSES, pitch_class
from marble.frames import Spans
from marble.task import Frames, Resource, Task
from marble.tasks.chords import ISOPHONICS, clips_of, isophonics
from marble.tasks.lab_files import read_lab

KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in PITCH_CLASSES)
_KEY = re.compile(r"(?:Key\s+)?(?P<tonic>[A-G](?:b*|#*))(?::?(?P<mode>maj|major|min|minor|m))?")


def key_of(label: str) -> str:
    """Return the key of a label as one of `KEYS`; any other label as it is."""
    match = _KEY.fullmatch(label)
    if not match:
        return label or "unknown"
    mode = "minor" if match["mode"] in ("min", "minor", "m") else "major"
    return f"{PITCH_CLASSES[pitch_class(match['tonic'])]} {mode}"


def _read(files: Sequence[Path]) -> list[Spans]:
    """Return the keys in each file; errors as `read_lab`."""
    return [Spans(tuple((start, stop, key_of(label)) for start, stop, label in read_lab(file))) for file in files]


LOCAL_KEY = Task(
    name="local-key",
    version=1,
    description=__doc__,
    kind="frame_classes",
    labels=KEYS,
    metrics=("local_key_score", "frame_accuracy"),
    clips=lambda root: clips_of(root / "isophonics", isophonics(root, "keylab"), _read),
    frames=Frames(rate=1.0, first=0.5, encode=Spans.classes),
    citation="Mauch et al., OMRAS2 metadata project 2009, ISMIR 2009",
    licence="not stated for annotations; the audio is commercial",
    source=f"annotations: {ISOPHONICS}; audio: the user's own",
    audio_from=("commercial releases",),
    resources=(
        Resource("isophonics/annotations", "not stated", holds="**/keylab/*/*/*.lab", by_hand=f"from {ISOPHONICS}"),
        Resource(
            "isophonics/audio", "commercial recordings", holds="**/*.*", by_hand="your own copies, <album>/<title> as in keylab"
        ),
    ),
    notes=("artists are not kept in one split: most songs are by the Beatles; albums are",),
)
