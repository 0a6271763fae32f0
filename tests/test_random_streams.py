"""Random streams by identity."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from marble.random_streams import generator, stream_seed


@given(st.text(), st.text(), st.integers())
def test_seeds_depend_on_all_of_the_identity(first, second, number):
    seed = stream_seed(first, second, number)
    assert 0 <= seed < 2**63
    assert seed == stream_seed(first, second, number)
    assert seed != stream_seed(first, second, number + 1)


def test_seeds_never_change():
    assert stream_seed("gtzan", 0, "weights") == 5566096192419339597


def test_streams_of_one_seed_are_apart_and_those_of_two_seeds_too():
    draws = [
        torch.rand(5, generator=generator(task, seed, purpose))
        for seed in (0, 1)
        for task, purpose in (("task", "order"), ("task", "dropout"), ("other", "order"))
    ]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)
