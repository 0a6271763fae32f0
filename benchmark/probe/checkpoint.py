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
from typing import TYPE_CHECKING

import torch

from marble.features.checked import DAMAGE, read_checked, write_checked

if TYPE_CHECKING:
    from marble.probe.bank import Bank

SECONDS = 30.0
TIMES_THE_WRITING = 20
SUFFIX = ".stopped"
_OF_MEMBERS = ("member", "rates", "kept_score", "kept_epoch", "kept_combination", "best", "best_at")
_OF_OPTIMISER = ("rates", "best", "idle")


class Checkpoint:
    """The checkpoint of one stack.

    Args:
        path: of its file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._due = time.monotonic() + SECONDS

    def save(self, bank: Bank, epoch: int) -> None:
        """Write the state after an epoch, if it is due.

        Raises:
            MarbleError: the disk is full or the folder cannot be written.
        """
        begin = time.monotonic()
        if begin < self._due:
            return
        tensors = {name: getattr(bank, name) for name in _OF_MEMBERS}
        tensors |= {f"optimiser.{name}": getattr(bank.optimiser, name) for name in _OF_OPTIMISER}
        tensors |= {f"{name}.{number}": part for name, parts in _stacks(bank).items() for number, part in enumerate(parts)}
        tensors |= {f"stream.{number}": stream.get_state() for number, stream in enumerate(_streams(bank))}
        tensors["counts"] = torch.tensor([epoch, bank.validations, bank.optimiser.done])
        write_checked(self.path, "probing", {name: values.numpy(force=True) for name, values in tensors.items()})
        now = time.monotonic()
        self._due = now + max(SECONDS, TIMES_THE_WRITING * (now - begin))

    def restore(self, bank: Bank) -> int:
        """Bring a new bank to the written state and return its epoch; 0 where there is none, or it is damaged."""
        try:
            tensors = {name: torch.from_numpy(values) for name, values in read_checked(self.path)[1].items()}
        except (OSError, *DAMAGE):
            self.remove()
            return 0
        device = bank.features.device
        for name in _OF_MEMBERS:
            setattr(bank, name, tensors[name].to(getattr(bank, name).device))
        for name in _OF_OPTIMISER:
            setattr(bank.optimiser, name, tensors[f"optimiser.{name}"])
        for name, parts in _stacks(bank).items():
            parts[:] = [tensors[f"{name}.{number}"].to(device) for number in range(len(parts))]
        for number, stream in enumerate(_streams(bank)):
            stream.set_state(tensors[f"stream.{number}"])
        epoch, bank.validations, bank.optimiser.done = tensors["counts"].tolist()
        bank.resume()
        return epoch

    def remove(self) -> None:
        """Remove the file, if there is one."""
        with suppress(OSError):  # in a read-only folder
            self.path.unlink()


def _stacks(bank: Bank) -> dict[str, list[torch.Tensor]]:
    """Return the lists of tensors of a bank, by name."""
    means, squares = bank.optimiser.moments
    return {"weights": bank.weights, "statistics": bank.statistics, "kept": bank.kept, "means": means, "squares": squares}


def _streams(bank: Bank) -> list[torch.Generator]:
    """Return the random streams of a bank."""
    return [*bank.batches.orders, *bank.batches.windows, *bank.dropouts, *bank.input_dropouts]
