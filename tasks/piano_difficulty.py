"""Piano difficulty: which of 11 grades (0 to 10) a recorded piano piece has (PSyllabus).

Data
    7,901 recordings of piano pieces with the grade of the Piano Syllabus community (Ramoneda et al. 2025); the record at Zenodo
    is opened on request, for research, and links to videos. ``<data root>/psyllabus`` holds two of its files as the authors'
    code reads them, ``split_audio.json``: ``{"0": {"train": {title: grade}, "val": …, "test": …}, … "4": …}``, and
    ``new_clean_data.json``: ``{title: {…}}``, where ``start`` and ``end`` (or ``only_start``, ``only_end``), in seconds, cut
    the piece from its video; and the sound of the videos as ``mp3/<title>.mp3``.
Split
    The authors' five, 4,736 / 1,576 / 1,589. Each test part has the same distribution of grades, and titles and grades of all
    five are compared by sha256 with the predictions that the authors published (github.com/PRamoneda/audio-difficulty at
    3c680ce); the other two parts are not checked. Composers, and some videos, stand in more than one part.
    piano-difficulty is split 0; a report needs the mean over it and piano-difficulty-1 to -4.
Kind
    ordinal, as the authors train: squared error of 11 linear outputs (no sigmoid) against ones up to the grade and zeros
    beyond; the predicted grade is the number of leading outputs above one half, less one.
Window
    30 s; OMAR-RQ overlaps them by half (``--protocol omar``).
Metrics
    ordinal_mse (main): the mean over grades of the mean squared error within each, which is the MSE of the authors and of
    OMAR-RQ; ordinal_balanced_accuracy; kendall_tau (tau-b). The best constant has a plain mean squared error of 8.40.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from marble.errors import MarbleError
from marble.task import SPLITS, Clip, Resource, Split, Task
from marble.tasks.official import existing_folder, official_bytes
from marble.tasks.splits import ALIASES

ADDRESS = "https://zenodo.org/records/14794592"
# Of the lines "<title>\t<grade>\n" of each test part, in the order of the titles.
SHA256 = {
    "0": "eddf0f625891d78f2ae7098242d0821efaadadaaa06eacbb1415b98f5f093e7b",
    "1": "edd9f36381880530f94f57d09dc6d05f06605336eea8b81b906e331c11911ac8",
    "2": "0c8756ed432149b9b9f0c0eadf0220676312279de4af6145d843adb17c024cb1",
    "3": "e919d93b2ec5db2cf0b146bb4bd7257db3e610e7c2a18cd0d0861b4d2c7b7601",
    "4": "cd0572c23c834772fb88208288376b383d1561b5c0e9de650e5937c0230ebf1a",
}


def _clips(root: Path, number: str) -> list[Clip]:
    home = root / "psyllabus"
    parts = _parts(home / "split_audio.json", number)
    lines = "".join(f"{title}\t{grade}\n" for title, grade in sorted(parts["test"].items()))
    if hashlib.sha256(lines.encode()).hexdigest() != SHA256[number]:
        raise MarbleError(
            f"The test part of split {number} in {home.absolute()} is not the published one: fetch {ADDRESS} again."
        )
    cuts = _cuts(home / "new_clean_data.json")
    audio = existing_folder([home / "mp3"], "the recordings <title>.mp3", ADDRESS)
    return [
        Clip(title, audio / f"{title}.mp3", split, str(grade), *cuts.get(title, (0.0, None)))
        for split in SPLITS
        for title, grade in parts[split].items()
    ]


def _parts(file: Path, number: str) -> dict[Split, dict[str, int]]:
    """Return the grades of the pieces in each part of a split."""
    content = official_bytes(file, None, f"{ADDRESS} (access on request)")
    try:
        parts = {ALIASES[part]: dict(grades) for part, grades in json.loads(content)[number].items()}
        return {split: parts[split] for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MarbleError(f"{file.absolute()} does not hold three parts of split {number}: fetch {ADDRESS} again.") from error


def _cuts(file: Path) -> dict[str, tuple[float, float | None]]:
    """Return begin and end of each piece in its recording, in seconds."""
    try:
        pieces = json.loads(official_bytes(file, None, f"{ADDRESS} (access on request)")).items()
        cuts = {title: [piece.get(name, piece.get(f"only_{name}")) for name in ("start", "end")] for title, piece in pieces}
        return {title: (float(start or 0), None if end is None else float(end)) for title, (start, end) in cuts.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise MarbleError(f"{file.absolute()} does not tell where the pieces begin and end: fetch {ADDRESS} again.") from error


def _task(name: str, number: str) -> Task:
    return Task(
        name=name,
        version=1,
        description=f"Which of 11 grades of difficulty a recorded piano piece has (split {number} of 5).\n\n{__doc__}",
        kind="ordinal",
        labels=tuple(map(str, range(11))),
        metrics=("ordinal_mse", "ordinal_balanced_accuracy", "kendall_tau"),
        clips=lambda root: _clips(root, number),
        citation="Ramoneda et al., Can audio reveal music performance difficulty? Insights from the Piano Syllabus dataset, "
        "IEEE/ACM TASLP 2025",
        licence="on request, research use only",
        source=ADDRESS,
        window=30.0,
        audio_from=("YouTube",),
        split_sizes={"train": 4_736, "valid": 1_576, "test": 1_589},
        resources=(
            Resource("psyllabus/split_audio.json", "on request, research use", by_hand=f"ask for access at {ADDRESS}"),
            Resource("psyllabus/new_clean_data.json", "on request, research use", by_hand=f"ask for access at {ADDRESS}"),
            Resource("psyllabus/mp3", "on request, research use", holds="*.mp3", by_hand=f"ask for access at {ADDRESS}"),
        ),
    )


DIFFICULTY_0 = _task("piano-difficulty", "0")
DIFFICULTY_1 = _task("piano-difficulty-1", "1")
DIFFICULTY_2 = _task("piano-difficulty-2", "2")
DIFFICULTY_3 = _task("piano-difficulty-3", "3")
DIFFICULTY_4 = _task("piano-difficulty-4", "4")
