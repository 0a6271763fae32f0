"""Masks: where their windows lie, how often, what stands in the masked places, and that a seed decides all of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marble.pretraining.masking import WindowMask


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    window=st.integers(1, 12),
    tokens=st.integers(1, 60),
    probability=st.floats(0, 1),
    tail=st.booleans(),
    seed=st.integers(0, 99),
)
def test_windows_lie_on_the_grid_and_no_example_is_without(window, tokens, probability, tail, seed):
    mask = WindowMask(window, probability, "zero", tail=tail).draw(5, tokens, stream(seed))
    assert mask.shape == (5, tokens)
    assert mask.dtype == torch.bool
    assert mask.any(1).all()
    windows = mask.split(window, dim=1)
    assert all((part == part[:, :1]).all() for part in windows)
    if not tail and 0 < tokens % window < tokens:
        assert not windows[-1].any()


@pytest.mark.parametrize(("probability", "window", "tokens"), [(0.2, 10, 750), (0.6, 10, 750), (0.6, 6, 469), (0.6, 7, 562)])
def test_the_masked_share_is_the_probability(probability, window, tokens):
    mask = WindowMask(window, probability, "zero", tail=True).draw(2000, tokens, stream())
    assert mask.float().mean() == pytest.approx(probability, abs=0.005)
    # Windows are independent: the share varies between clips as it does for that many throws of a coin.
    throws = mask[:, ::window].float()
    assert throws.mean(1).var() == pytest.approx(probability * (1 - probability) / throws.shape[1], rel=0.15)
    neighbours = torch.corrcoef(torch.stack([throws[:, :-1].flatten(), throws[:, 1:].flatten()]))[0, 1]
    assert abs(neighbours) < 0.02


def test_the_tail_is_masked_in_omar_rq_only():
    shares = [
        WindowMask(7, 0.6, "noise", tail=tail).draw(4000, 562, stream())[:, 560:].float().mean() for tail in (True, False)
    ]
    assert shares == [pytest.approx(0.6, abs=0.03), 0]


def test_a_clip_that_would_go_free_gets_any_of_its_windows():
    mask = WindowMask(10, 0.0, "zero").draw(3000, 50, stream())
    assert (mask.sum(1) == 10).all()
    assert mask.float().mean(0).tolist() == pytest.approx([0.2] * 50, abs=0.03)


def test_masked_samples_are_zero_and_no_others_change():
    waveform = torch.randn(3, 24_000, generator=stream(1))
    masker = WindowMask(10, 0.5, "zero")
    mask = masker.draw(3, 25, stream())
    samples = mask.repeat_interleave(960, 1)
    masked = masker.apply_waveform(waveform, mask, 960, stream())
    assert (masked[samples] == 0).all()
    assert (masked[~samples] == waveform[~samples]).all()


def test_noise_has_its_deviation_and_falls_on_masked_samples_only():
    waveform = torch.full((4, 720_000), 7.0)
    masker = WindowMask(10, 0.6, "noise")
    mask = masker.draw(4, 750, stream())
    masked = masker.apply_waveform(waveform, mask, 960, stream(1))
    noise = masked[mask.repeat_interleave(960, 1)]
    assert ((masked != 7) == mask.repeat_interleave(960, 1)).all()
    assert noise.mean() == pytest.approx(0, abs=1e-3)
    assert noise.std() == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("samples", [24_000, 24_240, 24_700])
def test_a_waveform_need_not_end_with_a_token(samples):
    tokens = -(-(samples // 240) // 4)
    waveform = torch.ones(2, samples)
    masked = WindowMask(1, 1.0, "zero").apply_waveform(waveform, torch.ones(2, tokens, dtype=torch.bool), 960, stream())
    assert masked.shape == waveform.shape
    assert masked.sum(1).tolist() == [max(0, samples - tokens * 960)] * 2


def test_shuffled_tokens_come_from_the_same_clip():
    patches = torch.arange(2 * 40.0).view(2, 40, 1).expand(2, 40, 3) + torch.tensor([0.0, 0.1, 0.2])
    masker = WindowMask(4, 0.5, "shuffle")
    mask = masker.draw(2, 40, stream())
    shuffled = masker.apply_patches(patches, mask, stream())
    assert (shuffled[~mask] == patches[~mask]).all()
    assert (shuffled[mask] != patches[mask]).any(1).float().mean() > 0.9
    for clip, masked in zip(patches, shuffled, strict=True):
        assert {tuple(token) for token in masked.tolist()} <= {tuple(token) for token in clip.tolist()}
    assert [len(set(clip[masked, 0].tolist())) for clip, masked in zip(shuffled, mask, strict=True)] == mask.sum(1).tolist()


@pytest.mark.parametrize("fill", ["zero", "noise", "shuffle"])
def test_a_seed_decides_the_mask_and_the_fill(fill):
    masker = WindowMask(10, 0.6, fill)

    def masked(seed):
        generator = stream(seed)
        mask = masker.draw(2, 100, generator)
        return masker.apply_waveform(torch.linspace(-1, 1, 96_000).expand(2, -1), mask, 960, generator)

    assert torch.equal(masked(3), masked(3))
    assert not torch.equal(masked(3), masked(4))
