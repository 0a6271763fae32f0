"""A learning rate found by a range test (Smith 2017), as PyTorch Lightning's ``auto_lr_find`` with its defaults searches.

The probe takes 100 steps at rates that rise exponentially from 1e-8 to 1. Its loss is smoothed (exponential mean with factor
.98, corrected for its beginning); the test ends where that exceeds four times its lowest value. The rate is that at which the
smoothed loss falls most steeply, the first ten steps and the last left out; where that leaves fewer than two, the rate stays as
it was. The probe is then trained from its beginning.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 100
LOWEST, HIGHEST = 1e-8, 1.0
_SMOOTHING = 0.98
_DIVERGED = 4.0
_FIRST, _LAST = 10, 1


def rates_of_test() -> list[float]:
    """Return the rate of each step."""
    return [LOWEST, *(LOWEST * (HIGHEST / LOWEST) ** (step / STEPS) for step in range(2, STEPS + 1))]


def steepest_rates(losses: Tensor, start: float) -> Tensor:
    """Return the rate of each of K probes, ``float64[K]``, from their losses at the rates of the test, ``Tensor[100, K]``.

    `start` is the rate of a probe whose test says nothing.
    """
    return torch.tensor([_steepest(member, start) for member in losses.T.tolist()], dtype=torch.float64)


def _steepest(losses: list[float], start: float) -> float:
    smoothed, mean, lowest = [], 0.0, float("inf")
    for step, loss in enumerate(losses, 1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        value = mean / (1 - _SMOOTHING**step)
        if step > 2 and not value <= _DIVERGED * lowest:
            break
        lowest = min(lowest, value)
        smoothed.append(value)
    tested = torch.tensor(smoothed[_FIRST:-_LAST], dtype=torch.float64)
    if len(tested) < 2 or not tested.isfinite().all():
        return start
    return rates_of_test()[_FIRST + int(torch.gradient(tested)[0].argmin())]
