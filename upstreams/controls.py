"""Controls: upstreams that know nothing, to tell what a probe alone achieves.

- ``constant``: the same features for all audio; a probe on it can only learn how often each answer occurs.
- ``random-init:NAME``: the architecture of another upstream with weights as they are before any training, drawn from a
  fixed seed; what it reaches is due to the architecture and its front end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from marble.errors import MarbleError
from marble.random_streams import stream_seed
from marble.registry import upstream_class, upstream_names
from marble.upstream import Layer, Upstream, UpstreamInfo


class Constant(Upstream):
    """One frame a second of ones, whatever it hears."""

    info = UpstreamInfo(
        name="constant",
        version=1,
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


class RandomInit(Upstream):
    """Makes an untrained twin of another upstream: ``random-init:NAME``."""

    info = UpstreamInfo(
        name="random-init",
        version=1,
        sample_rate=0,
        frame_rate=0.0,
        layers=(),
        parameters=0,
        licence="that of the code; the weights are drawn",
        training_data="none",
        paper="that of the upstream",
        source="random-init:NAME draws the weights of the upstream NAME from a fixed seed",
    )

    @classmethod
    def load(cls, argument: str | None = None, *, offline: bool = False) -> Upstream:
        """Return the upstream called `argument` with random weights, the same ones each time.

        Raises:
            MarbleError: no name is given, nothing has this name, or the upstream has no weights to draw.
        """
        if not argument:
            raise MarbleError("random-init needs the name of an upstream: write random-init:NAME, for example random-init:muq.")
        name, colon, _ = argument.partition(":")
        if colon and name in upstream_names():
            raise MarbleError(f"Random weights need no file: write random-init:{name} without what follows.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed("random-init", argument))
            upstream = upstream_class(argument).random()
        upstream.info = replace(
            upstream.info,
            name=f"random-init:{argument}",
            licence=cls.info.licence,
            training_data="none (random weights)",
            source="drawn from a fixed seed",
        )
        return upstream
