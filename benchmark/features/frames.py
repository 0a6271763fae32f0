"""Frames of a whole track: from the hidden states of overlapping windows to rows of the cache.

Conventions
-----------
- A track is heard in windows that overlap. Each frame is taken from the window in which it lies furthest from an end: windows
  part in the middle of their overlap, the first keeps its start, the last its end. Windows of 30 s start every 24 s, so that
  none gives a frame within 3 s of its ends but at those of the track.
- Starts are multiples of 1.6 s, which is a whole number of frames at 15.625, 18.75, 25, 50, 75 and 100 Hz and of samples at all
  usual rates: all windows have one phase. The last window starts at the first multiple from which it reaches the end, so it
  may be 1.6 s shorter; a track that is shorter than a window is one short window. Windows of less than 4.8 s start at
  multiples of .4 s.
- Frames are stored on the grid of the labels, or on the upstream's own where that is coarser: more bytes would hold no more,
  and reading interpolates (`marble.features.frame_reader`). Frame k of a grid belongs to a track if its centre lies within it.
- A frame is the mean of the frames of the window whose cells it overlaps, weighted by the overlap; beyond the last frame of a
  window its nearest. A layer that is one vector for the window gives this to all of its frames.
- Values are float16 where they fit: the largest of a layer lies between 1/16 and 65,504. Others stay float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from marble.frames import Grid

if TYPE_CHECKING:
    from torch import Tensor

SHARD_TRACKS = 8
_SMALLEST, _LARGEST = 2.0**-4, 65504.0
ROUNDING = 1e-6  # of a frame


class Window(NamedTuple):
    """A window: its samples, its start in seconds, and the frames of the track that it gives; none for a pooling."""

    samples: slice
    start: float
    frames: range


@dataclass(frozen=True)
class FrameReduction:
    """Takes frames of the track from the hidden states of windows.

    Attributes:
        native: the grid of the hidden states of a window.
        stored: the grid of the frames that are kept.
    """

    native: Grid
    stored: Grid
    widening: int = 1

    @classmethod
    def of(cls, native: Grid, labels: Grid) -> FrameReduction:
        """Return the reduction for labels on a grid."""
        return cls(native, labels if labels.rate < native.rate else native)

    @property
    def name(self) -> dict[str, object]:
        """Its part of the key of a cache."""
        return {"frames": self.stored.rate, "first": self.stored.first, "weights": "overlap", "store": "float16"}

    def __call__(self, hidden: Tensor, windows: Sequence[Window]) -> list[Tensor]:
        """Return the frames that each window gives, ``Tensor[F, D]`` in float16 or float32, of ``hidden[B, T, D]``."""
        import torch

        largest = float(hidden.abs().amax())
        fits = largest == 0 or _SMALLEST <= largest <= _LARGEST
        rows: list[Tensor] = []
        for values, window in zip(hidden, windows, strict=True):
            count = len(window.frames)
            offset = self.stored.first + window.frames.start / self.stored.rate - window.start - self.native.first
            if len(values) == 1:
                frames = values.expand(count, -1)
            elif (lag := self._lag(offset)) is not None:
                frames = values[torch.arange(lag, lag + count, device=values.device).clamp(0, len(values) - 1)]
            else:
                weights = overlap_weights(round(offset, 9), count, self.stored.rate, len(values), self.native.rate)
                frames = torch.from_numpy(weights).to(values) @ values
            rows.append(frames.half() if fits else frames)
        return rows

    def _lag(self, offset: float) -> int | None:
        """Return by how many frames the two grids lie apart in a window; None where they differ otherwise."""
        frames = offset * self.native.rate
        same = self.stored.rate == self.native.rate and abs(frames - round(frames)) < ROUNDING
        return round(frames) if same else None


@lru_cache(maxsize=64)
def overlap_weights(offset: float, count: int, rate: float, frames: int, native_rate: float) -> np.ndarray:
    """Return how much each frame of a window counts for each new frame, ``float32[count, frames]`` with rows of sum 1.

    Args:
        offset: centre of the first new frame less that of the first frame of the window, in seconds.
        count, rate: number and rate of the new frames.
        frames, native_rate: those of the window.
    """
    centres = offset + np.arange(count)[:, None] / rate
    own = np.arange(frames)[None] / native_rate
    upper = np.minimum(centres + 0.5 / rate, own + 0.5 / native_rate)
    lower = np.maximum(centres - 0.5 / rate, own - 0.5 / native_rate)
    overlap = upper - lower
    overlap[overlap < ROUNDING / max(rate, native_rate)] = 0.0
    nearest = np.clip(np.rint(centres[:, 0] * native_rate), 0, frames - 1).astype(int)
    outside = overlap.sum(1) == 0
    overlap[outside, nearest[outside]] = 1.0
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


def frames_within(grid: Grid, seconds: float) -> int:
    """Return how many frames of a grid have their centre before a time; at least 1."""
    return max(grid.inside(0.0, seconds, 2**62).stop, 1)
