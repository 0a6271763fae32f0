"""Mel spectrograms against their definition in float64, and against the buffers of an official checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch

from marble.upstreams.nn.mel import DecibelMel, LogMel, MelSpectrogram, mel_filters

MUSICFM = Path(__file__).parents[2] / "fixtures" / "upstreams" / "musicfm" / "pretrained_msd.pt"
BUFFERS = "model.preprocessor_melspec_2048.mel_stft."


def hz_to_mel(f, scale):
    f = np.asarray(f, dtype=np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + f / 700)
    return np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1) / 1000) / np.log(6.4))


def filters_by_definition(sample_rate, size, bands, scale):
    """Triangles between neighbouring corners that are equally spaced in mel, found by inverting the scale numerically."""
    grid = np.linspace(0, sample_rate / 2, 2_000_001)
    corners = np.interp(
        np.linspace(hz_to_mel(0, scale), hz_to_mel(sample_rate / 2, scale), bands + 2), hz_to_mel(grid, scale), grid
    )
    bins = np.arange(size // 2 + 1) * sample_rate / size
    filters = [np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(bands)]
    areas = (corners[2:] - corners[:-2]) / 2 if scale == "slaney" else np.ones(bands)
    return np.stack(filters, axis=1) / areas


def mel_by_definition(waveform, sample_rate, size, hop, bands, scale):
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(waveform.astype(np.float64), size // 2, mode="reflect")
    frames = np.stack([padded[k * hop : k * hop + size] * window for k in range(1 + len(waveform) // hop)])
    return filters_by_definition(sample_rate, size, bands, scale).T @ (np.abs(np.fft.rfft(frames, axis=1)) ** 2).T


SETTINGS = [(24_000, 2048, 240, 128, "htk"), (16_000, 512, 256, 96, "slaney")]


@pytest.mark.parametrize(("sample_rate", "size", "hop", "bands", "scale"), SETTINGS)
def test_filters_and_spectrogram_follow_their_definition(sample_rate, size, hop, bands, scale):
    found = mel_filters(sample_rate, size, bands, scale).numpy()
    np.testing.assert_allclose(found, filters_by_definition(sample_rate, size, bands, scale), atol=2e-5)
    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(5000)).astype(np.float32)
    spectrogram = MelSpectrogram(sample_rate, size, hop, bands, scale)(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(spectrogram, mel_by_definition(waveform, sample_rate, size, hop, bands, scale), rtol=2e-4)


def test_window_and_filters_are_those_of_the_official_checkpoint():
    official = torch.load(MUSICFM, weights_only=True)["state_dict"]
    ours = DecibelMel(0.0, 1.0).mel
    torch.testing.assert_close(ours.window, official[f"{BUFFERS}spectrogram.window"], atol=0, rtol=0)
    torch.testing.assert_close(ours.filters, official[f"{BUFFERS}mel_scale.fb"], atol=1e-7, rtol=0)


def test_silence_has_no_dynamic_range_floor():
    assert DecibelMel(6.768444971712967, 18.417922652295623)(torch.zeros(1, 2400)).unique().tolist() == pytest.approx(
        [-5.797], abs=1e-4
    )
    assert LogMel(16_000, 512, 256, 96, mean=1.0, std=2.0)(torch.zeros(1, 2560)).unique().tolist() == [-0.5]


@pytest.mark.parametrize(("samples", "frames"), [(1025, 4), (1199, 4), (1200, 5), (24_001, 100), (24_240, 101), (48_000, 200)])
def test_the_last_frame_is_dropped(samples, frames):
    assert DecibelMel(0.0, 1.0)(torch.zeros(1, samples)).shape == (1, 128, frames)


def test_a_tone_lies_in_its_band():
    time = torch.arange(24_000) / 24_000
    for frequency in (100.0, 440.0, 5000.0):
        band = DecibelMel(0.0, 1.0)(torch.sin(2 * torch.pi * frequency * time)[None])[0, :, 50].argmax()
        centre = np.interp(hz_to_mel(frequency, "htk"), np.linspace(0, hz_to_mel(12_000, "htk"), 130)[1:-1], np.arange(128))
        assert abs(band - centre) <= 1
