"""``marble check`` passes what keeps its promises and names what does not."""

from dataclasses import replace

import pytest
import torch

import marble
from marble.jobs.check import check_upstream
from marble.registry import load_upstream
from marble.upstream import Layer, Upstream, UpstreamInfo


class Good(Upstream):
    """Frame energies and their square, 100 frames a second."""

    info = UpstreamInfo(
        name="good", sample_rate=8000, frame_rate=100.0, layers=(Layer("energy", 1), Layer("both", 2)), first_frame=0.005,
        min_seconds=0.01,
    )  # fmt: skip

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


class Late(Good):
    """Where frames would lie if they ended at their times."""

    info = replace(Good.info, first_frame=0.0105)


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


class Pooled(Good):
    """The last layer is one vector for the window."""

    def layers(self, waveform):
        for number, layer in enumerate(super().layers(waveform)):
            yield layer.mean(1, keepdim=True) if number else layer


class Vectors(Good):
    """All layers are."""

    def layers(self, waveform):
        for layer in super().layers(waveform):
            yield layer.mean(1, keepdim=True)


class Flat(Good):
    def layers(self, waveform):
        for layer in super().layers(waveform):
            yield layer.mean(1)


class Ragged(Good):
    def layers(self, waveform):
        first, second = super().layers(waveform)
        yield first
        yield second[:, ::2]


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
        (Late, "a click lies where its first frame says"),
        (Dropping, "gives the same states twice"),
        (BatchNormed, "a clip alone equals the clip in a batch of 8"),
        (SilenceDivides, "silence gives finite floats"),
        (TooShort, "encodes its shortest input, 8 samples"),
        (Crashing, "encodes noise"),
        (Flat, "yields the layers of its info, [B, T, D] each"),
        (Ragged, "all layers have one number of frames, or one vector a window"),
    ],
)
def test_a_broken_promise_is_named(kind, promise):
    assert broken(Good()) == []
    assert promise in broken(kind())


@pytest.mark.parametrize("kind", [Pooled, Vectors])
def test_a_layer_may_be_one_vector_a_window(kind):
    assert broken(kind()) == []
    seen = {check.promise: check.seen for check in check_upstream(kind().prepare("cpu"))}
    vectors = "1" if kind is Pooled else "0, 1"
    assert seen["all layers have one number of frames, or one vector a window"].endswith(f", one vector in layer {vectors}")


def test_a_vector_without_frames_is_told_how_to_get_one():
    seen = {check.promise: check.seen for check in check_upstream(Flat().prepare("cpu"))}
    advice = "layer 0 is [1, 1] for a batch of one; one vector a window is [1, 1, D], as hidden[:, None] gives"
    assert seen["yields the layers of its info, [B, T, D] each"] == advice


def test_vectors_are_probed_like_frames(tones, tmp_path):
    quick = {"results": tmp_path, "seeds": 1, "settings": ["probe.epochs=2", "pooling=mean+std"]}
    assert [layer.name for layer in marble.run(Pooled(), f"folder:{tones}", **quick).layers] == ["energy", "both"]
