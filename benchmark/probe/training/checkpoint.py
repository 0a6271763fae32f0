"""The checkpoint of a bank: a stopped probing goes on from where it was, at most a minute back, with the same bytes.

Conventions
-----------
- A checkpoint is a checked file (`marble.features.checked`) with all that the next epoch depends on: weights, moments and rates
  of the members that still learn, what is kept of every member, and the states of the random streams.
- It is written at the end of an epoch, once `SECONDS` have passed and twenty times as long as the last one took to write. It
  holds one stack of groups, and is named after their trained files and the combination of a grid; it is removed when these
  are written. ``marble cache gc`` removes those of a week ago.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from marble.features.checked import DAMAGE, read_checked, write_checked

SECONDS = 30.0
TIMES_THE_WRITING = 20


class Stoppable(Protocol):
    """A bank whose state a checkpoint holds."""

    def state(self) -> dict[str, Tensor]:
        """Return all that the next epoch depends on, by name."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over a state."""
        ...


class Checkpoint:
    """The checkpoint of one stack.

    Args:
        path: of its file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._due = time.monotonic() + SECONDS

    def save(self, bank: Stoppable, epoch: int) -> None:
        """Write the state after an epoch, if it is due.

        Raises:
            MarbleError: the disk is full or the folder cannot be written.
        """
        begin = time.monotonic()
        if begin < self._due:
            return
        tensors = bank.state() | {"epoch": torch.tensor(epoch)}
        write_checked(self.path, "probing", {name: values.numpy(force=True) for name, values in tensors.items()})
        now = time.monotonic()
        self._due = now + max(SECONDS, TIMES_THE_WRITING * (now - begin))

    def restore(self, bank: Stoppable) -> int:
        """Bring a new bank to the written state and return its epoch; 0 where there is none, or it is damaged."""
        try:
            state = {name: torch.from_numpy(values) for name, values in read_checked(self.path)[1].items()}
            epoch = int(state["epoch"])
        except (OSError, *DAMAGE):
            self.remove()
            return 0
        bank.restore(state)
        return epoch

    def remove(self) -> None:
        """Remove the file, if there is one."""
        with suppress(OSError):  # in a read-only folder
            self.path.unlink()
