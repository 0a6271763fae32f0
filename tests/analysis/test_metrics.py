"""The metrics in NumPy are those of the probes."""

import numpy as np
import pytest
import torch

from marble.analysis.metrics import METRICS
from marble.probe.scoring.metrics import METRICS as OF_PROBES


def drawn(kind, seed=0, tracks=120):
    """Scores, of which some are equal, and targets of a kind; the last class or label is rare."""
    random = np.random.default_rng(seed)
    width = {"multiclass": 24, "multilabel": 5, "regression": 2, "ordinal": 6}[kind]
    scores = random.normal(size=(tracks, width)).round(1)
    if kind == "multiclass":
        targets = random.integers(0, width - 1, tracks)
        targets[3] = width - 1
        scores[np.arange(tracks), targets] += 1
    elif kind == "multilabel":
        targets = (random.random((tracks, width)) < [0.5, 0.3, 0.2, 0.1, 0]).astype(np.float32)
        targets[7, 4] = 1
        scores += targets
    elif kind == "regression":
        targets = random.normal(size=(tracks, width)).astype(np.float32)
        scores = scores / 2 + targets
    else:
        targets = random.integers(0, width, tracks)
        scores = (np.arange(width) <= targets[:, None]) + scores / 2
    return scores, targets


def counts_of(tracks=120, resamples=40):
    random = np.random.default_rng(1)
    counts = random.multinomial(tracks, np.full(tracks, 1 / tracks), size=resamples).astype(np.float64)
    counts[0], counts[1] = 1, 0
    counts[2] = 0
    counts[2, 5] = 3
    return counts


CASES = [(name, kind) for name in METRICS for kind in OF_PROBES[name].kinds]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_values_under_all_counts(name, kind):
    scores, targets = drawn(kind)
    counts = counts_of()
    expected = OF_PROBES[name](torch.from_numpy(scores), torch.from_numpy(targets), torch.from_numpy(counts)).numpy()
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(METRICS[name].evaluate(scores, targets)(counts.T), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if METRICS[case[0]].contributions])
def test_contributions_have_the_metric_as_their_mean_and_are_those_of_each_track_alone(name, kind):
    metric = METRICS[name]
    (scores, targets), (other, _) = drawn(kind), drawn(kind, seed=5)
    own, theirs = metric.contributions(scores, targets), metric.contributions(other, targets)
    value = metric.evaluate(scores, targets)(np.ones((120, 1))).item()
    assert own.mean() == pytest.approx(value, abs=1e-12)
    swapped = np.random.default_rng(2).random(120) < 0.5
    mixed = np.where(swapped[:, None], other, scores)
    assert np.where(swapped, theirs, own).mean() == pytest.approx(metric.evaluate(mixed, targets)(np.ones((120, 1))).item())


def test_every_metric_of_tracks_is_there():
    assert set(METRICS) == {name for name, metric in OF_PROBES.items() if not (metric.of_windows or metric.decoder)}
