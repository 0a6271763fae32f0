"""The meter of a training: losses, accuracy, use of the codes, speed, and share of the machine's matrix rate.

Conventions
-----------
- Everything is a mean over the steps taken since the last line, and over the tokens that count, by their weight, of the first
  process; the gradient norm is the largest of them, before clipping.
- ``usage`` is the share of codes that occurred among the targets, ``accuracy`` that of predicted tokens, means over codebooks.
- ``waiting`` is the share of the time spent waiting for audio: near 0 where decoding keeps up.
- ``flop_share`` is the share of the device's rate in one large matrix product (in the precision of the training), measured at
  the start; torch counts the operations of a step, forward and backward, recomputation included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from marble.pretraining.objective import Losses
from marble.pretraining.recipes import Recipe
from marble.pretraining.segments import Loader
from marble.pretraining.state import TrainingState


class Meter:
    """Adds the numbers of steps to `TrainingState.totals` and turns them into lines of the log."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self._began = time.monotonic()
        self._clips = self._steps = 0

    @contextmanager
    def paused(self) -> Generator[None]:
        """Leave out the time spent inside, which is no training."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def count(self, clips: int) -> None:
        """Count one step of this many clips, taken or skipped."""
        self._steps += 1
        self._clips += clips

    def add(self, losses: Iterable[Losses], weight: Tensor, norm: float) -> None:
        """Add a step that was taken: losses of its micro batches, weight of all their tokens, gradient norm."""
        totals = self.state.totals
        self._add("weight", weight)
        totals["norm"] = torch.tensor(norm).maximum(totals.get("norm", torch.zeros(())))
        for micro_batch in losses:
            for name, part in (micro_batch.parts | {"loss": micro_batch.loss.detach()}).items():
                self._add(f"part.{name}", part)
            self._add("correct", micro_batch.correct)
            for book, counts in enumerate(micro_batch.counts):
                self._add(f"codes.{book}", counts)

    def _add(self, name: str, value: Tensor) -> None:
        totals = self.state.totals
        totals[name] = totals[name].to(value.device) + value if name in totals else value

    def line(self, recipe: Recipe, loader: Loader, refused: int, peak: float) -> dict[str, Any]:
        """Return a line of the log, with the number of segments refused so far, and reset the meter.

        `peak` is the device's `matrix_rate`.
        """
        seconds = time.monotonic() - self._began
        line = {"step": self.state.step} | self._means()
        line["learning_rate"] = recipe.learning_rate(self.state.step - 1)
        line["clips_per_second"] = self._clips / seconds
        line["audio_per_second"] = self._clips * recipe.seconds / seconds
        line["waiting"] = loader.waited / seconds
        line["flop_share"] = (self.state.flops or 0) * self._steps / seconds / peak
        line["refused"] = refused
        loader.waited = 0.0
        self.state.totals = {}
        self._began, self._clips, self._steps = time.monotonic(), 0, 0
        return line

    def _means(self) -> dict[str, Any]:
        """Return the means over the steps that were taken, none where all were skipped."""
        totals = self.state.totals
        if not totals:
            return {}
        weight = float(totals["weight"])
        parts = {name.partition(".")[2]: total for name, total in totals.items() if name.startswith("part.")}
        means = {name: float(total) / weight for name, total in sorted(parts.items())}
        if len(totals["correct"]):
            means["accuracy"] = float(totals["correct"].double().mean()) / weight
        used = [float((total > 0).double().mean()) for name, total in totals.items() if name.startswith("codes.")]
        means["usage"] = sum(used) / len(used)
        means["gradient_norm"] = float(totals["norm"])
        return means


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
