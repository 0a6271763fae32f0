"""The metrics of tracks in NumPy, for resampling: those of `marble.probe.scoring.metrics`, which has the definitions, to 1e-12.

Conventions
-----------
- ``scores`` is ``[N, C]``, the answers of one probe to N tracks; ``targets`` is what the kind of the task encodes.
- `Metric.evaluate` prepares answers once and returns a function from ``counts[N, R]``, how often each track counts in each of R
  resamples, to values ``[R]``. A value that does not exist is NaN.
- `Metric.contributions` gives what each track adds: ``[N]``, whose mean is the metric. Exchanging the answers of two systems
  to a track exchanges its contributions and no others. A metric without them does not decompose so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marble.kinds import grades

Evaluate = Callable[[np.ndarray], np.ndarray]
_Prepare = Callable[[np.ndarray, np.ndarray], Evaluate]
_Contribute = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric of tracks.

    Attributes:
        evaluate: from ``scores[N, C]`` and targets to the function from ``counts[N, R]`` to values ``[R]``.
        contributions: from scores and targets to ``[N]``, or None.
        correct: from scores and targets to bool[N], where the metric is the share of correct tracks.
    """

    evaluate: _Prepare
    contributions: _Contribute | None = None
    correct: _Contribute | None = None


def _correct(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return scores.argmax(1) == targets


def _mean(values: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Metric:
    """Return the metric that is the mean of a value of each track."""

    def evaluate(scores: np.ndarray, targets: np.ndarray) -> Evaluate:
        """Prepare the answers of a split."""
        each = values(scores, targets).astype(np.float64)
        return lambda counts: each @ counts / counts.sum(0)

    return Metric(evaluate, lambda scores, targets: values(scores, targets).astype(np.float64))


def _mean_of_classes(values: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Metric:
    """Return the metric that is the mean over classes of the mean of a value of the tracks of each."""

    def evaluate(scores: np.ndarray, targets: np.ndarray) -> Evaluate:
        """Prepare the answers of a split."""
        each = values(scores, targets).astype(np.float64)
        member = (targets == np.unique(targets)[:, None]).astype(np.float64)

        def value(counts: np.ndarray) -> np.ndarray:
            """Return the metric under ``counts[N, R]``."""
            with np.errstate(invalid="ignore"):
                return _nanmean((member * each) @ counts / (member @ counts))

        return value

    def contributions(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the part of each track."""
        classes, number, sizes = np.unique(targets, return_inverse=True, return_counts=True)
        return values(scores, targets) * len(targets) / len(classes) / sizes[number]

    return Metric(evaluate, contributions)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first dimension of what is not NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(0) / known.sum(0)


def _of_labels(column: _Prepare) -> Metric:
    """Return the metric that is the mean over labels, undefined ones left out, of a metric of one label."""

    def evaluate(scores: np.ndarray, targets: np.ndarray) -> Evaluate:
        """Prepare the answers of a split."""
        columns = [column(scores[:, label], targets[:, label]) for label in range(targets.shape[1])]
        return lambda counts: _nanmean(np.stack([value(counts) for value in columns]))

    return Metric(evaluate)


def _ranked(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the tracks from the highest score down, which of them are positive, and two numbers of tracks for each positive.

    These are the tracks above its group of equal scores, and those with the group.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order], target[order] > 0
    above = np.searchsorted(-ordered, -ordered[positive], side="left")
    reached = np.searchsorted(-ordered, -ordered[positive], side="right")
    return order, positive, above, reached


def _cumulated(counts: np.ndarray) -> np.ndarray:
    """Return the sums over the first 0, 1, … tracks, ``[N + 1, R]``."""
    return np.concatenate([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0, dtype=np.float64)])


def _roc_auc(scores: np.ndarray, target: np.ndarray) -> Evaluate:
    order, positive, above, reached = _ranked(scores, target)

    def value(counts: np.ndarray) -> np.ndarray:
        """Return the metric under ``counts[N, R]``."""
        ordered = counts[order]
        negatives = _cumulated(ordered * ~positive[:, None])
        # A pair with a negative below counts once, one with a negative of the own group half.
        won = 2 * negatives[-1] - negatives[reached] - negatives[above]
        hits = ordered[positive]
        with np.errstate(invalid="ignore"):
            return (hits * won).sum(0) / (2 * negatives[-1] * hits.sum(0))

    return value


def _average_precision(scores: np.ndarray, target: np.ndarray) -> Evaluate:
    order, positive, _, reached = _ranked(scores, target)

    def value(counts: np.ndarray) -> np.ndarray:
        """Return the metric under ``counts[N, R]``."""
        ordered = counts[order]
        hits, taken = _cumulated(ordered * positive[:, None])[reached], _cumulated(ordered)[reached]
        own = ordered[positive]
        with np.errstate(invalid="ignore"):
            return (own * hits / np.where(taken > 0, taken, 1)).sum(0) / own.sum(0)

    return value


def _squares(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (scores.astype(np.float64) - targets.astype(np.float64)) ** 2


def _r2(dimension: int | None = None) -> Metric:
    part = slice(None) if dimension is None else slice(dimension, dimension + 1)

    def evaluate(scores: np.ndarray, targets: np.ndarray) -> Evaluate:
        """Prepare the answers of a split."""
        errors, values = _squares(scores, targets)[:, part].T, targets[:, part].T.astype(np.float64)
        values = values - values.mean(1, keepdims=True)
        whole = values.var(1)[:, None]

        def value(counts: np.ndarray) -> np.ndarray:
            """Return the metric under ``counts[N, R]``."""
            total = counts.sum(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                variance = values**2 @ counts / total - (values @ counts / total) ** 2
                # Of a constant dimension rounding leaves a little.
                return _nanmean(np.where(variance > 1e-12 * whole, 1 - errors @ counts / total / variance, np.nan))

        return value

    def contributions(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the part of each track."""
        errors, values = _squares(scores, targets)[:, part], targets[:, part].astype(np.float64)
        varies = values.max(0) > values.min(0)
        return 1 - (errors[:, varies] / values[:, varies].var(0)).mean(1)

    return Metric(evaluate, contributions)


def _key_table(*, both_fifths: bool = False) -> np.ndarray:
    """Return the score of each pair of keys, ``float64[reference, estimated]``."""
    number = np.arange(24)
    minor = number >= 12
    step = (number[None] - number[:, None]) % 12
    same_mode = minor[:, None] == minor
    table = np.where(same_mode & ((step == 7) | ((step == 5) & both_fifths)), 0.5, 0.0)
    table[~same_mode & (step == np.where(minor[:, None], 3, 9))] = 0.3
    table[~same_mode & (step == 0)] = 0.2
    np.fill_diagonal(table, 1.0)
    return table


def _key_score(*, both_fifths: bool = False) -> Metric:
    table = _key_table(both_fifths=both_fifths)
    return _mean(lambda scores, targets: table[targets, scores.argmax(1)])


def _kendall_tau(scores: np.ndarray, targets: np.ndarray) -> Evaluate:
    """Return tau-b: concordant less discordant pairs over the geometric mean of the pairs not tied on either side."""
    count = scores.shape[1]
    cell = targets * (count + 1) + grades(scores) + 1
    member = (cell == np.arange(count * (count + 1))[:, None]).astype(np.float64)

    def value(counts: np.ndarray) -> np.ndarray:
        """Return the metric under ``counts[N, R]``."""
        table = (member @ counts).reshape(count, count + 1, -1)
        lower = table.cumsum(0)[:-1]  # tracks of all lower true grades, for each decoded grade
        below = lower.cumsum(1) - lower
        higher = lower.sum(1, keepdims=True) - lower.cumsum(1)
        difference = (table[1:] * (below - higher)).sum((0, 1))
        pairs = table.sum((0, 1)) ** 2
        untied = [(pairs - (table.sum(axis) ** 2).sum(0)) / 2 for axis in (1, 0)]
        product = untied[0] * untied[1]
        return np.where(product > 0, difference / np.sqrt(np.where(product > 0, product, 1)), np.nan)

    return value


_accuracy = _mean(_correct)
METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy.evaluate, _accuracy.contributions, _correct),
    "balanced_accuracy": _mean_of_classes(_correct),
    "roc_auc": _of_labels(_roc_auc),
    "average_precision": _of_labels(_average_precision),
    "r2": _r2(),
    "r2_arousal": _r2(0),
    "r2_valence": _r2(1),
    "mse": _mean(lambda scores, targets: _squares(scores, targets).mean(1)),
    "key_score": _key_score(),
    "key_score_both_fifths": _key_score(both_fifths=True),
    "ordinal_mse": _mean_of_classes(lambda scores, targets: (grades(scores) - targets) ** 2),
    "ordinal_balanced_accuracy": _mean_of_classes(lambda scores, targets: grades(scores) == targets),
    "kendall_tau": Metric(_kendall_tau),
}
