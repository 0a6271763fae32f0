"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in both pairings that the upstreams use.

Conventions
-----------
- Positions 0, 1, 2 … in float32, base 10000. Rounding positions or frequencies to 16 bits turns the angles at 30 s by up to
  3.6 rad, so the table and the rotation stay in float32 whatever the precision of the encoder.
- Pairing ``halves``: dimension i turns with ``i + D/2`` (transformers). ``interleaved``: 2i turns with 2i + 1 (lucidrains).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pairing = Literal["halves", "interleaved"]


def rotary_frequencies(dimensions: int, device: torch.device) -> Tensor:
    """Return the angle between neighbouring positions for each pair of dimensions, ``Tensor[dimensions / 2]`` in float32."""
    return 1.0 / 10_000.0 ** (torch.arange(0, dimensions, 2, dtype=torch.float32, device=device) / dimensions)


def rotary_table(frames: int, dimensions: int, device: torch.device) -> Tensor:
    """Return cosines and sines of the angles, ``Tensor[2, frames, dimensions / 2]`` in float32."""
    positions = torch.arange(frames, dtype=torch.float32, device=device)
    angles = torch.outer(positions, rotary_frequencies(dimensions, device))
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, table: Tensor, pairing: Pairing) -> Tensor:
    """Turn ``Tensor[B, T, H, D]`` by a `rotary_table` of T frames and D dimensions; return float32."""
    cosine, sine = table[:, :, None, :]
    if pairing == "halves":
        first, second = x.float().chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((first * cosine - second * sine, second * cosine + first * sine), dim=-1).flatten(-2)
