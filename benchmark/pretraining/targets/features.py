"""Features of the clean waveform, from which targets are made: one vector for each token that an encoder predicts.

Conventions
-----------
- Every module maps a waveform ``Tensor[B, N]`` at its `sample_rate` to ``Tensor[B, T, F]`` in float32, one token for each `hop`
  samples, F its `width`; nothing in them is trained. The features of one waveform may differ by a token or two in number.
- Frames are flattened to a token band by band (OMAR-RQ), in `StackedMel` frame by frame (MusicFM, MuQ, BRN); a last,
  incomplete token is dropped.
- Mean and std are one number each: those of a corpus, not of the clip.

The inputs of OMAR-RQ (`marble.upstreams.nn.patches`) are features as well. Its hop at 24 kHz is 320 samples for mel, CQT
and EnCodec alike, so three frames a token give 25 Hz, four 18.75 Hz, and the waveform is cut into 960 or 1280 samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.errors import MarbleError
from marble.system.hub import hub_answers
from marble.upstreams.nn.mel import DecibelMel
from marble.upstreams.nn.patches import patches_of

RATE = 24_000
HOP = 320


class StackedMel(nn.Module):
    """Four successive frames of the decibel mel spectrogram of MuQ and MusicFM, one after the other: 512 values at 25 Hz."""

    sample_rate = RATE
    frames = 4
    hop = frames * 240
    width = frames * 128

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mel = DecibelMel(mean, std)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, N // 960, 512]`` of a waveform ``Tensor[B, N]`` at 24 kHz."""
        return self.mel(waveform).unfold(2, self.frames, self.frames).permute(0, 2, 3, 1).flatten(2)


