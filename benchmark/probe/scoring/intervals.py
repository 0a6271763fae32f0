"""Intervals over tracks: where a metric of the same probes would lie on endlessly many tracks like those of a split.

An interval covers the draw of the tracks and nothing else. The probes stay as they were trained: another seed, another training
split, another choice of rate or epoch is not in it, and another choice of the layer only in `interval_of_choice`.

Conventions
-----------
- A track is the unit: windows of one track are not independent. The seeds of a layer are averaged, on the same tracks.
- The standard error is that of the jackknife (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 11): the
  tracks are dealt into at most `GROUPS` groups, and the metric is computed without each. No track counts twice, which raises
  average precision in a bootstrap. Groups without which the metric does not exist are passed over.
- An end is the value below which 2.5 or 97.5 % of a normal error lie; the `scale` of a metric says what is normal:

  ===============  ===========================================================================================================
  share            That of Wilson's interval of a proportion, with as many trials as have the jackknife's error (Korn and
                   Graubard 1998) and a continuity correction of a quarter of a trial. Near 0 and 1 the error rests on a few
                   wrong (or right) tracks; that of a single probe is averaged in, with the weight of a quarter of a track.
  macro share      The same, of a mean over classes or labels. A single probe has the error of as few tracks as they have.
  precision        The same around the jackknife's estimate, which takes away the bias of average precision; or that of x
                   itself, if it reaches further. Half of the bias adds to the error, and so do few positives.
  explained        log(1 - x). The error is raised by the kurtosis of the influences of groups, as Student's t raises it.
  error            log x, likewise.
  correlation      artanh x, likewise.
  ===============  ===========================================================================================================

- An interval contains the mean that it stands beside: it is widened to it, as the bias of average precision may require.

``tests/benchmarks/intervals.py`` measures how often they cover, and how often other intervals do: on 57 to 604 tracks .926 to
.980 where .95 is nominal, more near the ceiling (up to .996 where few tracks are ranked almost perfectly), and less (.84) where
squared errors have no variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from marble.probe.scoring.metrics import Metric

GROUPS = 500
_QUARTER = 0.25
_NORMAL = NormalDist()


class _Scale(NamedTuple):
    """A scale on which errors are nearly normal: the way to it, its slope, the way back, and the values it is used for."""

    scaled: Callable[[float], float]
    slope: Callable[[float], float]
    back: Callable[[float], float]
    lowest: float
    highest: float


_SCALES = {
    "explained": _Scale(lambda x: -math.log1p(-x), lambda x: 1 / (1 - x), lambda u: -math.expm1(-u), -math.inf, 1 - 1e-12),
    "error": _Scale(math.log, lambda x: 1 / x, math.exp, 1e-12, math.inf),
    "correlation": _Scale(math.atanh, lambda x: 1 / (1 - x * x), math.tanh, 1e-12 - 1, 1 - 1e-12),
}


@dataclass(frozen=True)
class Estimate:
    """A metric, averaged over seeds, and its error over tracks.

    Attributes:
        metric: the metric.
        value: the metric on all tracks; NaN where it does not exist.
        influences: deviation of the metric without each group of tracks from its mean over groups, ``float64[G]``; 0 where it
            does not exist.
        centre: the estimate of the metric on endlessly many tracks, on the scale of the metric.
        error: its standard error.
        trials: the number of independent trials of a share with this error.
    """

    metric: Metric
    value: float
    influences: np.ndarray
    centre: float
    error: float
    trials: float

    def below(self, x: float, side: int) -> float:
        """Return the probability that the metric on endlessly many tracks is below `x`, both on the scale of the metric.

        Args:
            x: the value.
            side: -1 for the lower end of an interval, 1 for the upper.
        """
        normal = (x - self.centre) / self.error
        if self.metric.scale in _SCALES:
            return _NORMAL.cdf(normal)
        wilson = (x - self.centre - side * _QUARTER / self.trials) / math.sqrt(max(x * (1 - x), 1e-300) / self.trials)
        return _NORMAL.cdf(min(wilson, normal, key=abs) if self.metric.scale == "precision" else wilson)


def estimate(scores: Tensor, targets: Tensor, metric: Metric, track: Tensor | None = None) -> Estimate:
    """Return the estimate of a metric that is averaged over seeds.

    Args:
        scores: ``Tensor[S, N, C]``, the answers of S seeds to N tracks.
        targets: ``Tensor[N]`` or ``Tensor[N, C]`` as `marble.probe.scoring.metrics` takes them.
        metric: one of `marble.probe.scoring.metrics.METRICS`.
        track: ``int64[N]``, for answers to windows: the track of each, which is left out with all its windows.
    """
    tracks = scores.shape[-2] if track is None else int(track.max()) + 1
    group = np.random.default_rng(0).permutation(tracks) % GROUPS  # dealt at random: neighbours may be of one class
    kept = group != np.arange(-1, min(tracks, GROUPS))[:, None]  # all tracks first
    counts = torch.from_numpy(kept if track is None else kept[:, track.cpu().numpy()])
    value, *rest = metric(scores, targets, counts).mean(-1).tolist()
    without = np.array(rest)
    known = ~np.isnan(without)
    if math.isnan(value) or not known.any():
        return Estimate(metric, math.nan, np.zeros(len(without)), math.nan, math.nan, math.nan)
    groups, mean = known.sum(), without[known].mean()
    influences = np.where(known, without - mean, 0.0)
    error = max(math.sqrt((1 - 1 / groups) * (influences**2).sum()), 1e-12)
    if metric.scale in _SCALES:
        scale = _SCALES[metric.scale]
        near = min(max(value, scale.lowest), scale.highest)
        kurtosis = (influences**4).sum() / error**4
        return Estimate(
            metric, value, influences, scale.scaled(near), error * (1 + 0.6 * kurtosis) * scale.slope(near), math.nan
        )
    centre, single = value, float(tracks)
    if metric.scale != "share":
        of_each = targets.bincount() if targets.ndim == 1 else targets.sum(0).minimum((1 - targets).sum(0))
        few = (1 / of_each[of_each > 0].double()).mean().item()
        single = int((of_each > 0).sum()) / few
        if metric.scale == "precision":
            bias = (groups - 1) * (mean - value)
            centre = min(max(value - bias, 0.0), 1.0)
            error = math.sqrt(error**2 * (1 + few) + bias**2 / 4)
    wrong = single * min(centre, 1 - centre)
    ratio = (single * error**2 / max(centre, 1 - centre) + _QUARTER / single) / (wrong + _QUARTER)
    return Estimate(metric, value, influences, centre, error, 1 / ratio)


def interval(estimate: Estimate, mean: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of one estimate; the other arguments and the ends are those of `interval_of_choice`."""
    return interval_of_choice([estimate], [1.0], mean, level)


