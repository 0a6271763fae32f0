"""Random quantisers: their published draws, their formulas computed otherwise, and what they must not depend on."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from marble.pretraining.targets.quantisers import FSQ, RandomProjection


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_draws_are_those_of_musicfm():
    quantiser = RandomProjection(512, codes=4096, seed=142)
    assert quantiser.projection[0, 0, :3].tolist() == pytest.approx([0.0677, -0.0489, -0.0975], abs=5e-5)
    assert quantiser.codebook[0, 0, :3].tolist() == pytest.approx([-0.9838, -0.1516, -0.3662], abs=5e-5)
    assert quantiser.projection.std() == pytest.approx((2 / 528) ** 0.5, rel=0.02)


def test_codebook_k_has_the_draws_of_seed_plus_k_and_the_global_stream_is_left_alone():
    before = torch.get_rng_state()
    four = RandomProjection(384, codes=64, codebooks=4, seed=0)
    FSQ(64)
    assert torch.equal(torch.get_rng_state(), before)
    for k in range(4):
        torch.manual_seed(k)  # as the official constructor does
        assert torch.equal(four.projection[k], nn.init.xavier_normal_(torch.empty(384, 16)))
        assert torch.equal(four.codebook[k], torch.empty(64, 16).normal_())


def test_tokens_are_the_nearest_codes_on_the_sphere():
    quantiser = RandomProjection(48, codes=200, dimensions=8, codebooks=3, seed=5)
    features = noise(2, 50, 48)
    tokens = quantiser(features).numpy()
    assert tokens.shape == (2, 50, 3)
    for k in range(3):
        projected = features.double().numpy() @ quantiser.projection[k].double().numpy()
        codes = quantiser.codebook[k].double().numpy()
        projected /= np.linalg.norm(projected, axis=-1, keepdims=True)
        codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
        distances = np.linalg.norm(projected[:, :, None] - codes, axis=-1)
        np.testing.assert_array_equal(tokens[..., k], distances.argmin(-1))


@pytest.mark.parametrize("quantiser", [RandomProjection(64, 512, codebooks=2), FSQ(64), FSQ(64, formula="paper")])
def test_tokens_do_not_depend_on_autocast_nor_on_what_stands_beside(quantiser):
    features = noise(4, 30, 64)
    tokens = quantiser(features)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (4, 30, quantiser.codebooks)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantiser(features), tokens)
    assert torch.equal(quantiser(features[1:2, 7:19]), tokens[1:2, 7:19])


def test_draws_travel_with_the_state_and_are_not_trained():
    for kind, other in ((lambda s: RandomProjection(32, 99, seed=s), 1), (lambda s: FSQ(32, seed=s), 1)):
        saved, loaded = kind(0), kind(other)
        features = noise(1, 200, 32)
        assert not torch.equal(loaded(features), saved(features))
        loaded.load_state_dict(saved.state_dict())
        assert torch.equal(loaded(features), saved(features))
        assert not list(saved.parameters())


def test_loudness_does_not_move_a_random_projection():
    quantiser = RandomProjection(64, 512)
    assert torch.equal(quantiser(noise(1, 100, 64) * 1e-3), quantiser(noise(1, 100, 64)))


def identity(quantiser):
    """The quantiser with its channels as features."""
    quantiser.weight.copy_(torch.eye(*quantiser.weight.shape))
    quantiser.bias.zero_()
    return quantiser


def test_fsq_follows_the_formula_of_the_code():
    quantiser = identity(FSQ(5))
    z = 2 * noise(1, 5000, 5).double()
    levels = np.floor(5 * (np.tanh(z.numpy()) + 1) / 2 + 0.5).astype(int)
    np.testing.assert_array_equal(quantiser(z)[..., 0], levels @ 6 ** np.arange(5))
    assert quantiser.codes == 7776


def test_fsq_reaches_all_codes_and_no_others():
    quantiser = identity(FSQ(5))
    corners = torch.atanh(torch.linspace(-0.999, 0.999, 6)).tolist()
    tokens = quantiser(torch.tensor([list(itertools.product(corners, repeat=5))]))
    assert tokens.flatten().sort().values.tolist() == list(range(7776))


def test_fsq_follows_the_formula_of_the_paper():
    quantiser = identity(FSQ(3, levels=6, dimensions=3, formula="paper"))
    z = 2 * noise(1, 5000, 3).double()
    values = np.round(3 * np.tanh(z.numpy())).astype(int)
    np.testing.assert_array_equal(quantiser(z)[..., 0], (values + 3) @ 7 ** np.arange(3))
    assert quantiser.codes == 343
    assert FSQ(3, levels=5, dimensions=3, formula="paper").codes == FSQ(3, levels=5, dimensions=3).codes == 125


def test_fsq_projects_with_unit_rows_and_the_draws_of_its_seed():
    quantiser = FSQ(752, seed=3)
    torch.manual_seed(3)
    linear, _ = nn.Linear(752, 5), nn.Linear(5, 752)  # the official module projects back as well
    nn.init.xavier_normal_(linear.weight)
    assert torch.equal(quantiser.bias, linear.bias)
    torch.testing.assert_close(quantiser.weight, linear.weight / linear.weight.norm(dim=1, keepdim=True))
