"""Decoders: against plain loops, and by hand."""

import itertools

import numpy as np
import pytest

from marble.frames import Grid
from marble.probe.scoring.frame_decoding import DECODERS

GRID = Grid(10.0)
decoders = DECODERS["frame_classes"]


def logits(seed, frames=40, classes=5):
    return np.random.default_rng(seed).normal(0, 2, (frames, classes)).astype(np.float32)


def one_hot(classes, width=4):
    return np.eye(width, dtype=np.float32)[np.asarray(classes)]


def test_raw_is_the_highest_logit_and_the_tags_above_zero():
    np.testing.assert_array_equal(decoders["raw"].decode(one_hot([2, 0, 3]), GRID, 0.0), [2, 0, 3])
    tags = DECODERS["frame_tags"]["raw"].decode(np.array([[0.1, -0.1], [0.0, 3.0]]), GRID, 0.0)
    np.testing.assert_array_equal(tags, [[True, False], [False, True]])


def test_the_mode_of_five_frames():
    raw = [1, 1, 2, 1, 1, 1, 3, 3, 3, 0, 3, 3, 2, 2]
    np.testing.assert_array_equal(decoders["mode"].decode(one_hot(raw), GRID, 0.2), [1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 2, 2, 2])


@pytest.mark.parametrize(("rate", "half"), [(1.0, 0), (15.625, 3), (18.75, 4), (25.0, 5)])
def test_the_mode_is_that_of_a_plain_loop(rate, half):
    scores = logits(3)
    raw = scores.argmax(1)
    plain = [np.bincount(raw[max(k - half, 0) : k + half + 1]).argmax() for k in range(len(raw))]
    np.testing.assert_array_equal(decoders["mode"].decode(scores, Grid(rate), 0.2), plain)


@pytest.mark.parametrize("constant", [0.0, 0.7, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_best_of_all_paths(seed, constant):
    scores = logits(seed, frames=7, classes=3).astype(np.float64)

    def score(path):
        stays = sum(one == other for one, other in itertools.pairwise(path))
        return scores[range(7), path].sum() + constant * stays

    best = max(itertools.product(range(3), repeat=7), key=score)
    assert tuple(decoders["viterbi"].decode(scores, GRID, constant)) == best


def test_constants_of_the_path():
    assert decoders["viterbi"].constants == (0.0, 2.0, 5.0, 10.0)
    scores = one_hot([0] * 10 + [1] + [0] * 10 + [2] * 10) * 6
    np.testing.assert_array_equal(decoders["viterbi"].decode(scores, GRID, 5.0), [0] * 21 + [2] * 10)
    np.testing.assert_array_equal(decoders["viterbi"].decode(scores, GRID, 0.0), scores.argmax(1))


def test_of_equal_scores_the_path_stays():
    scores = np.zeros((5, 3))
    scores[[0, 4], 0] = 9.0
    scores[2, 1] = 4.0  # to move there and back costs as much
    np.testing.assert_array_equal(decoders["viterbi"].decode(scores, GRID, 2.0), [0, 0, 0, 0, 0])


@pytest.mark.parametrize(("name", "constant"), [("raw", 0.0), ("mode", 0.2), ("viterbi", 2.0)])
def test_tracks_side_by_side_are_decoded_like_alone(name, constant):
    scores = np.stack([logits(seed) for seed in range(6)]).reshape(2, 3, 40, 5)
    together = decoders[name].decode(scores, GRID, constant)
    assert together.dtype == np.int64
    for one, other in itertools.product(range(2), range(3)):
        np.testing.assert_array_equal(together[one, other], decoders[name].decode(scores[one, other], GRID, constant))


@pytest.mark.parametrize("name", decoders)
def test_one_frame_and_none(name):
    assert decoders[name].decode(one_hot([3]), GRID, decoders[name].constants[-1]).tolist() == [3]
    assert decoders[name].decode(np.zeros((0, 4)), GRID, decoders[name].constants[-1]).tolist() == []
