"""Threads that start, or end the work in one sentence, and the cores that this process may use for them."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
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


def usable_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and its share of a container, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, quotas())]))


def quotas(mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[float]:
    """Yield the limits, in cores, of the control groups that this process is in, of version 1 and 2.

    Args:
        mount: folder of the control groups.
        own: file that names those of this process.
    """
    lines = []
    with suppress(OSError):
        lines = own.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = mount / controllers if controllers else mount
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):
                yield _quota(folder)
            if folder == root:
                break


def _quota(folder: Path) -> float:
    """Return the limit of a control group, in cores; without one, ValueError or OSError."""
    if (limit := folder / "cpu.max").exists():
        quota, period = limit.read_text().split()
    else:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    if float(quota) <= 0:
        raise ValueError("no limit")
    return float(quota) / float(period)
