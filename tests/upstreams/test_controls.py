"""The controls: one hears nothing, the other has learned nothing."""

import sys

import pytest
import torch

from marble import registry
from marble.errors import MarbleError

NET = """
import torch
from marble.upstream import Layer, Upstream, UpstreamInfo
class Net(Upstream):
    info = UpstreamInfo(
        name="net", sample_rate=8000, frame_rate=800.0, layers=(Layer("frames", 10), Layer("block 1", 4)),
        training_data="secret data",
    )
    def __init__(self):
        super().__init__()
        self.block = torch.nn.Linear(10, 4)
    @classmethod
    def random(cls):
        return cls()
    def layers(self, waveform):
        frames = waveform.unfold(1, 10, 10)
        yield frames
        yield self.block(frames)
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "net_of_a_test.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    yield "net_of_a_test:Net"
    sys.modules.pop("net_of_a_test", None)


def test_constant_hears_nothing():
    upstream = registry.load_upstream("constant")
    quiet, loud = (list(upstream.layers(waveform)) for waveform in (torch.zeros(2, 16_000), torch.ones(2, 16_000)))
    assert torch.equal(quiet[0], loud[0])


def test_random_init_draws_the_same_weights_each_time_and_leaves_the_random_state_alone(net):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second = registry.load_upstream(f"random-init:{net}"), registry.load_upstream(f"random-init:{net}")
    assert torch.equal(torch.rand(1), expected)
    assert first.weights_hash() == second.weights_hash()
    assert first.info.name == "random-init:net"
    assert "secret" not in first.info.training_data
    assert list(first.layers(torch.zeros(1, 100)))[1].shape == (1, 10, 4)


def test_a_control_of_a_plug_in_stands_under_the_name_of_its_info(net, tmp_path):
    """However the plug-in is named; with the weights that this name draws."""
    of_file = registry.load_upstream(f"random-init:{tmp_path / 'net_of_a_test.py'}:Net")
    of_module = registry.load_upstream(f"random-init:{net}")
    assert of_file.info.name == of_module.info.name == f"random-init:{registry.load_upstream(net).info.name}"
    assert of_file.weights_hash() == of_module.weights_hash()
    for name in ("muq-tiny", "branchformer-summarymixing-tiny"):
        assert registry.load_upstream(f"random-init:{name}").info.name == f"random-init:{name}"


def test_random_init_needs_a_name_with_weights():
    with pytest.raises(MarbleError, match="random-init:NAME"):
        registry.load_upstream("random-init")
    with pytest.raises(MarbleError, match="has no weights to draw"):
        registry.load_upstream("random-init:fbank-chroma")
    with pytest.raises(MarbleError, match="no upstream called 'nothing'"):
        registry.load_upstream("random-init:nothing")
