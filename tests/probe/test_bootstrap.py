"""The bootstrap interval against resampling by hand, and its coverage."""

import numpy as np
import pytest
import torch

from marble.probe.bootstrap import bootstrap_interval
from marble.probe.metrics import METRICS


def test_is_what_resampling_by_hand_gives():
    random = np.random.default_rng(0)
    scores = torch.from_numpy(np.round(random.normal(size=(3, 20, 2)), 1))
    targets = torch.from_numpy((random.random((20, 2)) < 0.4).astype(np.float32))
    counts = np.random.default_rng(7).multinomial(20, np.full(20, 1 / 20), size=50)
    values = []
    for times in counts:
        drawn = np.repeat(np.arange(20), times)
        values.append(float(METRICS["roc_auc"](scores[:, drawn], targets[drawn]).mean()))
    low, high = bootstrap_interval(scores, targets, METRICS["roc_auc"], resamples=50, seed=7, level=0.8)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])), abs=1e-12)


def test_windows_are_drawn_with_their_track():
    random = np.random.default_rng(0)
    track = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4, 4])
    scores, targets = torch.from_numpy(random.normal(size=(2, 10, 3))), torch.from_numpy(random.integers(0, 3, 10))
    counts = np.random.default_rng(7).multinomial(5, np.full(5, 1 / 5), size=50)
    values = []
    for times in counts:
        drawn = np.repeat(np.arange(10), times[track.numpy()])
        values.append(float(METRICS["window_accuracy"](scores[:, drawn], targets[drawn]).mean()))
    found = bootstrap_interval(scores, targets, METRICS["window_accuracy"], track=track, resamples=50, seed=7, level=0.8)
    assert found == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])), abs=1e-12)


def test_covers_the_truth_about_as_often_as_it_says():
    truth, hits = 0.7, 0
    for seed in range(200):
        correct = np.random.default_rng(seed).random(80) < truth
        scores = torch.from_numpy(np.stack([correct, ~correct], -1).astype(np.float32))[None]
        low, high = bootstrap_interval(scores, torch.zeros(80, dtype=torch.int64), METRICS["accuracy"], resamples=200)
        hits += low <= truth <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_is_repeatable_and_narrows_with_tracks_and_level():
    random = np.random.default_rng(1)
    scores = torch.from_numpy(random.normal(size=(2, 4000, 3)))
    targets = torch.from_numpy(random.integers(0, 3, 4000))

    def width(tracks, level=0.95):
        low, high = bootstrap_interval(scores[:, :tracks], targets[:tracks], METRICS["accuracy"], resamples=300, level=level)
        return high - low

    assert width(1000) == width(1000)
    assert width(4000) < 0.7 * width(1000)
    assert width(1000, level=0.5) < width(1000)


def test_resamples_without_a_value_are_left_out():
    targets = torch.tensor([[1.0], [0.0], [0.0], [0.0]])  # a third of the resamples have no positive
    ends = bootstrap_interval(torch.tensor([[[3.0], [1.0], [2.0], [0.0]]]), targets, METRICS["roc_auc"], resamples=50)
    assert ends == (1.0, 1.0)


def test_a_metric_that_never_exists_has_no_interval():
    low, high = bootstrap_interval(torch.zeros(1, 5, 2), torch.zeros(5, 2), METRICS["roc_auc"], resamples=10)
    assert np.isnan([low, high]).all()
