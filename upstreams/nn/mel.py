"""Mel spectrograms as the upstreams were trained on them: power spectrum, triangular filters, two ways to compress.

Conventions
-----------
- Everything is float32 whatever the precision of the encoder: a mel band in bfloat16 has lost the quiet half of the music.
- Frames are centred (frame k at sample ``k * hop``) with reflected edges, so a waveform needs more than ``size // 2`` samples
  and gives ``1 + N // hop`` frames.
- Two mel scales: ``htk``, ``2595 log10(1 + f / 700)`` with filters of height 1, and ``slaney`` (Auditory Toolbox), linear below
  1 kHz and logarithmic above, with filters of equal area.
- The values are those of torchaudio's ``MelSpectrogram``; the filters are computed in float32 as there, because float64
  would move a band by more than the parity required of the encoders.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Scale = Literal["htk", "slaney"]

_LINEAR_SLOPE = 3 / 200  # mel per Hz below 1 kHz on the Slaney scale
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ * _LINEAR_SLOPE
_LOG_STEP = math.log(6.4) / 27  # one mel above 1 kHz


def hz_to_mel(frequency: float, scale: Scale) -> float:
    """Return a frequency in Hz on a mel scale."""
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + frequency / 700.0)
    if frequency < _BREAK_HZ:
        return frequency * _LINEAR_SLOPE
    return _BREAK_MEL + math.log(frequency / _BREAK_HZ) / _LOG_STEP


def mel_to_hz(mel: Tensor, scale: Scale) -> Tensor:
    """Return mel values ``Tensor[...]`` in Hz."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < _BREAK_MEL, mel / _LINEAR_SLOPE, _BREAK_HZ * torch.exp(_LOG_STEP * (mel - _BREAK_MEL)))


def mel_filters(sample_rate: int, size: int, bands: int, scale: Scale) -> Tensor:
    """Return triangular filters from 0 Hz to half the sample rate, ``Tensor[size // 2 + 1, bands]`` in float32 on the CPU."""
    bins = torch.linspace(0, sample_rate // 2, size // 2 + 1, device="cpu")
    corners = mel_to_hz(torch.linspace(0.0, hz_to_mel(sample_rate / 2, scale), bands + 2, device="cpu"), scale)
    widths = corners.diff()
    distances = corners[None, :] - bins[:, None]
    rising = -distances[:, :-2] / widths[:-1]
    falling = distances[:, 2:] / widths[1:]
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    if scale == "slaney":
        filters = filters * (2.0 / (corners[2:] - corners[:-2]))
    return filters


class MelSpectrogram(nn.Module):
    """Power mel spectrogram ``Tensor[B, bands, 1 + N // hop]`` of a waveform ``Tensor[B, N]``, Hann window of `size`."""

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, size: int, hop: int, bands: int, scale: Scale):
        super().__init__()
        self.size = size
        self.hop = hop
        # Recomputed rather than stored: neither is a weight, and checkpoints that carry them carry these values.
        self.register_buffer("window", torch.hann_window(size, device="cpu"), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, size, bands, scale), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, bands, 1 + N // hop]`` of ``Tensor[B, N]``, N more than ``size // 2``."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(waveform.float(), self.size, self.hop, window=self.window, center=True, return_complex=True)
            return self.filters.t() @ torch.view_as_real(spectrum).square().sum(-1)


class DecibelMel(nn.Module):
    """The front end of MuQ and MusicFM: ``(10 log10(max(mel, 1e-10)) - mean) / std``, ``Tensor[B, 128, N // 240]``.

    24 kHz, 2048-point transform, 100 frames a second, HTK scale. There is no dynamic-range floor (silence is -100 dB), the
    last frame is dropped, and mean and std are one number each, kept beside the weights of a model rather than in them.
    """

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mel = MelSpectrogram(24_000, size=2048, hop=240, bands=128, scale="htk")
        self.mean = mean
        self.std = std

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, 128, N // 240]`` of ``Tensor[B, N]`` at 24 kHz."""
        decibel = 10.0 * self.mel(waveform)[..., :-1].clamp_min(1e-10).log10()
        return (decibel - self.mean) / self.std


class LogMel(nn.Module):
    """The front end of OMAR-RQ with mel input: ``(log10(1 + 10000 mel) - mean) / std``, Slaney scale.

    `forward` returns ``Tensor[B, bands, 1 + N // hop]``.
    """

    def __init__(self, sample_rate: int, size: int, hop: int, bands: int, mean: float, std: float):
        super().__init__()
        self.mel = MelSpectrogram(sample_rate, size, hop, bands, scale="slaney")
        self.mean = mean
        self.std = std

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, bands, 1 + N // hop]`` of ``Tensor[B, N]``."""
        return ((1.0 + 10_000.0 * self.mel(waveform)).log10() - self.mean) / self.std
