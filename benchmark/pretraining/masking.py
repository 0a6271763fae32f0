"""Masked windows: tokens that an encoder must predict, and the fill that replaces them.

Conventions
-----------
- Windows lie side by side on a grid that starts with the clip; each is masked or not, independently, with one probability.
- A last, incomplete window is masked like any other where `tail` is true (OMAR-RQ), never otherwise (MusicFM, MuQ, BRN).
- Every example has at least one masked window, so that its loss exists.
- Three fills: ``zero``; ``noise``, Gaussian; ``shuffle``, the tokens of the same clip in random order (of
  OMAR-RQ's code, unused here).
- A waveform is masked before its spectrogram is taken, which leaks half a window of clean audio over each edge; patches are
  masked after normalisation. Targets always come from the clean waveform.
- Masks are drawn on the CPU, so they are the same on every device; noise and orders are drawn on the device of the data, from
  a seed that the same generator draws.

Windows of the recipes: 10 tokens (9600 samples at 24 kHz), probability .2, zero for Branchformer-SummaryMixing; 10 tokens,
.6, noise .1 for MusicFM and MuQ; 6, 7 or 10 tokens, .6, noise .1, on patches, for OMAR-RQ.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Fill = Literal["zero", "noise", "shuffle"]


@dataclass(frozen=True)
class WindowMask:
    """Masks in windows of `window` tokens, each with `probability`; `noise_std` is the deviation of the fill ``noise``."""

    window: int
    probability: float
    fill: Fill
    noise_std: float = 0.1
    tail: bool = False

    def draw(self, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
        """Return a mask ``BoolTensor[batch, tokens]`` on the CPU, true where the encoder must predict."""
        count = max(1, ceil(tokens / self.window) if self.tail else tokens // self.window)
        masked = torch.rand(batch, count, generator=generator) < self.probability
        spare = torch.randint(count, (batch, 1), generator=generator)
        masked.scatter_(1, spare, masked.gather(1, spare) | ~masked.any(1, keepdim=True))
        mask = masked.repeat_interleave(self.window, dim=1)[:, :tokens]
        return functional.pad(mask, (0, tokens - mask.shape[1]))

    def apply_patches(self, patches: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Return patches ``Tensor[B, T, P]`` with the masked tokens of ``BoolTensor[B, T]`` replaced by the fill."""
        mask = mask.to(patches.device)[..., None]
        if self.fill == "zero":
            return patches.masked_fill(mask, 0.0)
        seed = int(torch.randint(2**62, (), generator=generator))
        local = torch.Generator(patches.device).manual_seed(seed)
        if self.fill == "noise":
            noise = torch.randn(patches.shape, generator=local, device=patches.device, dtype=patches.dtype)
            return torch.where(mask, self.noise_std * noise, patches)
        order = torch.rand(patches.shape[:2], generator=local, device=patches.device).argsort(1)
        return torch.where(mask, patches.take_along_dim(order[..., None], 1), patches)

    def apply_waveform(self, waveform: Tensor, mask: Tensor, samples_per_token: int, generator: torch.Generator) -> Tensor:
        """Return a waveform ``Tensor[B, N]`` whose token t covers the samples from ``t * samples_per_token``, masked.

        Samples after the last token stay as they are; a last token that is longer than the waveform ends with it.
        """
        samples = waveform.shape[1]
        covered = mask.shape[1] * samples_per_token
        padded = functional.pad(waveform, (0, max(0, covered - samples)))
        tokens = padded[:, :covered].unflatten(1, (-1, samples_per_token))
        filled = self.apply_patches(tokens, mask, generator).flatten(1)
        return torch.cat([filled, padded[:, covered:]], dim=1)[:, :samples]
