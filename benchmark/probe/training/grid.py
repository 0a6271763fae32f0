"""The grid of a protocol: combinations of settings, each trained on its own, of which validation chooses one for each group.

Conventions
-----------
- A point is a combination (`marble.probe.settings.Probe.points`) with its own bank and its own files in the cache. So a larger
  grid trains only its new points, and a killed run continues with the next.
- Where only some points are wanted, each seed draws its own, without replacement.
- The point of a group is the one whose probe at its best rate has the best validation metric, the first of equal ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from marble.probe.answers import Answers, Training
from marble.probe.settings import Probe
from marble.random_streams import generator


def drawn_points(probe: Probe, task: str, seed: int) -> set[int]:
    """Return the numbers of the points that a seed trains."""
    count = len(probe.points())
    order = torch.randperm(count, generator=generator(task, seed, "grid"))
    return set(order[: probe.grid_points or count].tolist())


def better_of(best: Answers | None, new: Answers, settings: dict[str, Any], *, higher_is_better: bool) -> Answers:
    """Return the better answers of one group on validation, with the grid of both.

    Args:
        best: of the points before; None before the first.
        new: of the next point.
        settings: what that point sets.
        higher_is_better: direction of the metric that chooses.
    """
    training = _training(new)
    training = replace(training, settings=settings, grid_settings=(settings,) * len(training.grid_rates))
    new = replace(new, training=training)
    if best is None:
        return new
    before = _training(best)
    sign = 1 if higher_is_better else -1
    scores = [float((sign * part.grid_scores).nan_to_num(-torch.inf).max()) for part in (before, training)]
    chosen = best if scores[0] >= scores[1] else new
    every = replace(
        _training(chosen),
        grid_scores=torch.cat([before.grid_scores, training.grid_scores]),
        grid_epochs=torch.cat([before.grid_epochs, training.grid_epochs]),
        grid_rates=before.grid_rates + training.grid_rates,
        grid_settings=before.grid_settings + training.grid_settings,
    )
    return replace(chosen, training=every)


def _training(answers: Answers) -> Training:
    assert answers.training is not None
    return answers.training
