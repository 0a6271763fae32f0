"""Two processes on one machine give what one process gives, with copied and with sharded weights."""

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from marble.pretraining.parallel import SynchronisedBatchNorm, synchronise_batch_norms

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder in which two processes have left what `two_processes` says."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, HERE / "two_processes.py", folder],
            env=world | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said[0][-3000:] + said[1][-3000:]
    return folder


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("two_processes")


@pytest.mark.parametrize("how", ["copied", "sharded", "recomputed", "frozen"])
def test_two_processes_give_the_step_of_one(together, two_processes, tmp_path, how):
    """Gradients and running statistics; masks hide other numbers of tokens in the two halves of the batch."""
    alone = two_processes.trainer(tmp_path, f"frozen_stem={how == 'frozen'}")
    first, second = (int(alone.objective.draw_masks(numbers).sum()) for numbers in ([0, 2], [1, 3]))
    assert first != second
    expected, found = two_processes.gradients(alone), torch.load(together / f"{how}.pt")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("how", ["copied", "sharded"])
def test_their_checkpoint_is_that_of_one_process_and_goes_on_anywhere(together, two_processes, tmp_path, how):
    checkpoint = together / how / "checkpoints"
    one = two_processes.trainer(tmp_path / "alone")
    alone = one.train()
    found, expected = (load_file(folder / "upstream.safetensors") for folder in (checkpoint / "00000004", alone))
    assert found.keys() == expected.keys()
    near(found, expected)
    # The log speaks of the first process, whose losses are means over its own clips.
    said, whole = (json.loads((folder / "log.jsonl").read_text().splitlines()[0]) for folder in (together / how, one.folder))
    assert said["cross_entropy"] == pytest.approx(whole["cross_entropy"], rel=0.1)
    # Resumed on the same processes: the same bytes. On one process: the same step of the training.
    again = together / f"{how}-resumed" / "checkpoints" / "00000004"
    for file in ("upstream.safetensors", "training.safetensors"):
        whole, resumed = load_file(checkpoint / "00000004" / file), load_file(again / file)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    shard = ("shard=true",) if how == "sharded" else ()
    last = two_processes.trainer(tmp_path / "on", *shard).train(checkpoint / "00000002")
    near(found, load_file(last / "upstream.safetensors"))


def test_a_skipped_step_names_the_clips_of_all_processes(together):
    lines = [json.loads(line) for line in (together / "poisoned" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["skipped"]) for line in lines if "skipped" in line] == [(2, [4, 5, 6, 7])]


def test_stale_codes_are_replaced_where_weights_are_sharded(together):
    first, second = (torch.load(together / f"codes-{rank}.pt") for rank in range(2))
    assert int((first > 1e-3).sum()) > 10
    assert torch.equal(first, second)


def near(one, other):
    """Compare all but what has no gradient but rounding, which Adam divides by its size: biases before a norm or softmax."""
    for name, tensor in one.items():
        if not name.endswith(("bias", "running_mean")):
            torch.testing.assert_close(other[name], tensor, rtol=1e-2, atol=2e-4, msg=name)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 7), (4, 3, 5, 2)])
def test_the_norm_over_one_process_is_that_of_torch(tmp_path, shape):
    """Values, gradients and running statistics; its backward pass is written out, not derived."""
    torch.manual_seed(0)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    plain, norm = kind(3).double(), SynchronisedBatchNorm(3)
    nn.init.normal_(plain.weight)
    norm.load_state_dict(plain.state_dict())
    x = torch.randn(shape, requires_grad=True)
    y = x.detach().double().requires_grad_()
    upper = torch.randn(shape)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        found, expected = norm(x), plain(y)
        found.backward(upper)
        expected.backward(upper.double())
    finally:
        torch.distributed.destroy_process_group()
    pairs = [(found, expected), (x.grad, y.grad), (norm.weight.grad, plain.weight.grad), (norm.bias.grad, plain.bias.grad)]
    for one, other in [*pairs, *zip(norm.buffers(), plain.buffers(), strict=True)]:
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=1e-5)


def test_every_batch_norm_is_synchronised_and_stays_as_it_is_at_inference():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12))
    x = torch.randn(5, 1, 4, 4)
    network(x)
    expected = network.eval()(x)
    synchronise_batch_norms(network)
    assert [type(module) for module in network] == [nn.Conv2d, SynchronisedBatchNorm, nn.Flatten, SynchronisedBatchNorm]
    assert torch.equal(network.eval()(x), expected)
