"""VocalSet: which of 20 professional singers sings, and with which of 10 techniques.

Data
    10.1 h of unaccompanied singing, 44.1 kHz wav (Wilkins et al. 2018), version 1.1: the folder ``FULL`` of the archive,
    ``FULL/<female1..male11>/<arpeggios|excerpts|long_tones|scales>/<technique>/<recording>.wav``, in ``<data root>/vocalset``.
    Singer and technique are taken from the folders: 28 file names lack the singer, and names of techniques contain each
    other. The id of a recording is its path below ``FULL``, with the singer before the name where it is missing. Five
    recordings are left out (`LEFT_OUT`): copies, or not in the paper's table. ``marble data prepare`` renames and removes
    these 33.
Split
    By recording; no lists were ever published, and MARBLE's split depends on the order of a folder. vocalset-singer: 12:8:5,
    dealt within each singer in the order of the sha1 of the ids. vocalset-technique: singers f2 f8 m3 m5 m10 test, as
    published; f1 f5 f9 m1 m6 m11 validation, marble's choice, since the papers hold out six singers without naming them; the
    other nine train.
Window
    3 s, as in MARBLE (which also drops the rest, trims leading silence and scales each chunk).
Metrics
    accuracy of recordings (main) and of their 3 s windows (window_accuracy, which MARBLE and MuQ report).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from marble.errors import MarbleError
from marble.task import Clip, Resource, Split, Task
from marble.tasks.official import existing_folder

ADDRESS = "https://zenodo.org/records/1203819"
ARCHIVE = f"{ADDRESS}/files/VocalSet11.zip"
SINGERS = {f"female{number}": f"f{number}" for number in range(1, 10)}
SINGERS |= {f"male{number}": f"m{number}" for number in range(1, 12)}
TECHNIQUES = (
    "belt", "breathy", "inhaled", "lip_trill", "spoken", "straight", "trill", "trillo", "vibrato", "vocal_fry",
)  # fmt: skip
TEST_SINGERS = {"f2", "f8", "m3", "m5", "m10"}
VALID_SINGERS = {"f1", "f5", "f9", "m1", "m6", "m11"}
LEFT_OUT = {
    "f2_scales_vibrato_a(1).wav", "caro_vibrato.wav", "dona_vibrato.wav", "row_vibrato.wav", "slow_vibrato_arps.wav",
}  # fmt: skip


def _recordings(root: Path) -> dict[str, tuple[Path, str, str]]:
    """Return path, singer and technique of each recording, by id."""
    home = root / "vocalset"
    full = existing_folder([home / "FULL", home / "VocalSet" / "FULL"], "one folder a singer", ARCHIVE)
    recordings = {}
    for file in sorted(full.glob("*/*/*/*")):
        folder, _, technique, name = file.relative_to(full).parts
        if file.suffix.lower() != ".wav" or name.startswith(".") or _is_left_out(file):
            continue
        if folder not in SINGERS:
            raise MarbleError(f"{file.parents[2].absolute()} is no singer of VocalSet: unpack {ARCHIVE} again.")
        recording = _named(file).relative_to(full).with_suffix("").as_posix()
        if recording in recordings:
            other = recordings[recording][0].name
            raise MarbleError(f"{file.absolute()} and {other} beside it are one recording: remove one of them.")
        recordings[recording] = (file, SINGERS[folder], technique)
    return recordings


def _is_left_out(file: Path) -> bool:
    return file.parent.name == "vibrato" and file.name in LEFT_OUT


def _named(file: Path) -> Path:
    """Return the path of a recording, with the singer before the name where it is missing."""
    singer = SINGERS[file.parents[2].name]
    return file if re.match(r"[fm]\d+_", file.name) else file.with_name(f"{singer}_{file.name}")


def _repair(full: Path) -> None:
    """Remove the recordings that are left out and complete the names of the others."""
    for file in sorted(full.glob("*/*/*/*.wav")):
        if _is_left_out(file):
            file.unlink()
        elif file.parents[2].name in SINGERS and not file.name.startswith(".") and not _named(file).exists():
            file.rename(_named(file))


def _singer_clips(root: Path) -> list[Clip]:
    recordings = _recordings(root)
    splits: dict[str, Split] = {}
    for singer in SINGERS.values():
        own = [name for name, (_, by, _) in recordings.items() if by == singer]
        own.sort(key=lambda name: hashlib.sha1(name.encode(), usedforsecurity=False).digest())
        train, valid = round(len(own) * 12 / 25), round(len(own) * 20 / 25)
        splits |= {name: "train" if rank < train else "valid" if rank < valid else "test" for rank, name in enumerate(own)}
    return [Clip(name, file, splits[name], singer) for name, (file, singer, _) in recordings.items()]


def _technique_clips(root: Path) -> list[Clip]:
    return [
        Clip(
            name,
            file,
            "test" if singer in TEST_SINGERS else "valid" if singer in VALID_SINGERS else "train",
            technique,
            artist=singer,
        )
        for name, (file, singer, technique) in _recordings(root).items()
        if technique in TECHNIQUES
    ]


VOCALSET_SINGER = Task(
    name="vocalset-singer",
    version=2,
    description=f"Which of 20 singers of VocalSet sings.\n\n{__doc__}",
    kind="multiclass",
    labels=tuple(SINGERS.values()),
    metrics=("accuracy", "window_accuracy"),
    clips=_singer_clips,
    citation="Wilkins et al., VocalSet: a singing voice dataset, ISMIR 2018",
    licence="CC BY 4.0",
    source=ARCHIVE,
    window=3.0,
    resources=(
        Resource("vocalset/FULL", "CC BY 4.0", (ARCHIVE,), holds="female1", also=("vocalset/VocalSet/FULL",), convert=_repair),
    ),
)
VOCALSET_TECHNIQUE = replace(
    VOCALSET_SINGER,
    name="vocalset-technique",
    description=f"Which of 10 techniques a singer of VocalSet sings with.\n\n{__doc__}",
    labels=TECHNIQUES,
    clips=_technique_clips,
)
