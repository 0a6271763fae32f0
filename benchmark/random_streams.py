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


def order_generator(task: str, seed: int) -> torch.Generator:
    """Return the stream that orders the training rows: one `torch.randperm` an epoch."""
    return torch.Generator().manual_seed(stream_seed(task, seed, "order"))


def dropout_generator(task: str, seed: int, device: torch.device) -> torch.Generator:
    """Return the stream of dropout: one float32 `torch.rand` [B, H] a step, kept where it is at least the rate."""
    return torch.Generator(device).manual_seed(stream_seed(task, seed, "dropout"))
