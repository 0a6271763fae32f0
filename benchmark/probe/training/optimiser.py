"""The optimiser of a bank: Adam or AdamW for all members at once, each at its own learning rate.

Conventions
-----------
- Members of one rate that lie side by side are one fused call; in float64 each agrees with a `torch.optim` optimiser of its own
  to 1e-10. All members have taken the same number of steps.
- ``constant``: the rate of the member. ``cosine``: of `steps` steps, counted from 0, step ``i`` has the rate times ``(i + 1) /
  warm_up`` while ``i < warm_up``, then half a cosine from the rate down to `final_rate`.
- ``plateau``: after each validation, as `torch.optim.lr_scheduler.ReduceLROnPlateau` with its defaults: a value is better if it
  is beyond the best times 1 + 1e-4 (times 1 - 1e-4 where less is better); after more than `plateau_patience` others in a row
  the rate is multiplied by `factor`, unless that changes it by 1e-8 or less.
- A gradient that is longer than `clip` is scaled to that length, the norm being over all weights of a member.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from marble.probe.settings import Probe

_THRESHOLD = 1e-4
_SMALLEST_CHANGE = 1e-8


class Optimiser:
    """The optimiser of the members of a bank.

    Attributes:
        rates: the rate of each member before the schedule of steps, ``float64[K]`` on the CPU.
        done: steps taken.
    """

    def __init__(self, settings: Probe, weights: Sequence[Tensor], rates: Tensor):
        self.settings, self.device = settings, weights[0].device
        self.rates, self.done = rates, 0
        self.moments = [[torch.zeros_like(values) for values in weights] for _ in range(2)]
        self.best = torch.full_like(rates, -torch.inf)
        self.idle = torch.zeros(len(rates), dtype=torch.int64)
        self._divide()

    @torch.no_grad()
    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Change the weights, ``Tensor[K, ., .]``, by their gradients."""
        if self.settings.clip:
            self._clip(gradients, self.settings.clip)
        optimise = adamw if self.settings.optimiser == "adamw" else adam
        for rate, part, steps in self.parts:
            stacks = (weights, gradients, *self.moments)
            own, slopes, means, squares = ([values[part] for values in stack] for stack in stacks)
            optimise(
                own, slopes, means, squares, [], steps, lr=self._scheduled(rate), beta1=0.9, beta2=0.999, eps=1e-8,
                weight_decay=self.settings.weight_decay, fused=True, amsgrad=False, maximize=False,
            )  # fmt: skip
        self.done += 1

    def observe(self, scores: Tensor, *, higher_is_better: bool) -> None:
        """Lower the rates of members on a plateau, from validation scores ``float64[K]``, which are negative errors or not."""
        if self.settings.schedule != "plateau":
            return
        scores = scores.cpu()
        better = scores > self.best * (1 + _THRESHOLD if higher_is_better else 1 - _THRESHOLD)
        self.best = torch.where(better, scores, self.best)
        self.idle = torch.where(better, 0, self.idle + 1)
        tired = self.idle > self.settings.plateau_patience
        if tired.any():
            lower = self.rates * self.settings.factor
            self.idle[tired] = 0
            self.set_rates(torch.where(tired & (self.rates - lower > _SMALLEST_CHANGE), lower, self.rates))

    def set_rates(self, rates: Tensor) -> None:
        """Give the members other rates, ``float64[K]``."""
        self.rates = rates
        self._divide()

    def keep(self, kept: Tensor) -> None:
        """Drop all members but the kept ones, ``bool[K]``."""
        self.moments = [[values[kept] for values in moment] for moment in self.moments]
        kept = kept.cpu()
        self.rates, self.best, self.idle = self.rates[kept], self.best[kept], self.idle[kept]
        self._divide()

    def _divide(self) -> None:
        """Divide the members into runs of one rate, each with the step counters of its calls."""
        values, counts = self.rates.unique_consecutive(return_counts=True)
        ends = counts.cumsum(dim=0).tolist()
        self.parts = [
            (rate, slice(begin, end), [torch.full((), float(self.done), device=self.device) for _ in self.moments[0]])
            for rate, begin, end in zip(values.tolist(), [0, *ends], ends, strict=False)
        ]

    def _scheduled(self, rate: float) -> float:
        """Return the rate of this step."""
        if self.settings.schedule != "cosine":
            return rate
        warm_up, last = self.settings.warm_up, self.settings.steps or 0
        if self.done < warm_up:
            return rate * (self.done + 1) / warm_up
        progress = (self.done - warm_up) / (last - warm_up)
        return self.settings.final_rate + (rate - self.settings.final_rate) * (1 + math.cos(math.pi * progress)) / 2

    @staticmethod
    def _clip(gradients: Sequence[Tensor], longest: float) -> None:
        squares = [values.square().sum(dim=(1, 2)) for values in gradients]
        scale = (longest / (torch.stack(squares).sum(dim=0).sqrt() + 1e-6)).clamp(max=1)
        for values in gradients:
            values.mul_(scale[:, None, None])
