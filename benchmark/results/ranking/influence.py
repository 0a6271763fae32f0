"""Influence of each track on a metric, in NumPy: the metric's slope in the track's weight, from stored answers.

A resample of the tracks with counts c has, to first order, the metric ``value + influence @ (c - 1)``; the variance over tracks
is the sum of squared influences (the infinitesimal jackknife: Efron 1982). So a resample costs one product, however long the
metric takes. The influences of a metric sum to 0.

`marble.probe.scoring.metrics` defines the metrics. What is undefined is left out of macro means as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from marble.kinds import grades
from marble.results.schema import Result

Influence = tuple[float, np.ndarray]  # the value, and the slope in the weight of each track, float64[N]
_Of = Callable[[np.ndarray, np.ndarray], Influence]


def is_known(result: Result, metric: str) -> bool:
    """Return whether this module knows a metric of the answers to a task."""
    return metric in _OF_KIND.get(result.task.kind, {})


def influence_of(result: Result, metric: str, targets: Sequence[Any], logits: Sequence[Any]) -> Influence:
    """Return value and influences of a metric of one seed, from the columns of its answers.

    Args:
        result: that the answers belong to.
        metric: one that `is_known`.
        targets, logits: as `Result.predictions` has them, of N tracks.
    """
    kind = result.task.kind
    outputs = np.stack([np.asarray(row, dtype=np.float64) for row in logits])
    if kind == "regression":
        return _OF_KIND[kind][metric](outputs, np.stack([np.asarray(row, dtype=np.float64) for row in targets]))
    number = {label: place for place, label in enumerate(result.task.labels)}
    if kind == "multilabel":
        truth = np.zeros(outputs.shape, dtype=bool)
        for row, tags in enumerate(targets):
            truth[row, [number[tag] for tag in tags]] = True
        return _mean_of_labels(_OF_KIND[kind][metric], outputs, truth)
    answers = outputs.argmax(1) if kind == "multiclass" else np.asarray(grades(outputs))
    return _OF_KIND[kind][metric](answers, np.array([number[target[0]] for target in targets]))


def _mean(values: np.ndarray) -> Influence:
    values = values.astype(np.float64)
    return float(values.mean()), (values - values.mean()) / len(values)


def _mean_of_classes(values: np.ndarray, classes: np.ndarray) -> Influence:
    """Return the mean over classes of the mean of the values of their tracks."""
    names, number, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.bincount(number, values) / sizes
    return float(means.mean()), (values - means[number]) / sizes[number] / len(names)


def _keys(answers: np.ndarray, targets: np.ndarray, fifths: tuple[int, ...] = (7,)) -> Influence:
    """Return the mean weighted score of keys, 0 to 11 being major."""
    step, minor = (answers - targets) % 12, targets >= 12
    same = (answers >= 12) == minor
    score = np.where(same, np.where(step == 0, 1.0, np.where(np.isin(step, fifths), 0.5, 0.0)), 0.0)
    return _mean(np.where(same, score, np.where(step == 0, 0.2, np.where(step == np.where(minor, 3, 9), 0.3, 0.0))))


def _r2(outputs: np.ndarray, targets: np.ndarray) -> Influence:
    targets, outputs = targets[:, np.ptp(targets, axis=0) > 0], outputs[:, np.ptp(targets, axis=0) > 0]
    errors, deviations = (outputs - targets) ** 2, (targets - targets.mean(0)) ** 2
    ratio = errors.sum(0) / deviations.sum(0)
    return float(1 - ratio.mean()), ((ratio * deviations - errors) / deviations.sum(0)).mean(1)


def _mean_of_labels(metric: _Of, outputs: np.ndarray, truth: np.ndarray) -> Influence:
    parts = [metric(outputs[:, label], truth[:, label]) for label in range(truth.shape[1])]
    parts = [part for part in parts if not np.isnan(part[0])]
    if not parts:
        return np.nan, np.zeros(len(truth))
    return float(np.mean([value for value, _ in parts])), np.mean([slopes for _, slopes in parts], axis=0)


def _ranked(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the group of equal scores of each track, from the highest, and the positives and negatives of each group."""
    _, group = np.unique(-scores, return_inverse=True)
    return group, np.bincount(group, truth), np.bincount(group, ~truth)


def _roc_auc(scores: np.ndarray, truth: np.ndarray) -> Influence:
    group, positives, negatives = _ranked(scores, truth)
    total = positives.sum() * negatives.sum()
    if not total:
        return np.nan, np.zeros(len(truth))
    below = negatives.sum() - negatives.cumsum() + negatives / 2  # negatives that a positive of a group wins against
    above = positives.cumsum() - positives / 2
    value = float((positives * below).sum() / total)
    won = np.where(truth, below[group] / negatives.sum(), above[group] / positives.sum())
    return value, (won - value) / np.where(truth, positives.sum(), negatives.sum())


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> Influence:
    group, positives, negatives = _ranked(scores, truth)
    if not positives.sum():
        return np.nan, np.zeros(len(truth))
    hits, misses = positives.cumsum(), negatives.cumsum()
    taken = hits + misses
    value = float((positives * hits / taken).sum() / positives.sum())
    # A track moves the precision at its own score and at all lower ones: up where it is positive, else down.
    up, down = (np.cumsum((positives * part / taken**2)[::-1])[::-1] for part in (misses, hits))
    slopes = np.where(truth, (hits / taken)[group] - value + up[group], -down[group])
    return value, slopes / positives.sum()


_OF_KIND: dict[str, dict[str, _Of]] = {
    "multiclass": {
        "accuracy": lambda answers, targets: _mean(answers == targets),
        "balanced_accuracy": lambda answers, targets: _mean_of_classes(answers == targets, targets),
        "key_score": _keys,
        "key_score_both_fifths": lambda answers, targets: _keys(answers, targets, (5, 7)),
    },
    "ordinal": {
        "ordinal_mse": lambda answers, targets: _mean_of_classes((answers - targets) ** 2.0, targets),
        "ordinal_balanced_accuracy": lambda answers, targets: _mean_of_classes(answers == targets, targets),
    },
    "multilabel": {"roc_auc": _roc_auc, "average_precision": _average_precision},
    "regression": {
        "r2": _r2,
        "r2_arousal": lambda outputs, targets: _r2(outputs[:, :1], targets[:, :1]),
        "r2_valence": lambda outputs, targets: _r2(outputs[:, 1:2], targets[:, 1:2]),
        "mse": lambda outputs, targets: _mean(((outputs - targets) ** 2).mean(1)),
    },
}
