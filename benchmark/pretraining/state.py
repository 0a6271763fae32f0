"""The state of a training, which steps change and checkpoints keep."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from marble.pretraining.objective import Objective


@dataclass
class TrainingState:
    """The state of a training on one process.

    Attributes:
        objective: weights, running statistics, targets.
        optimiser: its moments.
        average: name -> exponential moving average of a weight; None without `Recipe.average`.
        position: number of the next segment of this process.
        step: number of steps so far, skipped ones included.
        skipped_in_a_row: steps without a finite gradient since the last one with it.
        flops: operations of one step; None until they are counted.
        totals: sums of the meter since the last line of the log.
    """

    objective: Objective
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    position: int
    step: int = 0
    skipped_in_a_row: int = 0
    flops: int | None = None
    totals: dict[str, Tensor] = field(default_factory=dict)
