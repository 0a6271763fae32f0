"""What a training says of itself: losses, accuracy, use of the codes, speed, and its share of the machine's matrix rate.

Conventions
-----------
- Everything is a mean over the steps since the last line that were taken, and over the tokens that count, by their weight, of
  the first process; the gradient norm is the largest of them, before clipping.
- ``usage`` is the share of codes that occurred among the targets, ``accuracy`` that of predicted tokens, means over codebooks.
- ``waiting`` is the share of the time spent waiting for audio: near 0 where decoding keeps up.
- ``flop_share`` is the share of the device's rate in one large matrix product (in the precision of the training), measured at
  the start; the operations of a step are counted by torch, forward and backward, recomputation included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from marble.pretraining.objective import Losses
from marble.pretraining.segments import Loader

if TYPE_CHECKING:
    from marble.pretraining.trainer import Trainer


class Meter:
    """Collects numbers until they are asked for as a line of the log.

    Attributes:
        flops: of one step.
        totals: sums since the last line; what a checkpoint keeps.
    """

    def __init__(self) -> None:
        self.flops: int | None = None
        self.totals: dict[str, Tensor] = {}
        self._began = time.monotonic()
        self._clips = self._steps = 0

    @contextmanager
    def paused(self) -> Generator[None]:
        """Leave out the time of what is no training."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def count(self, clips: int) -> None:
        """Count one step of this many clips, taken or skipped."""
        self._steps += 1
        self._clips += clips

    def add(self, losses: Iterable[Losses], weight: Tensor, norm: float) -> None:
        """Add what a step that was taken found: losses of its micro batches, weight of all their tokens, gradient norm."""
        self._add("weight", weight)
        self.totals["norm"] = torch.tensor(norm).maximum(self.totals.get("norm", torch.zeros(())))
        for one in losses:
            for name, part in (one.parts | {"loss": one.loss.detach()}).items():
                self._add(f"part.{name}", part)
            self._add("correct", one.correct)
            for book, counts in enumerate(one.counts):
                self._add(f"codes.{book}", counts)

    def _add(self, name: str, value: Tensor) -> None:
        self.totals[name] = self.totals[name].to(value.device) + value if name in self.totals else value

    def line(self, trainer: Trainer, loader: Loader, peak: float) -> dict[str, Any]:
        """Return a line of the log and begin anew."""
        seconds = time.monotonic() - self._began
        line: dict[str, Any] = {"step": trainer.step}
        if self.totals:
            weight = float(self.totals["weight"])
            parts = {name.partition(".")[2]: total for name, total in self.totals.items() if name.startswith("part.")}
            line |= {name: float(total) / weight for name, total in sorted(parts.items())}
            if len(self.totals["correct"]):
                line["accuracy"] = float(self.totals["correct"].double().mean()) / weight
            used = [float((total > 0).double().mean()) for name, total in self.totals.items() if name.startswith("codes.")]
            line["usage"] = sum(used) / len(used)
            line["gradient_norm"] = float(self.totals["norm"])
        line["learning_rate"] = trainer.recipe.learning_rate(trainer.step - 1)
        line["clips_per_second"] = self._clips / seconds
        line["audio_per_second"] = self._clips * trainer.recipe.seconds / seconds
        line["waiting"] = loader.waited / seconds
        line["flop_share"] = (self.flops or 0) * self._steps / seconds / peak
        line["refused"] = len(loader.refused)
        loader.waited = 0.0
        self.totals = {}
        self._began, self._clips, self._steps = time.monotonic(), 0, 0
        return line


def matrix_rate(device: torch.device, bf16: bool) -> float:
    """Return the floating-point operations a second of one large matrix product on a device."""
    size = 8192 if device.type == "cuda" else 1024
    x = torch.ones(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = math.inf
    for _ in range(5):
        _finish(device)
        began = time.monotonic()
        x @ x
        _finish(device)
        best = min(best, time.monotonic() - began)
    return 2 * size**3 / best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
