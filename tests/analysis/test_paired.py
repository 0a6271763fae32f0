"""Paired tests and intervals: exact where they can be, and calibrated on draws of systems that are alike or are not."""

import importlib.util
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from marble.analysis.metrics import METRICS
from marble.analysis.paired import Answers, holm, layer_error, paired, tie_groups

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "compare.py"


@pytest.fixture(scope="module")
def simulation():
    """The simulation of the benchmarks."""
    spec = importlib.util.spec_from_file_location("compare_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def right(*rows):
    """The answers of a system: in each row, a seed, 1 for each track that is classified correctly."""
    marks = np.array(rows)
    return Answers(METRICS["accuracy"], np.eye(2)[1 - marks], np.zeros(marks.shape[1], dtype=np.int64))


def test_the_permutation_test_is_that_of_all_exchanges():
    first, second = right([1, 1, 1, 1, 1, 0, 1, 1, 1, 0]), right([1, 0, 0, 1, 0, 1, 0, 1, 0, 0])
    seen = paired(first, second, exchanges=100_000)
    sums = np.array([sum(signs) for signs in product([-1, 1], repeat=6)])
    exact = np.mean(np.abs(sums) > 4) + np.mean(np.abs(sums) == 4) / 2
    assert seen.p_permutation == pytest.approx(exact, abs=0.005)
    assert seen.p_mcnemar == pytest.approx(stats.binomtest(1, 6).pvalue)
    assert seen.difference == pytest.approx(0.4)
    assert math.isnan(seen.seed_spread)


def test_alike_answers_differ_in_nothing():
    same = right([1, 0, 1, 1, 0], [1, 1, 0, 1, 0])
    seen = paired(same, same)
    assert (seen.difference, seen.low, seen.high, seen.sampling_error, seen.seed_spread) == (0, 0, 0, 0, 0)
    assert (seen.p_permutation, seen.p_mcnemar) == (1, 1)
    assert seen.minimal_detectable == 0


def test_exchanged_systems_have_the_negative_difference():
    random = np.random.default_rng(0)
    first, second = right(*random.integers(0, 2, (3, 80))), right(*random.integers(0, 2, (3, 80)))
    one, other = paired(first, second), paired(second, first)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_permutation == pytest.approx(other.p_permutation, abs=1e-9)
    assert one.sampling_error == pytest.approx(other.sampling_error)


def test_the_sampling_error_of_an_accuracy_is_that_of_a_mean():
    random = np.random.default_rng(0)
    marks = random.integers(0, 2, (2, 400))
    seen = paired(right(marks[0]), right(marks[1]), resamples=5000)
    error = (marks[0] - marks[1]).std() / 20
    assert seen.sampling_error == pytest.approx(error, rel=0.05)
    assert seen.minimal_detectable == pytest.approx(2.8016 * seen.sampling_error, rel=1e-4)
    assert (seen.low, seen.high) == pytest.approx((seen.difference - 1.96 * error, seen.difference + 1.96 * error), abs=0.01)


def test_seeds_are_paired_where_they_are_the_same():
    first, second = right([1, 1, 1, 1], [1, 1, 0, 0]), right([1, 1, 1, 0], [1, 0, 0, 0])
    assert paired(first, second).seed_spread == pytest.approx(0, abs=1e-12)
    assert paired(first, second, same_seeds=False).seed_spread == pytest.approx(0.5)


def test_the_choice_of_layer_adds_what_it_can_change():
    random = np.random.default_rng(0)
    good, fair = (random.random((2, 200)) < [[0.9], [0.6]]).astype(int)
    clear, open_choice = [right(good), right(fair)], [right(good), right(np.roll(good, 1))]
    assert layer_error([clear, clear], [[0.9, 0.2], [0.8, 0.1]], higher=True) == pytest.approx(0, abs=1e-12)
    error = layer_error([open_choice, clear], [[0.9, 0.5], [0.8, 0.1]], higher=True)
    assert 0.1 < error < 0.21
    assert layer_error([open_choice, open_choice], [[0.9, 0.5], [0.8, 0.4]], higher=True) == pytest.approx(0, abs=1e-12)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_ties_are_grouped_by_the_best_of_a_group():
    scores = [0.5, 0.9, 0.88, 0.6]
    alike = {frozenset((1, 2)), frozenset((0, 3)), frozenset((2, 3))}
    assert tie_groups(scores, lambda a, b: frozenset((a, b)) in alike, higher=True) == [2, 1, 1, 2]
    assert tie_groups(scores, lambda a, b: frozenset((a, b)) in alike, higher=False) == [1, 2, 2, 1]
    assert tie_groups([0.5], lambda a, b: True, higher=True) == [1]


def test_other_tracks_and_missing_scores():
    with pytest.raises(ValueError, match="different tracks"):
        paired(right([1, 0]), Answers(METRICS["accuracy"], np.eye(2)[None], np.array([0, 1])))
    broken = Answers(METRICS["accuracy"], np.full((1, 2, 2), np.nan), np.zeros(2, dtype=np.int64))
    assert math.isnan(paired(broken, right([1, 0])).p_permutation)


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "average_precision", "kendall_tau"])
def test_contributions_of_metrics_that_do_not_decompose_have_their_value_as_the_mean(simulation, name):
    cell = next(cell for cell in simulation.CELLS if cell.metric == name)
    for answers in cell.draw(np.random.default_rng(0), cell.qualities):
        assert answers.contributions.mean() == pytest.approx(answers.values.mean())


@pytest.mark.parametrize("name", ["accuracy", "r2", "kendall_tau"])
def test_rates_hold_in_a_few_draws(simulation, name):
    """The bounds are the ones asked for, three deviations wider: 100 draws leave 2.2 % of deviation."""
    cell = next(cell for cell in simulation.CELLS if cell.name == name)
    seen = simulation.measure(cell, 100, resamples=150, exchanges=300, truth_tracks=20_000)
    assert seen["permutation"] <= 13
    assert 86 <= seen["coverage"] <= 100
    assert seen["power"] > 15


def test_holm_holds_the_rate_of_a_family_in_a_few_draws(simulation):
    assert simulation.family(60, 0, exchanges=300)["any_false"] <= 14
