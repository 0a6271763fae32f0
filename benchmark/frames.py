"""The time axis: grids of frames, and targets that have times.

Conventions
-----------
- Times are in seconds from the start of the file.
- A *grid* has a rate r in Hz and the time f of its first frame. Frame k is *centred* at f + k / r and covers
  [f + (k - 1/2) / r, f + (k + 1/2) / r). Nothing else turns times into frames or frames into times: a grid that labels the
  start of a frame is wrong by half a frame, which a tolerance of 70 ms hides and a continuity score does not.
- An event at t lies in frame floor((t - f) r + 1/2). An interval [start, stop) holds the frames whose centre it holds.
- A time that floating point puts 1e-9 before the edge of a frame counts as on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Grid:
    """Frames at equal distances.

    Attributes:
        rate: frames a second, in Hz.
        first: centre of frame 0, in seconds.
    """

    rate: float
    first: float = 0.0

    def times(self, frames: int) -> np.ndarray:
        """Return the centres of the first frames in seconds, ``float64[frames]``."""
        return self.first + np.arange(frames) / self.rate

    def frame(self, seconds: float) -> int:
        """Return the frame that holds a time; negative before the first."""
        return math.floor((seconds - self.first) * self.rate + 0.5 + _ROUNDING)

    def inside(self, start: float, stop: float, frames: int) -> slice:
        """Return the frames, of so many, whose centre lies in [start, stop)."""
        begin, end = (math.ceil((edge - self.first) * self.rate - _ROUNDING) for edge in (start, stop))
        return slice(min(max(begin, 0), frames), min(max(end, 0), frames))

    def edges(self, frames: int) -> np.ndarray:
        """Return the edges of the first frames in seconds, ``float64[frames + 1]``; none is before 0."""
        return np.maximum(self.first + (np.arange(frames + 1) - 0.5) / self.rate, 0.0)


@dataclass(frozen=True)
class Spans:
    """Labelled intervals in order: (start, stop, label), the stop not included."""

    rows: tuple[tuple[float, float, str], ...]

    @property
    def stop(self) -> float:
        """The end of the last interval, in seconds."""
        return self.rows[-1][1] if self.rows else 0.0

    def classes(self, labels: Sequence[str], grid: Grid, frames: int) -> np.ndarray:
        """Return the number of the label that holds the centre of each frame, ``int64[frames]``; -1 where none of them does."""
        number = {label: index for index, label in enumerate(labels)}
        classes = np.full(frames, -1, dtype=np.int64)
        for start, stop, label in self.rows:
            classes[grid.inside(start, stop, frames)] = number.get(label, -1)
        return classes

    def tags(self, labels: Sequence[str], grid: Grid, frames: int) -> np.ndarray:
        """Return 1 for each label that holds the centre of each frame, ``float32[frames, labels]``; intervals may overlap."""
        number = {label: index for index, label in enumerate(labels)}
        tags = np.zeros((frames, len(labels)), dtype=np.float32)
        for start, stop, label in self.rows:
            if label in number:
                tags[grid.inside(start, stop, frames), number[label]] = 1.0
        return tags

    @classmethod
    def of(cls, classes: np.ndarray, labels: Sequence[str], grid: Grid) -> Spans:
        """Return the intervals of runs of equal classes, ``int64[frames]``; frames of class -1 have none."""
        edges = grid.edges(len(classes)).tolist()
        begins = np.flatnonzero(np.diff(classes, prepend=-2)).tolist()
        runs = zip(begins, [*begins[1:], len(classes)], strict=True)
        return cls(tuple((edges[a], edges[b], labels[classes[a]]) for a, b in runs if classes[a] >= 0))


@dataclass(frozen=True)
class Events:
    """Instants in order, in seconds, each with a label, such as its position in the bar, or None."""

    times: tuple[float, ...]
    labels: tuple[str | None, ...]
