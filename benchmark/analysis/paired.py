"""Is one system better than another? Answered on the tracks that both have answered.

Conventions
-----------
- `Answers` are those of S seeds to N tracks; a metric is averaged over seeds. Two systems share tracks and targets, and a
  difference is that of the first less that of the second, in the units of the metric.
- *Sampling error*: the deviation of the difference over resamples of tracks, drawn with replacement, the same for both
  systems. The interval lies between the 2.5 and 97.5 % quantiles of the resamples (paired percentile bootstrap). It covers
  the draw of the test tracks and nothing else.
- *Permutation test*: if two systems are alike, the answers of both to a track can be exchanged. The p-value is the share of
  random exchanges with a difference at least as large, on either side; equal ones count half (the mid-p value of Lancaster
  1961, without which the test rejects too rarely where few tracks differ). A metric that is a mean over tracks, given their
  targets, is exchanged exactly; another (`roc_auc`, `average_precision`, `kendall_tau`) to first order, by the jackknife's
  pseudo-values of at most `GROUPS` groups of tracks, since the scores of two systems have no common scale.
- *McNemar's test*, exact: of the tracks that one system classifies correctly in more seeds than the other, the number that
  the first wins is binomial. With one seed these are the tracks that one classifies correctly and the other does not.
- *Seed spread*: the deviation over seeds (n - 1) of the difference of the same seed of both, or, where their seeds differ,
  the root of the summed variances. *Error of the choice of layer*: the deviation of the difference when both systems choose
  their layer anew on resampled validation tracks and are scored on the same test tracks. Neither is in the interval.
- *Minimal detectable difference*: the true difference that a test at 5 % finds with a probability of 80 %, which is 2.8
  sampling errors.
- Holm's step-down adjustment holds the probability of any false rejection in a family of tests.

``tests/benchmarks/compare.py`` measures how often the test rejects and the interval covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from marble.analysis.metrics import Metric

RESAMPLES = 2000
EXCHANGES = 10_000
GROUPS = 500
LEVEL = 0.05
_POWER = 0.8
# Resamples at once: the counts of a task then fit the cache of a core.
_CHUNK = 256


@dataclass(frozen=True)
class Answers:
    """The answers of several seeds of one system.

    Attributes:
        metric: that scores them.
        scores: ``[S, N, C]``.
        targets: of the N tracks, as the kind of the task encodes them.
    """

    metric: Metric
    scores: np.ndarray
    targets: np.ndarray

    @cached_property
    def of_seeds(self) -> list[Callable[[np.ndarray], np.ndarray]]:
        """From ``counts[N, R]`` to the metric ``[R]`` of each seed."""
        return [self.metric.evaluate(scores, self.targets) for scores in self.scores]

    @cached_property
    def values(self) -> np.ndarray:
        """The metric of each seed on all tracks, ``[S]``."""
        whole = np.ones((len(self.targets), 1))
        return np.array(
            [math.nan if np.isnan(s).any() else of(whole).item() for s, of in zip(self.scores, self.of_seeds, strict=True)]
        )

    def under(self, counts: np.ndarray) -> np.ndarray:
        """Return the mean metric of the seeds under ``counts[N, R]``, ``[R]``."""
        parts = np.array_split(counts, max(1, counts.shape[1] // _CHUNK), axis=1)
        return np.concatenate([np.mean([of(part) for of in self.of_seeds], axis=0) for part in parts])

    @cached_property
    def contributions(self) -> np.ndarray:
        """The part of each track, or of each of at most `GROUPS` groups, in the mean metric: their mean is the metric."""
        if self.metric.contributions:
            return np.mean([self.metric.contributions(scores, self.targets) for scores in self.scores], axis=0)
        tracks = len(self.targets)
        groups = min(tracks, GROUPS)
        group = np.random.default_rng(0).permutation(tracks) % groups
        without = self.under((group[:, None] != np.arange(groups)).astype(np.float64))
        pseudo = np.nan_to_num(-(groups - 1) * (without - np.nanmean(without)))
        return self.values.mean() + pseudo - pseudo.mean()


@dataclass(frozen=True)
class Paired:
    """A difference of two systems on the same tracks, see the conventions of the module.

    Attributes:
        difference: of the mean metrics, first less second.
        low, high: ends of the 95 % interval over tracks.
        sampling_error: over tracks.
        seed_spread: over seeds; NaN for a single seed.
        p_permutation: of the permutation test.
        p_mcnemar: of McNemar's test; NaN where the metric is no share of correct tracks.
        tracks: how many.
    """

    difference: float
    low: float
    high: float
    sampling_error: float
    seed_spread: float
    p_permutation: float
    p_mcnemar: float
    tracks: int

    @property
    def minimal_detectable(self) -> float:
        """The minimal detectable difference."""
        normal = NormalDist()
        return (normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(_POWER)) * self.sampling_error


def paired(
    first: Answers,
    second: Answers,
    *,
    same_seeds: bool = True,
    resamples: int = RESAMPLES,
    exchanges: int = EXCHANGES,
    seed: int = 0,
) -> Paired:
    """Return the difference of two systems on the same tracks.

    Args:
        first, second: answers to the same tracks in the same order.
        same_seeds: whether seed k of one shares its draws with seed k of the other.
        resamples, exchanges: of the bootstrap and of the permutation test.
        seed: of both.

    Raises:
        ValueError: the targets differ.
    """
    if not np.array_equal(first.targets, second.targets):
        raise ValueError("Answers to different tracks cannot be paired.")
    tracks = len(first.targets)
    difference = float(first.values.mean() - second.values.mean())
    if math.isnan(difference):
        return Paired(*[math.nan] * 7, tracks=tracks)
    random = np.random.default_rng(seed)
    counts = random.multinomial(tracks, np.full(tracks, 1 / tracks), size=resamples).T.astype(np.float64)
    resampled = first.under(counts) - second.under(counts)
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    return Paired(
        difference=difference,
        low=float(min(low, difference)),
        high=float(max(high, difference)),
        sampling_error=float(resampled.std(ddof=1)),
        seed_spread=_seed_spread(first.values, second.values, same_seeds),
        p_permutation=_permutation(first.contributions - second.contributions, exchanges, random),
        p_mcnemar=_mcnemar(first, second),
        tracks=tracks,
    )


def _seed_spread(first: np.ndarray, second: np.ndarray, same: bool) -> float:
    if min(len(first), len(second)) < 2:
        return math.nan
    if same and len(first) == len(second):
        return float((first - second).std(ddof=1))
    return float(math.sqrt(first.var(ddof=1) + second.var(ddof=1)))


def _permutation(differences: np.ndarray, exchanges: int, random: np.random.Generator) -> float:
    """Return the two-sided mid-p value of the mean of differences, whose signs are drawn at random."""
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    observed = abs(differences.sum())
    slack = 1e-9 * np.abs(differences).sum()
    larger = equal = 0
    for begin in range(0, exchanges, 1000):
        signs = random.integers(0, 2, (min(1000, exchanges - begin), len(differences)), dtype=np.int8)
        sums = np.abs((2.0 * signs - 1) @ differences)
        larger += int((sums > observed + slack).sum())
        equal += int((np.abs(sums - observed) <= slack).sum())
    # The observed pairing is one of the exchanges.
    return (larger + 0.5 * (equal + 1)) / (exchanges + 1)


def _mcnemar(first: Answers, second: Answers) -> float:
    correct = first.metric.correct
    if correct is None:
        return math.nan
    shares = [np.mean([correct(scores, system.targets) for scores in system.scores], axis=0) for system in (first, second)]
    wins, losses = (int((shares[a] > shares[b] + 1e-9).sum()) for a, b in ((0, 1), (1, 0)))
    tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2 ** (wins + losses))


def layer_error(
    valid: Sequence[Sequence[Answers]], test: Sequence[Sequence[float]], higher: bool, *, resamples: int = 1000, seed: int = 0
) -> float:
    """Return the deviation of the difference of two systems when both choose their layer on resampled validation tracks.

    A resample draws validation tracks, or groups of them, with replacement; metrics follow to first order.

    Args:
        valid: of each system, the answers of each layer to the same validation tracks.
        test: of each system, the test score of each layer.
        higher: whether higher values are better.
    """
    sides = []
    counts = None
    for layers, scores in zip(valid, test, strict=True):
        contributions = np.stack([answers.contributions for answers in layers], axis=1)
        size = len(contributions)
        if counts is None or counts.shape[1] != size:
            counts = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples)
        means = counts @ contributions / size
        means = np.where(np.isnan(means), -np.inf, means if higher else -means).round(12)
        sides.append(np.asarray(scores)[means.argmax(1)])
    return float((sides[0] - sides[1]).std(ddof=1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's method, in their order; NaN stays and is no test of the family."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    order = [number for number in np.argsort(p) if not math.isnan(p[number])]
    highest = 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[number]))
        adjusted[number] = highest
    return adjusted.tolist()


def tie_groups(scores: Sequence[float], alike: Callable[[int, int], bool], higher: bool) -> list[int]:
    """Return the group of each system, the best being 1: a group holds those that are not shown to differ from its best.

    Args:
        scores: of each system.
        alike: whether two systems, by number, are not shown to differ.
        higher: whether higher scores are better.
    """
    order = sorted(range(len(scores)), key=lambda number: -scores[number] if higher else scores[number])
    groups, leader, group = [0] * len(scores), order[0], 1
    for number in order:
        if number != leader and not alike(leader, number):
            leader, group = number, group + 1
        groups[number] = group
    return groups
