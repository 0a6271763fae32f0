"""Quantisers that are never trained: random projection (BEST-RQ) and finite scalar quantisation.

Conventions
-----------
- Features ``Tensor[B, T, F]`` become tokens ``LongTensor[B, T, K]`` of K codebooks with `codes` entries each, in float32
  whatever the precision around: under autocast the nearest code in bfloat16 would be a different one.
- The draws are buffers, so a checkpoint carries them. Codebook k draws from a generator of its own, seeded `seed` + k: first
  the projection, Xavier normal, then the codes, standard normal. MusicFM's seed is 142, OMAR-RQ's 0.

Sources: Chiu et al. 2022 (arXiv 2202.01855) and the codes of MusicFM and OMAR-RQ for the random projection; Mentzer et al. 2023
(arXiv 2309.15505) for finite scalar quantisation, whose formula in OMAR-RQ's paper and code differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Formula = Literal["code", "paper"]


def _generators(seed: int, codebooks: int) -> Iterator[torch.Generator]:
    return (torch.Generator().manual_seed(seed + index) for index in range(codebooks))


class RandomProjection(nn.Module):
    """Nearest code, by cosine, of a random projection: ``argmin_c ‖l2(c) - l2(xP)‖``.

    The buffers are ``projection Tensor[K, F, D]`` and ``codebook Tensor[K, codes, D]``.
    """

    projection: Tensor
    codebook: Tensor

    def __init__(self, width_in: int, codes: int = 8192, dimensions: int = 16, codebooks: int = 1, seed: int = 142):
        super().__init__()
        self.codes = codes
        self.codebooks = codebooks
        draws = [
            (
                nn.init.xavier_normal_(torch.empty(width_in, dimensions, device="cpu"), generator=generator),
                torch.randn(codes, dimensions, generator=generator, device="cpu"),
            )
            for generator in _generators(seed, codebooks)
        ]
        projections, tables = zip(*draws, strict=True)
        self.register_buffer("projection", torch.stack(projections))
        self.register_buffer("codebook", torch.stack(tables))

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens ``LongTensor[B, T, K]`` of features ``Tensor[B, T, F]``."""
        with torch.autocast(features.device.type, enabled=False):
            # The length of a projected vector does not change which code is nearest.
            tables = functional.normalize(self.codebook.float(), dim=-1)
            x = features.float()
            tokens = [(x @ p @ c.T).argmax(-1) for p, c in zip(self.projection.float(), tables, strict=True)]
        return torch.stack(tokens, dim=-1)


class FSQ(nn.Module):
    """Finite scalar quantisation of a random projection to `dimensions` channels, each to a few values between -1 and 1.

    The projection is Xavier normal with rows scaled to unit length, its bias uniform as `torch.nn.Linear` draws it; the token
    is ``Σ_j level_j base^j``. There is one codebook.

    Formulas
    --------
    ``code`` (what trained the published weights): ``floor((levels - 1) (tanh z + 1) / 2 + .5)``, `levels` values, so that six
    levels of five channels make 7776 codes.
    ``paper`` (unused here): ``round(⌊levels / 2⌋ tanh z)``, with ``2 ⌊levels / 2⌋ + 1`` values: seven for six, 16807 codes.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, width_in: int, levels: int = 6, dimensions: int = 5, formula: Formula = "code", seed: int = 0):
        super().__init__()
        self.extent = (levels - 1) / 2 if formula == "code" else float(levels // 2)
        self.base = round(2 * self.extent) + 1
        self.codes = self.base**dimensions
        self.codebooks = 1
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            # The official code draws a projection back as well, between the two draws that are used here.
            linear, _ = nn.Linear(width_in, dimensions), nn.Linear(dimensions, width_in)
            nn.init.xavier_normal_(linear.weight)
        self.register_buffer("weight", functional.normalize(linear.weight.detach(), dim=1))
        self.register_buffer("bias", linear.bias.detach().clone())

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens ``LongTensor[B, T, 1]`` of features ``Tensor[B, T, F]``."""
        with torch.autocast(features.device.type, enabled=False):
            bounded = functional.linear(features.float(), self.weight.float(), self.bias.float()).tanh()
        # floor(x + .5) is the code's rounding; it differs from `round` on ties alone, which have no weight.
        levels = (self.extent * bounded + self.extent + 0.5).floor().long()
        powers = self.base ** torch.arange(levels.shape[-1], device=levels.device)
        return (levels * powers).sum(-1, keepdim=True)
