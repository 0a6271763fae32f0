"""FBANK and chroma: what tones, levels and lengths must give, and values that may not drift without a new version."""

import numpy as np
import pytest
import torch

from marble.upstreams.fbank_chroma import CHROMA_FFT, SAMPLE_RATE, FbankChroma, chroma_filters, mel_filters


def layers(waveform: np.ndarray) -> list[torch.Tensor]:
    return list(FbankChroma().layers(torch.from_numpy(waveform.astype(np.float32))[None]))


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


@pytest.mark.parametrize("pitch", range(45, 96, 5))
def test_chroma_finds_the_pitch_class_of_a_tone(pitch):
    chroma = layers(tone(440 * 2 ** ((pitch - 69) / 12)))[1][0, 20:-20].mean(0)
    assert int(chroma.argmax()) == pitch % 12
    assert float(chroma.max()) > 0.55


@pytest.mark.parametrize("frequency", [200.0, 1000.0, 4000.0, 9000.0])
def test_the_loudest_band_is_the_one_around_the_tone(frequency):
    mel = 2595 * np.log10(1 + frequency / 700)
    expected = mel / (2595 * np.log10(1 + 12_000 / 700)) * 81 - 1
    fbank = layers(tone(frequency))[0][0, 20:-20].mean(0)
    assert abs(int(fbank.argmax()) - expected) <= 1


def test_doubling_the_level_adds_the_logarithm_of_four():
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE) * 0.1
    quiet, loud = layers(noise), layers(2 * noise)
    torch.testing.assert_close(loud[0] - quiet[0], torch.full_like(quiet[0], np.log(4)), atol=1e-4, rtol=0)
    torch.testing.assert_close(loud[1], quiet[1], atol=1e-5, rtol=0)


def test_filters_cover_the_spectrum_evenly():
    mel = mel_filters(80, 1024, SAMPLE_RATE)
    assert (mel.sum(0) > 0).all()
    inside = mel.sum(1)[2:490]
    assert float(inside.min()) > 0.99
    chroma = chroma_filters(CHROMA_FFT, SAMPLE_RATE).sum(1)
    assert set(chroma.round(decimals=5).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("samples", [1, 239, 240, 24_001])
def test_frames_and_joined_layer(samples):
    fbank, chroma, both = layers(np.random.default_rng(1).standard_normal(samples))
    assert fbank.shape == (1, 1 + samples // 240, 80)
    assert torch.equal(both, torch.cat([fbank, chroma], dim=-1))


def test_values_belong_to_version_1():
    assert FbankChroma.info.version == 1
    fbank, chroma, _ = layers(tone(440.0, 0.5) + 0.1 * tone(1234.5, 0.5))
    # Between the tones a band is 120 dB below them, where another transform library rounds otherwise by some thousandths.
    assert fbank[0, 10, [0, 13, 40, 79]].tolist() == pytest.approx(GOLDEN_FBANK, abs=1e-2)
    assert chroma[0, 10, [0, 3, 9]].tolist() == pytest.approx(GOLDEN_CHROMA, abs=1e-4)


GOLDEN_FBANK = [-6.70678, 8.83933, -17.97165, -23.02585]
GOLDEN_CHROMA = [0.0, 0.0085157, 0.9001968]
