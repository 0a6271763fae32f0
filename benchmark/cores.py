"""The cores that this process may use: by its affinity and, in a container, by its share of CPU time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """Return the number of cores that this process may use, at least 1."""
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
