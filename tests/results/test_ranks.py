"""Ties and ranks: from the answers where they are stored, else from what the result states."""

import numpy as np
import pandas
import pytest

from marble.results.ranking.ranks import Estimate, estimate, rank_intervals, tie_groups, tied
from marble.results.schema import Summary


def made(correct, higher=True):
    """The estimate of an accuracy, from which tracks each seed answers correctly, ``[S, N]``."""
    correct = np.atleast_2d(np.asarray(correct, dtype=float))
    names = tuple(f"track {number:03}" for number in range(correct.shape[1]))
    influences = (correct - correct.mean(1, keepdims=True)).mean(0) / correct.shape[1]
    return Estimate(correct.mean(), correct.mean(1), 0.05, names, influences, higher)


def stated(value, error=0.05):
    """An estimate without answers."""
    return Estimate(value, np.array([value]), error, (), np.zeros(0), True)


def test_an_estimate_knows_the_tracks_of_the_stored_answers(result, saved):
    metric, test = result.task.main_metric, result.selected.test[result.task.main_metric]
    part = estimate(result, metric, saved)
    answers = result.predictions(saved, layer=result.selected.layer, split="test")
    right = (answers.prediction == answers.target.str[0]).groupby(answers.track).mean()
    assert part.tracks == tuple(right.index)
    assert part.value == pytest.approx(test.mean)
    assert part.influences == pytest.approx((right.to_numpy() - right.mean()) / len(right))
    assert estimate(result, metric).tracks == ()


def test_answers_that_are_gone_of_another_run_or_of_other_scores_are_not_used(result, saved):
    result.layers[result.selected.layer].runs[0].test["accuracy"] = 0.123
    assert estimate(result, "accuracy", saved).tracks == ()
    (saved / result.path).with_suffix(".parquet").unlink()
    assert estimate(result, "balanced_accuracy", saved).tracks == ()


def test_answers_of_a_kind_that_is_not_known_are_not_read(result, tmp_path):
    result.task.kind = "a kind of later"
    file = (tmp_path / result.path).with_suffix(".parquet")
    file.parent.mkdir(parents=True)
    pandas.DataFrame({"track": ["a"]}).to_parquet(file)
    result.predictions_sha256 = None
    assert estimate(result, "accuracy", tmp_path).tracks == ()


def test_the_error_of_a_stated_score_is_that_of_its_interval_and_its_seeds(result):
    result.selected.test["accuracy"] = Summary(mean=0.5, std=0.03 * 2**0.5, ci95=(0.5 - 1.96 * 0.04, 0.5 + 1.96 * 0.04))
    assert estimate(result, "accuracy").error == pytest.approx(0.05)
    assert tied(stated(0.5), stated(0.63))
    assert not tied(stated(0.5), stated(0.65))


def test_pairs_on_the_same_tracks_are_told_apart_by_the_tracks_that_they_answer_differently():
    """Of 200 tracks the one misses 60 that the other misses, too, and 12 more: unpaired, these would not count."""
    correct = np.arange(200) >= 60
    worse = made(correct & (np.arange(200) < 188))
    assert not tied(made(correct), worse)
    assert tied(made(correct), made(correct))
    assert tied(Estimate(*[*vars(made(correct)).values()][:3], (), np.zeros(0), True), worse)


def test_two_of_equal_worth_are_told_apart_in_one_case_of_twenty():
    random = np.random.default_rng(0)
    apart = 0
    for _ in range(600):
        hard = random.random(150)
        pair = [made((hard[None] + random.normal(scale=0.3, size=(1, 150))) < 0.6) for _ in range(2)]
        apart += not tied(*pair)
    assert 0.03 <= apart / 600 <= 0.07


def test_a_tie_group_holds_what_is_tied_with_its_best():
    near = [0.9, 0.88, 0.86, 0.84, 0.5]
    assert tie_groups(near, lambda a, b: abs(near[a] - near[b]) < 0.03, higher=True) == [1, 1, 2, 2, 3]
    assert tie_groups(near, lambda a, b: abs(near[a] - near[b]) < 0.03, higher=False) == [3, 3, 2, 2, 1]


def test_ranks_have_intervals_over_tracks_seeds_and_tasks():
    random = np.random.default_rng(0)
    good, fair, poor = (made(random.random((3, 300)) < share) for share in (0.9, 0.88, 0.4))
    assert rank_intervals({"a": [[poor, good, fair]]}) == [(3, 3, 3), (1, 1, 2), (2, 1, 2)]
    assert rank_intervals({"a": [[poor, good, fair]]}) == rank_intervals({"a": [[poor, good, fair]]})
    same = made(random.random(300) < 0.9)
    assert rank_intervals({"a": [[same, same]]}) == [(1, 1, 1), (1, 1, 1)]
    # Each is far ahead on one of two tasks, by no error over tracks: a resample of tasks turns them.
    half = made(random.random((3, 300)) < 0.6)
    assert rank_intervals({"a": [[good, poor]], "b": [[half, good]]}) == [(1, 1, 2), (2, 1, 2)]
    assert rank_intervals({"a": [[stated(0.2), stated(0.9)]]}) == [(2, 2, 2), (1, 1, 1)]
    errors = [made(random.random(300) < share, higher=False) for share in (0.9, 0.4)]
    assert rank_intervals({"a": [errors]}) == [(2, 2, 2), (1, 1, 1)]
