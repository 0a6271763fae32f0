"""Influences are the slopes of the metrics of the probes, whose values they give, too."""

import numpy as np
import pytest
import torch

from marble.probe.scoring.metrics import METRICS
from marble.results.ranking.influence import influence_of, is_known

TRACKS, LABELS = 60, ["a", "b", "c", "d"]
STEP = 1e-5


def answers(kind, width, seed=0):
    """Scores, of which some are equal, and encoded targets."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(TRACKS, width)).round(1)
    if kind == "multilabel":
        targets = (random.random((TRACKS, width)) < [0.5, 0.3, 0.1, 0]).astype(np.float32)
        return scores + targets, targets
    if kind == "regression":
        return scores, (scores / 2 + random.normal(size=scores.shape)).astype(np.float32).astype(np.float64)
    targets = random.integers(0, width - 1, TRACKS)
    return scores + 2 * np.eye(width)[targets], targets


def stored(kind, labels, targets):
    """Targets as a result keeps them."""
    if kind == "regression":
        return list(targets)
    if kind == "multilabel":
        return [[labels[label] for label in np.flatnonzero(row)] for row in targets]
    return [[labels[label]] for label in targets]


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("multiclass", "accuracy"),
        ("multiclass", "balanced_accuracy"),
        ("multiclass", "key_score"),
        ("multiclass", "key_score_both_fifths"),
        ("ordinal", "ordinal_mse"),
        ("ordinal", "ordinal_balanced_accuracy"),
        ("multilabel", "roc_auc"),
        ("multilabel", "average_precision"),
        ("regression", "r2"),
        ("regression", "r2_arousal"),
        ("regression", "r2_valence"),
        ("regression", "mse"),
    ],
)
def test_influences_are_slopes_of_the_metric_in_the_weight_of_each_track(result, kind, metric):
    labels = [f"key {number}" for number in range(24)] if "key" in metric else LABELS
    width = 2 if kind == "regression" else len(labels)
    scores, targets = answers(kind, width)
    if kind == "ordinal":
        scores = (np.arange(width) <= targets[:, None]) + scores / 4
    result.task = result.task.model_copy(update={"kind": kind, "labels": labels})
    value, slopes = influence_of(result, metric, stored(kind, labels, targets), scores)
    counts = np.concatenate([np.ones((1, TRACKS)), 1 + STEP * np.eye(TRACKS), 1 - STEP * np.eye(TRACKS)])
    whole, *others = METRICS[metric](torch.from_numpy(scores), torch.from_numpy(targets), torch.from_numpy(counts)).tolist()
    up, down = np.array(others[:TRACKS]), np.array(others[TRACKS:])
    assert value == pytest.approx(whole, abs=1e-12)
    assert slopes == pytest.approx((up - down) / (2 * STEP), abs=1e-7)
    assert slopes.sum() == pytest.approx(0, abs=1e-12)


def test_what_is_known_depends_on_the_kind(result):
    assert is_known(result, "accuracy")
    assert not is_known(result, "kendall_tau")
    result.task.kind = "a kind of later"
    assert not is_known(result, "accuracy")
