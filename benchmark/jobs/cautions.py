"""Cautions: reasons to trust a result less than its numbers say, one plain sentence each; its field ``doubts``.

Conventions
-----------
- The part of a sentence before its first colon is its short form, for tables and figures.
- They are about the selected layer, whose score is what people quote.

Rules
-----
- *Learning rate*: for a seed, the lowest or the highest rate of the grid is the only best one on validation. A rate at the edge
  that others equal says nothing about what lies beyond it.
- *Epoch*: for a seed, validation is best at the last epoch that the protocol allows, so training was cut off.
- *Layer*: in more than 5 % of 1000 resamples of the validation tracks, and of the seeds with them, the next best single layer
  is as good as the selected one or better. Both layers answer the same tracks and seeds, so their scores are compared within
  each resample (a paired bootstrap: Efron and Tibshirani 1993, Chapter 16), which takes out what is hard in common. One side is
  enough, since the selected layer is ahead by construction. The resamples are the same for every run. In simulations of 115 to
  1,825 tracks the rule speaks for two layers of equal worth in 93 to 98 % of cases, for thirteen in all; for a layer that is
  .13 of accuracy ahead of twelve others, in none.
- *Contamination*: what the upstream was trained on and the audio of the task draw on one collection
  (`marble.data.leakage.contamination`).
- What was said of the clips before the run (`TaskData.cautions`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from marble.data.leakage import contamination
from marble.jobs.job import Job
from marble.probe.answers import Answers, Group
from marble.probe.inputs import Inputs
from marble.probe.scoring.metrics import METRICS, Metric
from marble.probe.settings import Probe
from marble.probe.training.bank import epochs_of
from marble.results.schema import LayerResult, Run

_RESAMPLES = 1000
_NOISE = 0.05


def find_cautions(job: Job, inputs: Inputs, answers: Mapping[Group, Answers], ranked: Sequence[LayerResult]) -> list[str]:
    """Return the cautions of a result, most general first.

    Args:
        job: of the result.
        inputs, answers: of its probes.
        ranked: the layers that could be selected, the selected one first, the next best second.
    """
    selected = ranked[0]
    cautions = [*job.data.cautions, contamination(job.upstream.info, job.task)]
    cautions += [_rate_at_edge(selected), _epoch_at_limit(selected, _limit(job.protocol.probe, inputs))]
    if len(ranked) > 1:
        cautions.append(_layer_in_noise(job, inputs, answers, selected, ranked[1]))
    return [caution for caution in cautions if caution]


def _rate_at_edge(layer: LayerResult) -> str | None:
    rates = [run.learning_rate for run in layer.runs if run.learning_rate and _is_at_edge(run)]
    if not rates:
        return None
    return (
        f"The learning rate is at the edge of the grid: for {_seeds(rates, layer)} it is "
        f"{' or '.join(f'{rate:g}' for rate in sorted(set(rates)))}, and one beyond may be better (--set probe.learning_rates)."
    )


def _is_at_edge(run: Run) -> bool:
    scores = {point.learning_rate: point.validation for point in run.grid}
    if len(scores) < 2 or run.learning_rate is None or run.learning_rate not in (min(scores), max(scores)):
        return False
    best = scores.pop(run.learning_rate)
    return best is not None and best not in scores.values()


def _limit(probe: Probe, inputs: Inputs) -> float:
    """Return the last epoch; infinity for probes that end there by design."""
    if probe.selection == "last" or probe.schedule == "cosine":
        return math.inf
    return max(epochs_of(point, inputs.data.train) for _, point in probe.points())


def _epoch_at_limit(layer: LayerResult, epochs: float) -> str | None:
    late = [run.seed for run in layer.runs if run.epoch is not None and run.epoch >= epochs]
    if not late:
        return None
    return (
        f"The epoch is at its limit: for {_seeds(late, layer)} it is {epochs}, the last, and a later one may be better "
        "(--set probe.epochs)."
    )


def _seeds(some: Sequence[object], layer: LayerResult) -> str:
    return f"{len(some)} of {len(layer.runs)} seeds of {_name(layer)}"


def _name(layer: LayerResult) -> str:
    return "the weighted sum" if layer.layer == "weighted" else f"layer {layer.layer}"


def _layer_in_noise(
    job: Job, inputs: Inputs, answers: Mapping[Group, Answers], selected: LayerResult, other: LayerResult
) -> str | None:
    valid, metric = inputs.data.valid, METRICS[job.task.main_metric]
    score, next_best = (layer.validation[metric.name].mean for layer in (selected, other))
    if score is None or next_best is None:
        return None
    first, second = (
        valid.units(
            torch.stack([answers[Group(layer.layer, seed)].validation for seed in job.seeds]).to(valid.track.device), metric
        )[0]
        for layer in (selected, other)
    )
    share = share_of_turns(first, second, valid.targets, metric)
    if not share > _NOISE:
        return None
    return (
        f"The layer is within noise of another: on validation {_name(selected)} has {score:.3f} and {_name(other)} "
        f"{next_best:.3f}, which is as good or better in {share:.0%} of {_RESAMPLES} resamples of tracks and seeds."
    )


def share_of_turns(first: Tensor, second: Tensor, targets: Tensor, metric: Metric) -> float:
    """Return the share of resamples in which the second answers are as good as the first or better.

    Args:
        first, second: ``Tensor[S, N, C]``, the answers of S seeds to N tracks.
        targets: of the tracks.
        metric: scores them; resamples in which it does not exist are left out, and the share is NaN if it never does.
    """
    seeds, tracks = first.shape[:2]
    random = np.random.default_rng(0)
    counts = random.multinomial(tracks, np.full(tracks, 1 / tracks), size=_RESAMPLES)
    drawn = torch.from_numpy(random.integers(seeds, size=(_RESAMPLES, seeds)))
    values = metric(torch.stack([first, second]), targets, torch.from_numpy(counts)).cpu()
    lead = (values[:, 0] - values[:, 1]).gather(1, drawn).mean(1) * (1 if metric.higher_is_better else -1)
    lead = lead[~lead.isnan()]
    return float((lead <= 0).double().mean())
