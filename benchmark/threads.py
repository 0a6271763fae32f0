"""Threads that start, or end the work in one sentence."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from marble.errors import MarbleError, one_line

# Address space that must be free before a thread starts: its stack and what it needs first.
START_BYTES = 2**25


class Threads(ThreadPoolExecutor):
    """A pool of threads; see `ThreadPoolExecutor`."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Start a call in a thread.

        Raises:
            MarbleError: memory or a limit of the system does not allow another thread.
        """
        try:
            if len(self._threads) < self._max_workers:  # Python waits for ever for a thread that starts and finds no memory
                mmap.mmap(-1, START_BYTES).close()
            return super().submit(function, *arguments, **options)
        except (RuntimeError, MemoryError, OSError) as error:
            raise no_start("thread", error) from error


def no_start(what: str, error: Exception) -> MarbleError:
    """Return the sentence for a thread or a process that cannot be started."""
    return MarbleError(
        f"A {what} cannot be started ({one_line(error)}), for want of memory or by a limit on memory (ulimit -v) or processes "
        "(ulimit -u): use fewer --workers, free memory or raise the limit, and run the same command again."
    )
