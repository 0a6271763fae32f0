"""``marble check`` passes what keeps its promises and names what does not."""

from dataclasses import replace

import pytest
import torch

from marble.jobs.check import check_upstream
from marble.registry import load_upstream
from marble.upstream import Layer, Upstream, UpstreamInfo


class Good(Upstream):
    """Frame energies and their square, 100 frames a second."""

    info = UpstreamInfo(
        name="good", sample_rate=8000, frame_rate=100.0, layers=(Layer("energy", 1), Layer("both", 2)), min_seconds=0.01
    )

    def layers(self, waveform):
        energy = waveform.unfold(1, 80, 80).square().mean(-1, keepdim=True)
        yield energy
        yield torch.cat([energy, energy.square()], dim=-1)


class Listed(Good):
    def layers(self, waveform):
        return list(super().layers(waveform))


class WrongWidth(Good):
    info = replace(Good.info, layers=(Layer("energy", 1), Layer("both", 3)))


class WrongRate(Good):
    info = replace(Good.info, frame_rate=50.0)


class Dropping(Good):
    def layers(self, waveform):
        for layer in super().layers(waveform):
            yield torch.nn.functional.dropout(layer, 0.5, training=True)


class BatchNormed(Good):
    def layers(self, waveform):
        for layer in super().layers(waveform):
            yield layer - layer.mean(dim=0, keepdim=True)


class SilenceDivides(Good):
    def layers(self, waveform):
        yield from super().layers(waveform / waveform.abs().amax(1, keepdim=True))


class TooShort(Good):
    info = replace(Good.info, min_seconds=0.001)


class Crashing(Good):
    def layers(self, waveform):
        raise RuntimeError("no such buffer")
        yield


def broken(upstream: Upstream) -> list[str]:
    return [check.promise for check in check_upstream(upstream.prepare("cpu")) if not check.holds]


@pytest.mark.parametrize("name", ["fbank-chroma", "constant"])
def test_the_built_in_upstreams_keep_their_promises(name):
    assert broken(load_upstream(name)) == []


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Listed, "layers() is a generator"),
        (WrongWidth, "yields the layers of its info, [B, T, D] each"),
        (WrongRate, "keeps its frame rate"),
        (Dropping, "gives the same states twice"),
        (BatchNormed, "a clip alone equals the clip in a batch of 8"),
        (SilenceDivides, "silence gives finite floats"),
        (TooShort, "encodes its shortest input, 8 samples"),
        (Crashing, "encodes noise"),
    ],
)
def test_a_broken_promise_is_named(kind, promise):
    assert broken(Good()) == []
    assert promise in broken(kind())
