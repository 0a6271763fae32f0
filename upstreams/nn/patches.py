"""Patches: the input of OMAR-RQ, and features that its recipes predict.

Conventions
-----------
- A waveform ``Tensor[B, N]`` becomes ``Tensor[B, T, P]`` in float32: one vector for each `hop` samples, P the `width`; a last,
  incomplete patch is dropped.
- Frames of a spectrogram are flattened to a patch band by band.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn

from marble.upstreams.nn.mel import LogMel


class Strict(BaseModel):
    """A part of a configuration: nothing but its fields, and numbers that are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MelInput(Strict):
    """Patches of `frames` log-mel frames; sample rate in Hz, size and hop in samples, mean and std of the log-mel values."""

    kind: Literal["mel"] = "mel"
    sample_rate: PositiveInt
    size: PositiveInt
    hop: PositiveInt
    bands: PositiveInt
    frames: PositiveInt
    mean: float
    std: PositiveFloat


class WaveformInput(Strict):
    """Patches of samples; mean and std are those of the waveform."""

    kind: Literal["waveform"] = "waveform"
    sample_rate: PositiveInt
    samples: PositiveInt
    mean: float = 0.0
    std: PositiveFloat = 1.0


# Of the published OMAR-RQ; mean and std are of log10(1 + 10000 mel) over its corpus.
OMAR_MEL = MelInput(sample_rate=16_000, size=512, hop=256, bands=96, frames=4, mean=2.06755686098554, std=1.268292820667291)


def patches_of(bands: Tensor, frames: int) -> Tensor:
    """Return patches of `frames` frames each, ``Tensor[B, M // frames, F * frames]``, of bands ``Tensor[B, F, M]``."""
    return bands.unfold(2, frames, frames).transpose(1, 2).flatten(2)


class MelPatches(nn.Module):
    """Patches of log-mel frames, ``Tensor[B, T, bands * frames]``, each flattened band by band."""

    def __init__(self, given: MelInput):
        super().__init__()
        self.mel = LogMel(given.sample_rate, given.size, given.hop, given.bands, given.mean, given.std)
        self.frames = given.frames
        self.sample_rate = given.sample_rate
        self.hop = given.hop * given.frames
        # Patches of k frames need (k - 1) hops, and the reflected edges more than half a window.
        self.min_samples = max((given.frames - 1) * given.hop, given.size // 2 + 1)
        self.first_centre = (given.frames - 1) / 2 * given.hop
        self.width = given.bands * given.frames

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, bands * frames]`` of a waveform ``Tensor[B, N]``."""
        return patches_of(self.mel(waveform), self.frames)


class WaveformPatches(nn.Module):
    """Patches of samples, ``Tensor[B, T, samples]``, normalised as ``(x - mean) / std``."""

    def __init__(self, given: WaveformInput):
        super().__init__()
        self.sample_rate = given.sample_rate
        self.hop = self.min_samples = self.width = given.samples
        self.first_centre = (given.samples - 1) / 2
        self.mean = given.mean
        self.std = given.std

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, samples]`` of a waveform ``Tensor[B, N]``."""
        return ((waveform.float() - self.mean) / self.std).unfold(1, self.hop, self.hop)
