"""Answers: the outputs of any maker for the rows of a task.

A maker of answers (a trained bank, a similarity with texts, the nearest centroid) gives one `Answers` for each `Group`. Each
row of the validation and the test split is answered once; scores of tracks are taken from `Examples.by_track`. What a track
is answered where that is not the mean of its rows' logits (`COMBINATIONS`) is written into its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marble.probe.inputs import Examples, Inputs
from marble.system.progress import Reporter


class Group(NamedTuple):
    """A layer (its index, or "weighted") and a seed."""

    layer: int | str
    seed: int


@dataclass(frozen=True)
class Training:
    """The choice of the probe of a group.

    Attributes:
        learning_rate: the chosen one.
        epoch: the chosen one, counted from 1; 0 where the metric never had a value (a diverged probe).
        grid_scores: validation metric of each learning rate at its best epoch, ``float64[G]``.
        grid_epochs: that epoch, ``int64[G]``.
        grid_rates: the learning rates.
        grid_settings: the settings of the protocol's grid that each was trained with; empty without a grid.
        settings: the chosen ones.
    """

    learning_rate: float
    epoch: int
    grid_scores: Tensor
    grid_epochs: Tensor
    grid_rates: tuple[float, ...]
    grid_settings: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameAnswers:
    """The answers to the frames of the validation and then the test tracks, by the decoder of the main metric.

    Attributes:
        constants: that validation chose, by decoder.
        decoded: classes ``int16[frames]``, or the tags of each frame as bits, ``uint8[frames, ceil(C / 8)]``.
        probability: of the answered class, or of the likeliest tag, in 255ths, ``uint8[frames]``.
    """

    constants: dict[str, float]
    decoded: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Answers:
    """The answers of one group to every row, in the targets' own units; of a frame task, the statistics of its metrics.

    Attributes:
        validation: to the rows of the validation split, ``Tensor[R, C]``.
        test: to those of the test split, likewise.
        training: how the probe was chosen; None where nothing was trained.
        layer_weights: learned weights of a weighted sum, ``Tensor[L]``; empty for a single layer, and for a sum by matrices.
        frames: of a frame task, the answers to its frames.
    """

    validation: Tensor
    test: Tensor
    training: Training | None = None
    layer_weights: Tensor = field(default_factory=lambda: torch.empty(0))
    frames: FrameAnswers | None = None


# A maker of answers: from the inputs and the groups to the answers of each.
Maker = Callable[[Inputs, Sequence[Group], Reporter], dict[Group, Answers]]


# Ways from rows to a track, in the order in which the first of equal ones is the best.
COMBINATIONS = ("vote", "max", "logits", "probabilities")


def combined(answers: Tensor, examples: Examples, combination: str) -> Tensor:
    """Return answers ``Tensor[K, R, C]`` to rows, logits of classes, so that a track's answer is the mean over its rows.

    Args:
        answers: logits.
        examples: the rows and their tracks.
        combination: the mean of ``logits`` or ``probabilities``, the highest logit of each class (``max``), or a ``vote``.
    """
    if combination == "probabilities":
        return answers.softmax(dim=2)
    if combination == "vote":
        return torch.zeros_like(answers).scatter_(2, answers.argmax(dim=2, keepdim=True), 1.0)
    if combination == "max":
        highest = answers.new_full((len(answers), len(examples.targets), answers.shape[2]), -torch.inf)
        track = examples.track[None, :, None].expand_as(answers)
        return highest.scatter_reduce_(1, track, answers, "amax").gather(1, track)
    return answers
