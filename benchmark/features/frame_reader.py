"""Frames read from the cache in bounded memory, on the grid of the labels.

Conventions
-----------
- A read takes the rows that it needs and no others (`marble.features.cache.Space.slice`). As many tracks as a budget allows
  stay in memory once they were read, as they are stored; which these are depends on sizes and order alone.
- Where labels are finer than the stored frames, values between two frames are interpolated linearly; before the first and after
  the last centre they are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from marble.features.cache import Space
from marble.frames import Grid

_T = TypeVar("_T")
_R = TypeVar("_R")
_AHEAD = 2
# One thread, since each keeps freed memory of its own.
_READING = ThreadPoolExecutor(1)


class FrameReader:
    """The frames of some tracks in some layers.

    Args:
        space: of the cache.
        keys: of the tracks; the first stay in memory first.
        layers: all with the same frames.
        stored: the grid in the cache.
        grid: that of the labels.
        memory: bytes of tracks that stay in memory at most.

    Attributes:
        frames: of each track on the grid of the labels, ``int64[tracks]``.
        resident: bytes that stay in memory once they were read.
        bytes: of all tracks and layers, as stored.
    """

    def __init__(self, space: Space, keys: Sequence[str], layers: Sequence[int], stored: Grid, grid: Grid, memory: int):
        self.space, self.keys, self.stored, self.grid = space, list(keys), stored, grid
        self.rows = space.rows(keys, layers[0])
        self.frames = np.array([self._frames(int(rows)) for rows in self.rows])
        self._held: dict[tuple[int, int], np.ndarray | None] = {}
        self.resident = self.bytes = 0
        row_bytes = {layer: space.slice(keys[0], layer, 0, 1).nbytes for layer in layers}
        for track, rows in enumerate(self.rows.tolist()):
            for layer in layers:
                size = rows * row_bytes[layer]
                self.bytes += size
                if self.resident + size <= memory:
                    self.resident += size
                    self._held[layer, track] = None

    def seconds(self, track: int) -> float:
        """Return the time at which the last stored frame of a track ends."""
        return float(self.stored.edges(int(self.rows[track]))[-1])

    def read(self, track: int, layer: int, begin: int, end: int) -> np.ndarray:
        """Return frames of a track on the grid of the labels, float16 or float32 ``[end - begin, D]``.

        Raises:
            MarbleError: they are no longer in the cache, or damaged.
        """
        if self.grid == self.stored:
            return self._stored(track, layer, begin, end)
        last = int(self.rows[track]) - 1
        position = (self.grid.times(end)[begin:] - self.stored.first) * self.stored.rate
        position = np.clip(position, 0, last)
        lower = np.minimum(position.astype(np.int64), max(last - 1, 0))
        first, stop = int(lower[0]), min(int(lower[-1]) + 2, last + 1)
        rows = self._stored(track, layer, first, stop).astype(np.float32)
        share = (position - lower).astype(np.float32)[:, None]
        upper = np.minimum(lower + 1, last)
        return rows[lower - first] * (1 - share) + rows[upper - first] * share

    def _stored(self, track: int, layer: int, begin: int, end: int) -> np.ndarray:
        if (layer, track) not in self._held:
            return self.space.slice(self.keys[track], layer, begin, end)
        held = self._held[layer, track]
        if held is None:
            held = self._held[layer, track] = self.space.slice(self.keys[track], layer, 0, int(self.rows[track]))
        return held[begin:end]

    def _frames(self, rows: int) -> int:
        """Return how many frames of the labels lie within so many stored ones."""
        if self.grid == self.stored:
            return rows
        return max(self.grid.inside(0.0, float(self.stored.edges(rows)[-1]), 2**62).stop, 1)


def ahead(work: Callable[[_T], _R], items: Iterable[_T]) -> Generator[_R]:
    """Yield the work of each item in order, done by the one thread that reads, up to two items ahead."""
    waiting: deque[Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(_READING.submit(work, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for result in waiting:
            result.cancel()
