"""Random streams by identity: the draws of a probe depend on its task and seed, not on other probes.

All layers, learning rates and upstreams of a task share the streams of a seed, so that comparisons are paired.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(*identity: object) -> int:
    """Return a seed for the random stream of an identity, such as (task, seed, purpose).

    The same identity gives the same seed on any machine.
    """
    text = "\x1f".join(map(str, identity))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(task: str, seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the random stream of a task and seed for a purpose.

    - ``order``: the training rows, one `torch.randperm` an epoch.
    - ``dropout``, ``input dropout``: one float32 `torch.rand` [B, H] a step and hidden layer, or [B, D] a step; what is at
      least the rate is kept.
    - ``windows``, ``chunks``: the window or the chunk of each track, one float64 `torch.rand` [tracks] an epoch.
    - ``weights``, ``layers``: the beginning of a head, and of a weighted sum. ``grid``: the points of a grid.
    """
    return torch.Generator(device).manual_seed(stream_seed(task, seed, purpose))