def interval_of_choice(
    estimates: Sequence[Estimate], shares: Sequence[float], mean: float, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of a layer that is chosen anew: of the draw of a layer by these shares and of the test tracks.

    Args:
        estimates: of one metric on test, in every layer.
        shares: how often each layer is chosen, from `selection_shares`.
        mean: the mean that the interval stands beside and is widened to.
        level: probability inside the interval.

    Returns:
        The lower and upper end, both NaN where a layer that may be chosen has no metric.
    """
    parts = [(part, share) for part, share in zip(estimates, shares, strict=True) if share > 0]
    if any(math.isnan(part.value) for part, _ in parts):
        return math.nan, math.nan
    scale = _SCALES.get(parts[0][0].metric.scale)
    bounds = (0.0, 1.0)
    if scale:
        bounds = (
            min(part.centre - 40 * part.error for part, _ in parts),
            max(part.centre + 40 * part.error for part, _ in parts),
        )

    def end(side: int) -> float:
        """Return the value with the probability of this end below it, by bisection from outside."""
        low, high = bounds
        for _ in range(60):
            middle = (low + high) / 2
            if sum(share * part.below(middle, side) for part, share in parts) < (1 + side * level) / 2:
                low = middle
            else:
                high = middle
        outer = low if side < 0 else high
        return scale.back(outer) if scale else outer

    return min(end(-1), mean), max(end(1), mean)


def selection_shares(estimates: Sequence[Estimate], resamples: int = 1000, seed: int = 0) -> list[float]:
    """Return how often each layer is the best on resampled validation tracks, the first of equal ones.

    A resample draws as many groups of tracks as there are, with replacement; the metric follows to first order.

    Args:
        estimates: of the metric that chooses, on validation, in every layer. Where it does not exist, a layer is not chosen.
        resamples: number of resamples.
        seed: of the resampling.
    """
    groups = len(estimates[0].influences)
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    influences = np.stack([part.influences for part in estimates], axis=1)
    values = np.array([part.value for part in estimates]) - (1 - 1 / groups) * (drawn - 1) @ influences
    scores = values if estimates[0].metric.higher_is_better else -values
    best = np.where(np.isnan(scores), -np.inf, scores).round(12).argmax(axis=1)
    return (np.bincount(best, minlength=len(estimates)) / resamples).tolist()
