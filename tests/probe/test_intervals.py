"""Intervals over tracks: the jackknife by hand, Wilson's formula, coverage of known populations, the choice of the layer."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from marble.probe.scoring.intervals import estimate, interval, interval_of_choice, selection_shares
from marble.probe.scoring.metrics import METRICS


def answers(right):
    """Scores of two classes and targets from which answers are right, ``[S, N]``."""
    right = torch.as_tensor(np.asarray(right))
    return torch.stack([right, ~right], -1).float(), torch.zeros(right.shape[1], dtype=torch.int64)


def of_accuracy(right):
    return estimate(*answers(right), METRICS["accuracy"])


def tagged(random, tracks, positives, distance, seeds=1):
    """Normal scores of labels, those of positives higher by a distance, and targets."""
    targets = random.random((tracks, len(positives))) < positives / tracks
    scores = random.normal(size=(seeds, tracks, len(positives))) + distance * targets
    return torch.from_numpy(scores), torch.from_numpy(targets.astype(np.float32))


def ends(scores, targets, metric, **options):
    own = estimate(scores, targets, METRICS[metric], **options)
    return interval(own, own.value)


def test_the_error_and_the_bias_are_those_of_leaving_tracks_out_by_hand():
    scores, targets = tagged(np.random.default_rng(0), 40, np.full(3, 12.0), 1.0, seeds=2)
    metric, every = METRICS["average_precision"], np.arange(40)
    without = np.array([float(metric(scores[:, every != out], targets[every != out]).mean()) for out in every])
    own = estimate(scores, targets, metric)
    assert sorted(own.influences) == pytest.approx(sorted(without - without.mean()), abs=1e-12)
    bias = 39 * (without.mean() - own.value)
    few = float((1 / targets.double().sum(0)).mean())
    assert own.centre == pytest.approx(own.value - bias, abs=1e-12)
    assert own.error**2 == pytest.approx(39 * without.var() * (1 + few) + bias**2 / 4, abs=1e-12)


def test_windows_are_left_out_with_their_track():
    random = np.random.default_rng(0)
    track = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4, 4])
    scores, targets, metric = torch.from_numpy(random.normal(size=(2, 10, 3))), torch.arange(10) % 3, METRICS["window_accuracy"]
    without = np.array([float(metric(scores[:, track != out], targets[track != out]).mean()) for out in range(5)])
    own = estimate(scores, targets, metric, track=track)
    assert sorted(own.influences) == pytest.approx(sorted(without - without.mean()), abs=1e-12)


def test_a_share_of_single_answers_has_the_interval_of_wilson_with_a_quarter_of_a_trial():
    low, high = ends(*answers([[True] * 280 + [False] * 120]), "accuracy")
    for end in (low, high):
        reach = NormalDist().inv_cdf(0.975) * math.sqrt(end * (1 - end) / 400) + 0.25 / 400
        assert abs(end - 0.7) == pytest.approx(reach, rel=3e-3)


@pytest.mark.parametrize("seeds", [1, 5])
def test_perfect_answers_leave_room_for_the_errors_that_few_tracks_cannot_show(seeds):
    low, high = ends(*answers([[True] * 57] * seeds), "accuracy")
    assert high == 1.0
    assert 0.9 < low < 0.95  # all of 57 are right with probability .025 at .937


def test_a_perfect_ranking_of_few_positives_says_little():
    targets = torch.zeros(100, 2)
    targets[:3] = 1
    for metric in ("roc_auc", "average_precision"):
        low, high = ends(targets[None], targets, metric)
        assert (low < 0.8, high) == (True, 1.0)


COVERED = {
    "accuracy of .98 on 57 tracks": (0.98, lambda random: (*answers(random.random((1, 57)) < 0.98), "accuracy")),
    "accuracy of .956 on 57 tracks": (0.956, lambda random: (*answers(random.random((1, 57)) < 0.956), "accuracy")),
    "10 labels of 5 tracks": (0.2645, lambda random: (*tagged(random, 150, np.full(10, 5.0), 1.5), "average_precision")),
    "10 labels of 8 tracks": (0.2104, lambda random: (*tagged(random, 125, np.full(10, 8.0), 1.0), "average_precision")),
    "weak regression": (0.08, lambda random: (*weak(random), "r2")),
}


def weak(random):
    targets = random.normal(size=(50, 1))
    return torch.from_numpy(0.1 * targets + math.sqrt(0.11) * random.normal(size=(1, 50, 1))), torch.from_numpy(targets)


@pytest.mark.parametrize("name", COVERED)
def test_covers_the_population_about_as_often_as_it_says(name):
    truth, draw = COVERED[name]
    pairs = np.array([ends(*draw(np.random.default_rng(number))) for number in range(200)])
    assert 0.92 <= ((pairs[:, 0] <= truth) & (truth <= pairs[:, 1])).mean() <= 0.99


def covered_exactly(tracks, level):
    """The coverage of the accuracy of one probe, summed over the numbers of wrong answers, and their probabilities."""
    chances = [math.comb(tracks, wrong) * (1 - level) ** wrong * level ** (tracks - wrong) for wrong in range(tracks + 1)]
    pairs = {
        wrong: ends(*answers([[False] * wrong + [True] * (tracks - wrong)]), "accuracy")
        for wrong, chance in enumerate(chances)
        if chance > 1e-6
    }
    return sum(chances[wrong] for wrong, (low, high) in pairs.items() if low <= level <= high), chances


@pytest.mark.parametrize("tracks", [57, 125, 290, 604])
@pytest.mark.parametrize("level", [0.95, 0.98, 0.997])
def test_the_accuracy_of_one_probe_near_the_ceiling_is_covered(tracks, level):
    coverage, chances = covered_exactly(tracks, level)
    if (tracks, level) == (57, 0.997):  # none wrong, or at most one: nothing lies between
        assert [round(sum(chances[: wrong + 1]), 3) for wrong in range(3)] == [0.843, 0.987, 0.999]
        assert coverage == pytest.approx(0.987, abs=1e-3)
    else:
        assert 0.92 <= coverage <= 0.98


def test_the_accuracy_of_seeds_that_nearly_agree_is_covered_near_the_ceiling():
    pairs = []
    for number in range(200):
        random = np.random.default_rng(number)
        latent = math.sqrt(0.99) * random.normal(size=290) + 0.1 * random.normal(size=(5, 290))
        pairs.append(ends(*answers(latent < NormalDist().inv_cdf(0.99)), "accuracy"))
    low, high = np.array(pairs).T
    assert 0.92 <= ((low <= 0.99) & (high >= 0.99)).mean() <= 0.99


@pytest.mark.parametrize("tracks", [8, 40])
@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.decoder])
def test_contains_the_mean_that_it_stands_beside(name, tracks):
    random, metric = np.random.default_rng(3), METRICS[name]
    for strength in range(6):
        targets = torch.from_numpy(random.integers(0, 24, tracks))
        scores = torch.from_numpy(random.normal(size=(2, tracks, 24))) + strength * torch.nn.functional.one_hot(targets, 24)
        if name in ("roc_auc", "average_precision"):
            targets = (torch.from_numpy(random.normal(size=(tracks, 24))) + scores.mean(0) > 1).float()
        elif name == "mse" or metric.scale == "explained":
            targets = torch.from_numpy(random.normal(size=(tracks, 24)))
        elif "ordinal" in name or name == "kendall_tau":
            grades = targets + torch.from_numpy(random.normal(size=(2, tracks))) * (5 - strength)
            scores = (torch.arange(24) <= grades[..., None]).double()
        own = estimate(scores, targets, metric)
        low, high = interval(own, own.value)
        assert low <= own.value <= high


def test_is_repeatable_and_narrows_with_tracks_and_level():
    random = np.random.default_rng(1)
    scores = torch.from_numpy(random.normal(size=(2, 4000, 3)))
    targets = torch.from_numpy(random.integers(0, 3, 4000))

    def width(tracks, level=0.95):
        own = estimate(scores[:, :tracks], targets[:tracks], METRICS["accuracy"])
        low, high = interval(own, own.value, level)
        return high - low

    assert width(1000) == width(1000)
    assert width(4000) < 0.7 * width(1000)
    assert width(1000, level=0.5) < width(1000)


def test_many_tracks_in_the_order_of_their_classes_have_the_error_of_their_number():
    own = of_accuracy([[True] * 1000 + [False] * 1000])
    assert own.error == pytest.approx(math.sqrt(0.25 / 2000), rel=0.1)


def test_groups_without_a_value_are_passed_over():
    targets = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    own = estimate(torch.tensor([[[3.0], [1.0], [2.0], [0.0]]]), targets, METRICS["roc_auc"])
    low, high = interval(own, own.value)
    assert (low < 0.5, high) == (True, 1.0)  # there is one positive


def test_a_metric_that_never_exists_has_no_interval():
    own = estimate(torch.zeros(1, 5, 2), torch.zeros(5, 2), METRICS["roc_auc"])
    assert np.isnan(interval(own, own.value)).all()


def test_the_choice_is_repeated_as_by_resampling_tracks():
    random = np.random.default_rng(5)
    right = random.random((3, 60)) < np.array([0.6, 0.7, 0.72])[:, None]
    drawn = np.random.default_rng(9).multinomial(60, np.full(60, 1 / 60), size=20_000)
    best = (drawn @ right.T.astype(float)).argmax(1)
    shares = selection_shares([of_accuracy(row[None]) for row in right], resamples=20_000, seed=1)
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx(np.bincount(best, minlength=3) / 20_000, abs=0.02)


def test_the_first_of_equal_layers_is_chosen_and_never_one_without_a_score():
    some = of_accuracy([[True, False] * 20])
    nothing = estimate(torch.full((1, 40, 2), math.nan), torch.zeros(40, dtype=torch.int64), METRICS["accuracy"])
    assert selection_shares([nothing, some, some]) == [0.0, 1.0, 0.0]


def test_the_lower_error_is_chosen():
    random = np.random.default_rng(0)
    targets = torch.from_numpy(random.normal(size=(50, 1)))
    layers = [estimate(factor * targets[None], targets, METRICS["mse"]) for factor in (0.1, 0.9, 0.5)]
    assert selection_shares(layers) == [0.0, 1.0, 0.0]


def test_a_choice_that_may_differ_widens_the_interval_toward_the_other_layer():
    one, other = (of_accuracy([[True] * right + [False] * (200 - right)]) for right in (160, 100))
    sure, never, may = (interval_of_choice([one, other], [share, 1 - share], one.value) for share in (1.0, 0.99, 0.7))
    assert sure == interval(one, one.value)
    assert never == pytest.approx(sure, abs=0.01)
    assert 0.43 < may[0] < 0.5 < 0.8 < may[1] < sure[1]
