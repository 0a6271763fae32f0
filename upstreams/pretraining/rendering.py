"""Audio that is computed while it is needed, in worker processes.

This module imports no torch, nor do the workers, so that they start at once and are small.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from threading import Thread

import numpy as np

from marble.audio import BadAudioError
from marble.errors import MarbleError


class Stream:
    """Segments without end: `render` is a function of a module from (number, seconds, sample rate in Hz) to float32[N]."""

    def __init__(self, render: Callable[[int, float, int], np.ndarray], seconds: float, sample_rate: int):
        self.render, self.seconds, self.sample_rate = render, seconds, sample_rate
        self.hours: float | None = None
        self.refused: dict[str, str] = {}

    def decoded(self, numbers: Iterator[int], workers: int, ahead: int) -> Generator[tuple[str, np.ndarray | BadAudioError]]:
        """Yield for each number its name and samples float32[N], in order, computed up to `ahead` segments ahead.

        Raises:
            MarbleError: a worker was killed, for want of memory as a rule.
        """
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
        try:
            for number in numbers:
                waiting.append((number, pool.submit(self.render, number, self.seconds, self.sample_rate)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield f"segment {first}", future.result()
        except BrokenProcessPool as error:
            for worker in active_children():
                worker.kill()  # those that are left do not heed the pool, see `_begin`
            raise MarbleError("A worker that renders audio was killed: use fewer --workers, or free memory.") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Outlive the signals that ask the training to stop, which may reach all its processes, but not the training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)
