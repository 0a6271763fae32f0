"""The number of threads for steps that repeat: chosen by their speed, since a busy machine makes more threads slower.

Threads that wait for each other at every product lose most where other processes hold the cores: two are several times slower
than one on a machine of two cores with much to do. So each count (1, 2, 4, …) takes a few steps, the fastest goes on, and after
half a minute the trial is repeated. The bank computes the same bytes with any number of threads (tests/probe).
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from statistics import median

import torch

_STEPS_OF_TRIAL = 5
_SECONDS_BETWEEN_TRIALS = 30.0


class ThreadChoice:
    """The number of threads for the next step.

    Args:
        most: threads at most.

    Attributes:
        count: threads of the next step.
    """

    def __init__(self, most: int):
        self._candidates = sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})
        self._begin()

    @contextmanager
    def step(self) -> Generator[None]:
        """Run a step with `count` threads and take notice of its time."""
        before = torch.get_num_threads()
        torch.set_num_threads(min(self.count, before))
        begin = time.perf_counter()
        try:
            yield
        finally:
            torch.set_num_threads(before)
        self.note(time.perf_counter() - begin)

    def note(self, seconds: float) -> None:
        """Take notice of the time of a step with `count` threads."""
        if self._chosen:
            self._left -= seconds
            if self._left <= 0:
                self._begin()
            return
        times = self._times[self.count]
        times.append(seconds)
        if len(times) < _STEPS_OF_TRIAL:
            return
        untried = [count for count in self._candidates if not self._times[count]]
        self.count = untried[0] if untried else min(self._candidates, key=lambda count: median(self._times[count]))
        self._chosen = not untried

    def _begin(self) -> None:
        self._times: dict[int, list[float]] = {count: [] for count in self._candidates}
        self._left, self._chosen, self.count = _SECONDS_BETWEEN_TRIALS, len(self._candidates) == 1, self._candidates[0]
