"""Confused labels and hard clips, from the answers to single tracks.

Conventions
-----------
- The *error* of an answer is 0 or 1 for a label (``multiclass``, ``ordinal``); for tags the share of pairs of a tag that the
  clip has and one that it has not which the answer puts in the wrong order; for numbers the absolute error in deviations of the
  test targets, averaged over dimensions. The error of a clip is the mean over layers and seeds, then over upstreams.
- Confusions are those of the selected layer, all seeds together.
- A file of answers states where a clip lies; it is linked where that file is on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from marble.results.schema import Result

if TYPE_CHECKING:
    import pandas

HARDEST = 15
_LABELS = 30  # of a matrix that still can be read; of more, the most frequent confusions are listed
_PLAYED = {".aac", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"}


@dataclass(frozen=True)
class Confusion:
    """The answers of the selected layer to the test tracks.

    Attributes:
        labels: of the columns.
        counts: a row for each label; empty where there are too many labels.
        pairs: of many labels, the most frequent confusions: label, answer, how many, of how many.
        wrong, total: how many answers are wrong, of how many.
    """

    labels: list[str]
    counts: list[list[int]]
    pairs: list[tuple[str, str, int, int]]
    wrong: int
    total: int


@dataclass(frozen=True)
class HardClip:
    """A test track that is often answered wrongly.

    Attributes:
        track: its name.
        target: what is true.
        error: the mean error of the answers.
        answer: the most frequent wrong label and its share of all answers; None for tags and numbers.
        audio: URI of its file where that is on this machine.
        played: whether browsers play such files.
    """

    track: str
    target: str
    error: float
    answer: tuple[str, float] | None
    audio: str | None
    played: bool


def confusion(result: Result, answers: pandas.DataFrame) -> Confusion | None:
    """Return the confusions of the selected layer on test; None for a kind without single labels."""
    if result.task.kind not in ("multiclass", "ordinal"):
        return None
    rows = answers[(answers.layer == str(result.selected.layer)) & (answers.split == "test")]
    targets, given = rows.target.str[0], rows.prediction.fillna("below the lowest")
    labels = [*result.task.labels, *sorted(set(given) - set(result.task.labels))]
    number = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(result.task.labels), len(labels)), dtype=int)
    np.add.at(counts, (targets.map(number), given.map(number)), 1)
    right = np.trace(counts)
    wrong, pairs = int(counts.sum() - right), []
    if len(labels) > _LABELS:
        errors = np.where(np.eye(*counts.shape, dtype=bool), 0, counts)
        for place in np.argsort(-errors, axis=None, kind="stable")[:20]:
            true, answer = np.unravel_index(place, counts.shape)
            if errors[true, answer]:
                pairs.append((labels[true], labels[answer], int(errors[true, answer]), int(counts[true].sum())))
    return Confusion(labels, [] if len(labels) > _LABELS else counts.tolist(), pairs, wrong, int(counts.sum()))


def hardest(results: Sequence[Result], answers: Mapping[str, pandas.DataFrame]) -> list[HardClip]:
    """Return the test tracks of a task with the largest errors, the largest first; none for a kind without a known error.

    Args:
        results: of one task, on the same data.
        answers: of some of the results, by identity.
    """
    import pandas

    kind = results[0].task.kind
    tables = [
        table[table.split == "test"].assign(error=lambda rows, of=result: _ERRORS[kind](rows, of)).drop(columns="logits")
        for result in results
        if kind in _ERRORS and (table := answers.get(result.identity)) is not None
    ]
    if not tables:
        return []
    errors = pandas.concat([table.groupby("track", sort=False).error.mean() for table in tables]).groupby(level=0).mean()
    every = pandas.concat(tables)
    first = every.drop_duplicates("track").set_index("track")
    clips = []
    for track, error in errors.sort_values(ascending=False, kind="stable")[:HARDEST].items():
        if error <= 0:
            break
        rows, answer = every[every.track == track], None
        wrong = rows.prediction[rows.error > 0].dropna()
        if kind in ("multiclass", "ordinal") and len(wrong):
            shares = wrong.value_counts() / len(rows)
            answer = min(shares[shares == shares.max()].index), float(shares.max())
        audio = next((uri for uri in map(local_audio, rows.get("audio", [])) if uri), None)
        target = ", ".join(map(_text, first.target[track])) or "none of its labels"
        played = audio is not None and Path(urlsplit(audio).path).suffix.lower() in _PLAYED
        clips.append(HardClip(str(track), target, float(error), answer, audio, played))
    return clips


def local_audio(uri: object) -> str | None:
    """Return a file URI as this machine writes it, if it names a file that exists; None for anything else."""
    try:
        parts = urlsplit(str(uri))
        path = Path(url2pathname(parts.path))
        if parts.scheme != "file" or parts.netloc or not path.is_absolute() or not path.is_file():
            return None
    except (OSError, ValueError):
        return None
    times = parts.fragment.removeprefix("t=").split(",")
    excerpt = parts.fragment.startswith("t=") and all(time.replace(".", "", 1).isdecimal() for time in times)
    return path.as_uri() + (f"#{parts.fragment}" if excerpt else "")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_label(rows: pandas.DataFrame, result: Result) -> np.ndarray:
    return (rows.target.str[0] != rows.prediction).to_numpy(dtype=float)


def _of_tags(rows: pandas.DataFrame, result: Result) -> np.ndarray:
    scores = np.stack(rows.logits.to_list())
    tags = np.array([[label in target for label in result.task.labels] for target in map(set, rows.target)])
    tags = np.take_along_axis(tags, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    wrong = (np.cumsum(~tags, axis=1) * tags).sum(1)
    return wrong / np.maximum(tags.sum(1) * (~tags).sum(1), 1)


def _of_numbers(rows: pandas.DataFrame, result: Result) -> np.ndarray:
    targets = np.stack(rows.target.to_list())
    deviation = targets.std(0)
    return (np.abs(np.stack(rows.logits.to_list()) - targets) / np.where(deviation > 0, deviation, 1)).mean(1)


_ERRORS: dict[str, Callable[[pandas.DataFrame, Result], np.ndarray]] = {
    "multiclass": _of_label, "ordinal": _of_label, "multilabel": _of_tags, "regression": _of_numbers,
}  # fmt: skip