class CQT(nn.Module):
    """Magnitudes of a constant-Q transform, ``Tensor[B, 188, 1 + N // 320]``, 24 bins an octave from 32.703 Hz, at 24 kHz.

    Recursive: each octave is a windowless spectrum times the spectra of its wavelets (Hann, of absolute sum one before their
    scaling), and the waveform is halved in rate for the octave below, until the hop is odd: hops of 320 to 10, then 5 twice.
    Values are those of librosa's algorithm as torchaudio's proposal 3804 writes it, which OMAR-RQ uses; rates are halved by
    the sinc filter of torchaudio's resampler.
    """

    bins = 188
    per_octave = 24
    lowest = 32.703
    half_filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Recomputed rather than stored: none of these is a weight.
        self.register_buffer("half_filter", _half_filter(), persistent=False)
        self.hops = []
        rate, hop = float(RATE), HOP
        tops = [*range(math.ceil(self.bins / self.per_octave) * self.per_octave, 0, -self.per_octave), 0]
        for octave, (stop, start) in enumerate(pairwise(tops)):
            frequencies = [self.lowest * 2 ** (k / self.per_octave) for k in range(start, min(stop, self.bins))]
            self.register_buffer(f"wavelets{octave}", _wavelets(frequencies, rate, self.per_octave), persistent=False)
            self.hops.append(hop)
            if hop % 2 == 0:
                rate, hop = rate / 2, hop // 2

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, 188, 1 + N // 320]`` of a waveform ``Tensor[B, N]``."""
        with torch.autocast(waveform.device.type, enabled=False):
            return torch.cat([*self._octaves(waveform.float())][::-1], dim=1)

    def _octaves(self, x: Tensor) -> Iterator[Tensor]:
        frames = 1 + x.shape[1] // HOP
        for octave, hop in enumerate(self.hops):
            wavelets = self.get_buffer(f"wavelets{octave}")
            size = 2 * (wavelets.shape[1] - 1)
            window = torch.ones(size, device=x.device)
            spectrum = torch.stft(x, size, hop, window=window, pad_mode="constant", return_complex=True)
            yield (wavelets @ spectrum)[..., :frames].abs()
            if hop % 2 == 0:
                # One sample in two is left; sqrt(2) keeps the energy.
                taps = self.half_filter
                length = (x.shape[1] + 1) // 2
                padded = functional.pad(x, (len(taps) // 2 - 1, len(taps) // 2 + 1))
                x = math.sqrt(2) * functional.conv1d(padded[:, None], taps[None, None], stride=2)[:, 0, :length]


def _half_filter() -> Tensor:
    """Return torchaudio's Hann-windowed sinc for half the rate: six zero crossings a side, roll-off .99; ``Tensor[28]``."""
    rolloff, crossings = 0.99, 6
    reach = math.ceil(crossings * 2 / rolloff)
    time = (torch.arange(-reach, reach + 2, dtype=torch.float64, device="cpu") / 2 * rolloff).clamp(-crossings, crossings)
    return (rolloff / 2 * torch.sinc(time) * (time * math.pi / crossings / 2).cos().square()).float()


def _wavelets(frequencies: list[float], rate: float, per_octave: int) -> Tensor:
    """Return the spectra of the wavelets of one octave, a complex ``Tensor[bins, size // 2 + 1]``."""
    step = 2 ** (2 / per_octave)
    quality = (step + 1) / (step - 1)
    lengths = [quality * rate / frequency for frequency in frequencies]
    size = 1 << (int(max(lengths)) - 1).bit_length()
    wavelets = torch.zeros(len(lengths), size, dtype=torch.complex128, device="cpu")
    for row, length, frequency in zip(wavelets, lengths, frequencies, strict=True):
        time = torch.arange(-length // 2, length // 2, dtype=torch.float64, device="cpu")
        window = torch.hann_window(len(time), dtype=torch.float64, device="cpu")
        start = (size - len(time)) // 2
        row[start : start + len(time)] = window / window.sum() * torch.exp(2j * math.pi * frequency / rate * time)
        row *= length / size * math.sqrt(RATE / rate)
    return torch.fft.fft(wavelets)[:, : size // 2 + 1].to(torch.complex64)


def _encodec_encoder(weights: Path | None) -> nn.Module:
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise MarbleError("Targets from EnCodec need transformers: pip install 'marble[encodec]'.") from error
    name, revision = (EncodecPatches.repository, EncodecPatches.revision) if weights is None else (str(weights), "main")
    local = weights is not None or not hub_answers()
    try:
        model = transformers.EncodecModel.from_pretrained(name, revision=revision, use_safetensors=True, local_files_only=local)
    except (OSError, ValueError) as error:
        where = f"https://huggingface.co/{EncodecPatches.repository}/tree/{EncodecPatches.revision}"
        raise MarbleError(
            f"EnCodec cannot be loaded from {name}: fetch config.json and model.safetensors from {where} into a folder."
        ) from error
    return model.encoder.eval().requires_grad_(False)


class CQTPatches(nn.Module):
    """Tokens of `frames` frames of ``(log10(1 + 10000 CQT²) - mean) / std``; `TargetSpec` tells whose the defaults are."""

    sample_rate = RATE

    def __init__(self, frames: int, mean: float = 4.754879065310596, std: float = 1.9055732535255916):
        super().__init__()
        self.cqt = CQT()
        self.frames = frames
        self.hop = HOP * frames
        self.width = CQT.bins * frames
        self.mean = mean
        self.std = std

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, 188 * frames]`` of a waveform ``Tensor[B, N]`` at 24 kHz."""
        return patches_of(((1 + 10_000 * self.cqt(waveform).square()).log10() - self.mean) / self.std, self.frames)


class EncodecPatches(nn.Module):
    """Tokens of `frames` frames of the output of EnCodec's encoder (24 kHz, 128 values at 75 Hz), unquantised, standardised.

    The weights (CC-BY-NC-4.0) come from the folder `weights`, else from the Hugging Face cache or hub.

    Raises:
        MarbleError: transformers is not installed, or the weights cannot be loaded.
    """

    sample_rate = RATE
    repository = "facebook/encodec_24khz"
    revision = "c1dbe2ae3f1de713481a3b3e7c47f357092ee040"
    mean = -0.5577428463574771
    std = 5.863781862801963

    def __init__(self, frames: int, weights: Path | None = None):
        super().__init__()
        self.frames = frames
        self.hop = HOP * frames
        self.width = 128 * frames
        # In a list, so that its weights stay out of the checkpoints of its pupil.
        self._encoder = [_encodec_encoder(weights)]

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, 128 * frames]`` of a waveform ``Tensor[B, N]`` at 24 kHz."""
        (encoder,) = self._encoder
        with torch.autocast(waveform.device.type, enabled=False):
            hidden = encoder.to(waveform.device)(waveform.float()[:, None])
            return patches_of((hidden - self.mean) / self.std, self.frames)
