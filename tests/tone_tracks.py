"""A task of frames in miniature: tracks of tones that change, whose pitch is the answer of every frame."""

from pathlib import Path

import numpy as np
import soundfile

from marble.frames import Grid, Spans
from marble.task import Clip, Frames, Task

RATE = 16_000
TONES = {"low": 220.0, "middle": 880.0, "high": 3520.0}
SPLITS = ("train", "train", "train", "train", "valid", "valid", "test", "test")


def write_track(path: Path, seed: int, before: float = 0.4, after: float = 0.6) -> Spans:
    """Write a track of six tones with noise `before` the first and `after` the last, and return where they are."""
    random = np.random.default_rng(seed)
    rows, start = [], before
    for _ in range(6):
        stop = round(start + random.uniform(0.5, 1.2), 3)
        rows.append((start, stop, str(random.choice(list(TONES)))))
        start = stop
    time = np.arange(round((start + after) * RATE)) / RATE
    signal = 0.02 * random.standard_normal(len(time))
    for begin, stop, label in rows:
        inside = (time >= begin) & (time < stop)
        signal[inside] += 0.4 * np.sin(2 * np.pi * TONES[label] * time[inside])
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE)
    return Spans(tuple(rows))


def encode(target: Spans, labels: tuple[str, ...], grid: Grid, frames: int) -> np.ndarray:
    """The class of each frame."""
    return target.classes(labels, grid, frames)


def encode_tags(target: Spans, labels: tuple[str, ...], grid: Grid, frames: int) -> np.ndarray:
    """One for the tag of each frame; outside of all intervals nothing is scored."""
    classes = target.classes(labels, grid, frames)
    tags = np.eye(len(labels), dtype=np.float32)[classes]
    tags[classes < 0] = np.nan
    return tags


def tone_task(root: Path, *, splits=SPLITS, kind: str = "frame_classes", rate: float | None = 10.0) -> Task:
    """The task over tracks that are written below `root`."""
    clips = []
    for number, split in enumerate(splits):
        path = root / f"track{number}.wav"
        clips.append(Clip(f"track{number}", path, split, write_track(path, number)))
    return Task(
        name="tone-tracks",
        version=1,
        description="tones",
        kind=kind,
        labels=tuple(TONES),
        metrics=("frame_accuracy",) if kind == "frame_classes" else ("frame_f",),
        clips=lambda _: clips,
        citation="none",
        licence="none",
        source="drawn",
        frames=Frames(rate=rate, first=0.05, encode=encode if kind == "frame_classes" else encode_tags),
    )
