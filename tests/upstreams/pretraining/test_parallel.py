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

from marble.upstreams.pretraining.parallel import SynchronisedBatchNorm, synchronise_batch_norms

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


@pytest.mark.parametrize("how", ["copied", "sharded", "recomputed"])
def test_two_processes_give_the_step_of_one(together, two_processes, tmp_path, how):
    """Gradients and running statistics; masks hide other numbers of tokens in the two halves of the batch."""
    alone = two_processes.trainer(tmp_path)
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


def near(one, other):
    """Compare all but what has no gradient but rounding, which Adam divides by its size: biases before a norm or softmax."""
    for name, tensor in one.items():
        if not name.endswith(("bias", "running_mean")):
            torch.testing.assert_close(other[name], tensor, rtol=1e-2, atol=2e-4, msg=name)


def test_every_batch_norm_is_synchronised_and_stays_as_it_is_at_inference():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12))
    x = torch.randn(5, 1, 4, 4)
    network(x)
    expected = network.eval()(x)
    synchronise_batch_norms(network)
    assert [type(module) for module in network] == [nn.Conv2d, SynchronisedBatchNorm, nn.Flatten, SynchronisedBatchNorm]
    assert torch.equal(network.eval()(x), expected)
