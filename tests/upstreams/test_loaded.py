"""A loaded upstream is frozen, whichever way it was loaded: `layers` is right at once, and changes nothing."""

import sys

import pytest
import torch

from marble.registry import find_upstream, load_upstream
from marble.upstream import Upstream

from .test_parity import CASES, DATA

NET = """
import torch
from marble.upstream import Layer, Upstream, UpstreamInfo
class Net(Upstream):
    info = UpstreamInfo(name="net", sample_rate=24_000, frame_rate=2400.0, layers=(Layer("frames", 10), Layer("block 1", 10)))
    def __init__(self):
        super().__init__()
        self.block = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.BatchNorm1d(10), torch.nn.Dropout(0.5))
    def layers(self, waveform):
        frames = waveform.unfold(1, 10, 10)
        yield frames
        yield self.block(frames.flatten(0, 1)).view_as(frames)
class Drawn(Net):
    @classmethod
    def load(cls, argument=None, *, offline=False):
        return cls()
    @classmethod
    def random(cls):
        return cls()
"""


def is_frozen(upstream: Upstream, again: Upstream, waveform: torch.Tensor) -> None:
    """Assert that `layers` unprepared gives what it gives once prepared, twice, and leaves all tensors as they are."""
    assert not any(module.training for module in upstream.modules())
    assert not any(weight.requires_grad for weight in upstream.parameters())
    before = {name: tensor.clone() for name, tensor in upstream.state_dict().items()}
    first, second = ([state.clone() for state in upstream.layers(waveform)] for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert all(torch.equal(tensor, before[name]) for name, tensor in upstream.state_dict().items())
    for state, prepared in zip(first, again.prepare("cpu").layers(waveform), strict=True):
        torch.testing.assert_close(state, prepared, atol=1e-5, rtol=1e-5)


def noise(upstream: Upstream) -> torch.Tensor:
    return 0.1 * torch.randn(2, upstream.info.sample_rate, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "spec",
    [
        *(f"{case.upstream}:{DATA / case.folder}" for case in CASES),
        "branchformer-summarymixing-tiny",
        "random-init:muq-tiny",
        "random-init:omar-rq-tiny",
        "fbank-chroma",
        "constant",
    ],
)
def test_a_built_in_upstream_is_frozen(spec):
    upstream = load_upstream(spec)
    is_frozen(upstream, load_upstream(spec), noise(upstream))


@pytest.mark.parametrize("case", CASES, ids=[case.folder for case in CASES])
def test_an_official_one_is_frozen_without_the_registry(case):
    upstream, again = (find_upstream(case.upstream).load(str(DATA / case.folder)) for _ in range(2))
    is_frozen(upstream, again, noise(upstream))


def test_a_saved_one_is_frozen(tmp_path):
    load_upstream("random-init:muq-tiny").save(tmp_path, {})
    is_frozen(load_upstream(str(tmp_path)), load_upstream(f"saved:{tmp_path}"), torch.randn(1, 24_000))


@pytest.mark.parametrize("spec", ["net_of_a_test:Net", "net_of_a_test:Drawn", "random-init:net_of_a_test:Drawn", "packaged"])
def test_one_of_ones_own_is_frozen(spec, tmp_path, monkeypatch):
    (tmp_path / "net_of_a_test.py").write_text(NET)
    about = tmp_path / "net_of_a_test-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: net-of-a-test\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[marble.upstreams]\npackaged = net_of_a_test:Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    upstream = load_upstream(spec)
    is_frozen(upstream, upstream, noise(upstream))
    sys.modules.pop("net_of_a_test")


def test_a_drawn_one_can_be_trained():
    upstream = find_upstream("muq-tiny").random()
    assert all(weight.requires_grad for weight in upstream.parameters())
