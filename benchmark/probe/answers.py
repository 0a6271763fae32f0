"""Answers: the outputs of any maker for the rows of a task.

A maker of answers (a trained bank, a similarity with texts, the nearest centroid) gives one `Answers` for each `Group`. Each
row of the validation and the test split is answered once; scores of tracks are taken from `Examples.by_track`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from marble.probe.inputs import Inputs
from marble.progress import Reporter


class Group(NamedTuple):
    """A layer (its index, or "weighted") and a seed."""

    layer: int | str
    seed: int


@dataclass(frozen=True)
class Training:
    """How the probe of a group was chosen.

    Attributes:
        learning_rate: the chosen one.
        epoch: the chosen one, counted from 1; 0 where the metric never had a value (a diverged probe).
        grid_scores: validation metric of each learning rate at its best epoch, ``float64[G]``.
        grid_epochs: that epoch, ``int64[G]``.
    """

    learning_rate: float
    epoch: int
    grid_scores: Tensor
    grid_epochs: Tensor


@dataclass(frozen=True)
class Answers:
    """The answers of one group to every row, in the targets' own units.

    Attributes:
        validation: to the rows of the validation split, ``Tensor[R, C]``.
        test: to those of the test split, likewise.
        training: how the probe was chosen; None where nothing was trained.
        layer_weights: learned softmax weights of a weighted sum, ``Tensor[L]``; empty for a single layer.
    """

    validation: Tensor
    test: Tensor
    training: Training | None = None
    layer_weights: Tensor = field(default_factory=lambda: torch.empty(0))


# A maker of answers: from the inputs and the groups to the answers of each.
Maker = Callable[[Inputs, Sequence[Group], Reporter], dict[Group, Answers]]
