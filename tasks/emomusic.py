"""EmoMusic: how arousing and how pleasant a 45 s excerpt is (two numbers from 1 to 9).

Data
    744 excerpts of 45 s, mp3 (Soleymani et al. 2013; 1000 before duplicates were removed; the released tables have none).
    ``<data root>/emomusic`` holds the content of the two official archives: ``songs_info.csv`` and ``static_annotations.csv``
    (directly or in ``annotations``) and ``clips_45seconds/<id>.mp3``. Stray blanks in cells are stripped.
Split
    That of jukemir (Castellon, Donahue and Liang 2021): 504 / 115 / 125. The evaluation set of MediaEval 2013 is test; of
    the development set an artist is in validation if the sha1 of the name (ASCII letters in lower case, single blanks) is
    8 or 9 modulo 10.
Targets
    (arousal, valence), in this order: mean ratings, z-scored with mean and deviation of the development set, train and
    validation together. R² does not change with such a scale.
Window
    5 s over all 45 s; the mean is the track's answer. MARBLE v1 uses the first 30 s only, v2 three windows of 15 s
    (``--set windows.seconds=15``).
Metrics
    r2 (main: the mean of both), r2_arousal, r2_valence. Arousal is easier (about 0.75 against 0.61); a table with the opposite,
    such as Table 1 of the layer-wise study, has its two rows swapped.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np

from marble.errors import MarbleError
from marble.task import Clip, Resource, Split, Task
from marble.tasks.official import existing_folder, official_bytes

ADDRESS = "http://cvml.unige.ch/databases/emoMusic"
COLUMNS = {
    "songs_info.csv": {"song_id", "Artist", "Mediaeval 2013 set"},
    "static_annotations.csv": {"song_id", "mean_arousal", "mean_valence"},
}


def _clips(root: Path) -> list[Clip]:
    home = root / "emomusic"
    songs, ratings = (_rows(home, name) for name in COLUMNS)
    audio = existing_folder([home / "clips_45seconds"], "the excerpts <id>.mp3", f"{ADDRESS}/clips_45sec.tar.gz")
    try:
        rated = {row["song_id"]: (float(row["mean_arousal"]), float(row["mean_valence"])) for row in ratings}
    except ValueError as error:
        raise MarbleError(f"A rating in {home.absolute()} is no number ({error}): unpack it again.") from error
    unrated = [row["song_id"] for row in songs if row["song_id"] not in rated]
    if unrated:
        raise MarbleError(f"The song {unrated[0]} of {home.absolute()} has no row in static_annotations.csv: unpack it again.")
    splits = {row["song_id"]: _split(row) for row in songs}
    developed = np.array([rated[song] for song, split in splits.items() if split != "test"])
    mean, deviation = developed.mean(axis=0), developed.std(axis=0)
    return [
        Clip(
            id=song,
            path=audio / f"{song}.mp3",
            split=split,
            target=tuple(((np.array(rated[song]) - mean) / deviation).tolist()),
        )
        for song, split in splits.items()
    ]


def _rows(home: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of an annotation table, without the blanks around names and values."""
    file = next((path for path in (home / name, home / "annotations" / name) if path.is_file()), home / name)
    # Only ASCII letters matter, so the encoding of the table does not.
    text = official_bytes(file, None, f"{ADDRESS}/annotations.tar.gz, unpack it").decode("utf-8", "replace")
    header, *lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if line] or [[]]
    if not COLUMNS[name] <= set(header) or any(len(line) != len(header) for line in lines):
        raise MarbleError(f"{file.absolute()} is not the table of EmoMusic: unpack {ADDRESS}/annotations.tar.gz again.")
    return [dict(zip(header, line, strict=True)) for line in lines]


def _split(row: dict[str, str]) -> Split:
    if row["Mediaeval 2013 set"] == "evaluation":
        return "test"
    letters = "".join(letter for letter in row["Artist"].lower() if letter.isascii() and (letter.isalpha() or letter.isspace()))
    number = int(hashlib.sha1(" ".join(letters.split()).encode(), usedforsecurity=False).hexdigest(), 16)
    return "train" if number % 10 < 8 else "valid"


EMOMUSIC = Task(
    name="emomusic",
    version=1,
    description=__doc__,
    kind="regression",
    labels=("arousal", "valence"),
    metrics=("r2", "r2_arousal", "r2_valence"),
    clips=_clips,
    citation="Soleymani et al., 1000 songs for emotional analysis of music, CrowdMM workshop at ACM Multimedia 2013; "
    "Castellon, Donahue and Liang, Codified audio language modeling, ISMIR 2021 (split)",
    licence="annotations CC BY-NC, audio from the Free Music Archive under the licence of each track",
    source=f"{ADDRESS}/clips_45sec.tar.gz and {ADDRESS}/annotations.tar.gz (http: the certificate of https is not valid)",
    window=5.0,
    audio_from=("the Free Music Archive",),
    split_sizes={"train": 504, "valid": 115, "test": 125},
    resources=(
        Resource(
            "emomusic/annotations",
            "CC BY-NC",
            (f"{ADDRESS}/annotations.tar.gz",),
            holds="static_annotations.csv",
            also=("emomusic",),
        ),
        Resource(
            "emomusic/clips_45seconds", "of each track, Free Music Archive", (f"{ADDRESS}/clips_45sec.tar.gz",), holds="*.mp3"
        ),
    ),
)
