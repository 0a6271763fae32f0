"""FBANK and chroma: features without any training, the baseline of the layer-wise study.

Three named layers, so that a scan over layers is meaningful:

0. ``fbank``: natural logarithm of 80 mel bands (HTK scale, 0 Hz to 12 kHz; Hann windows of 25 ms every 10 ms),
1. ``chroma``: share of the power between 55 Hz and 5 kHz that falls on each of the 12 pitch classes, C first (Hann windows of
   170 ms, since neighbouring semitones must part; a bin counts for its two nearest semitones, by distance),
2. ``fbank+chroma``: both joined, which is the baseline of the study.

Frame k is centred at k * 10 ms; both ends are extended with zeros. Any clip of one sample or more can be encoded.

Source: "layer-wise" paper, section 3.2 (80 bands, 25 ms, 10 ms; the paper does not say how its chroma was made).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from marble.upstream import Layer, Upstream, UpstreamInfo

SAMPLE_RATE = 24_000
HOP = 240
FBANK_WINDOW, FBANK_FFT = 600, 1024
CHROMA_FFT = 4096


class FbankChroma(Upstream):
    """Log-mel filter bank and chroma as an upstream of three layers."""

    info = UpstreamInfo(
        name="fbank-chroma",
        version=1,
        sample_rate=SAMPLE_RATE,
        frame_rate=SAMPLE_RATE / HOP,
        layers=(Layer("fbank", 80), Layer("chroma", 12), Layer("fbank+chroma", 92)),
        parameters=0,
        licence="MIT (code; there are no weights)",
        training_data="none",
        paper="baseline of the layer-wise study of music foundation models",
        source="computed",
    )

    mel_filters: Tensor
    chroma_filters: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mel_filters", mel_filters(80, FBANK_FFT, SAMPLE_RATE), persistent=False)
        self.register_buffer("chroma_filters", chroma_filters(CHROMA_FFT, SAMPLE_RATE), persistent=False)

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield ``Tensor[B, T, 80]``, ``Tensor[B, T, 12]`` and ``Tensor[B, T, 92]`` of ``Tensor[B, N]``; T = 1 + N // 240."""
        fbank = (power_spectrum(waveform, FBANK_FFT, FBANK_WINDOW) @ self.mel_filters).clamp(min=1e-10).log()
        yield fbank
        classes = power_spectrum(waveform, CHROMA_FFT, CHROMA_FFT) @ self.chroma_filters
        chroma = classes / classes.sum(dim=-1, keepdim=True).clamp(min=1e-10)
        yield chroma
        yield torch.cat([fbank, chroma], dim=-1)


def power_spectrum(waveform: Tensor, size: int, window: int) -> Tensor:
    """Return ``Tensor[B, 1 + N // HOP, size // 2 + 1]``, the squared magnitude of Hann windows centred at k * HOP samples."""
    taper = torch.hann_window(window, device=waveform.device)
    spectrum = torch.stft(waveform, size, HOP, window, taper, center=True, pad_mode="constant", return_complex=True)
    return spectrum.abs().square().transpose(1, 2)


def mel_filters(bands: int, size: int, sample_rate: int) -> Tensor:
    """Return ``Tensor[size // 2 + 1, bands]``, triangles on the HTK mel scale from 0 Hz to half the sample rate, peak 1."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.linspace(0, sample_rate / 2, size // 2 + 1, dtype=torch.float64)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def chroma_filters(size: int, sample_rate: int) -> Tensor:
    """Return ``Tensor[size // 2 + 1, 12]``, how much each bin between 55 Hz and 5 kHz counts for each pitch class (C first)."""
    frequency = torch.linspace(0, sample_rate / 2, size // 2 + 1, dtype=torch.float64)
    audible = (frequency >= 55) & (frequency <= 5000)
    semitone = 69 + 12 * torch.log2(frequency.clamp(min=1) / 440)
    lower = semitone.floor()
    share = semitone - lower
    classes = functional.one_hot(lower.long() % 12, 12) * (1 - share)[:, None]
    classes += functional.one_hot((lower.long() + 1) % 12, 12) * share[:, None]
    return (classes * audible[:, None]).float()
