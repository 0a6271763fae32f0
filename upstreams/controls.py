"""Controls: upstreams without knowledge, which show what a probe achieves alone.

- ``constant``: the same features for all audio; a probe on it can only learn how often each answer occurs.
- ``random-init:NAME``: the architecture of another upstream with weights as they are before any training, drawn from a
  fixed seed; its scores are due to the architecture and its front end. It is called after the name in the info of that
  upstream, so that a control of ``my_model.py:MyModel`` stands beside ``my-model``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from marble.errors import MarbleError
from marble.random_streams import stream_seed
from marble.registry import find_upstream, upstream_names
from marble.upstream import Layer, Upstream, UpstreamInfo


class Constant(Upstream):
    """One frame a second of ones, for any audio."""

    info = UpstreamInfo(
        name="constant",
        sample_rate=16_000,
        frame_rate=1.0,
        layers=(Layer("ones", 8),),
        parameters=0,
        licence="MIT (code; there are no weights)",
        training_data="none",
        paper="none",
        source="computed",
    )

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield ``Tensor[B, T, 8]`` of ones for a waveform ``Tensor[B, N]``."""
        yield torch.ones(len(waveform), 1 + waveform.shape[1] // self.info.sample_rate, 8, device=waveform.device)


def random_init(argument: str, *, offline: bool = False) -> Upstream:
    """Return the upstream called `argument` with random weights, the same ones each time.

    Raises:
        MarbleError: nothing has this name, or the upstream has no weights to draw.
    """
    name, colon, _ = argument.partition(":")
    if colon and name in upstream_names():
        raise MarbleError(f"Random weights need no file: write random-init:{name} without what follows.")
    source = find_upstream(argument)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("random-init", source.info.name))
        upstream = source.random()
    upstream.info = replace(
        upstream.info,
        name=f"random-init:{source.info.name}",
        licence="that of the code; the weights are drawn",
        training_data="none (random weights)",
        trained_on=(),
        source="drawn from a fixed seed",
    )
    return upstream.eval().requires_grad_(False)
