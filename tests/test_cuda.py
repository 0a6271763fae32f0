"""What a GPU computes is what a CPU computes: upstreams, metrics, probes, a whole run, a pretraining."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import marble
from marble.probe.answers import Group
from marble.probe.inputs import Examples, ProbeData
from marble.probe.scoring.metrics import METRICS
from marble.probe.settings import Probe
from marble.probe.training.bank import train_probes
from marble.registry import find_upstream

pytestmark = pytest.mark.cuda
NETWORKS = ["branchformer-summarymixing-tiny", "branchformer-attention-tiny", "musicfm-tiny", "omar-rq-tiny"]


def drawn(name):
    torch.manual_seed(0)
    return find_upstream(name).random().eval().requires_grad_(False)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("precision", "cosine"), [("fp32", 0.99999), ("bf16", 0.99)])
def test_hidden_states(name, precision, cosine):
    waveform = 0.1 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = list(drawn(name).prepare("cpu").layers(waveform))
        model = drawn(name).prepare("cuda", precision)
        states = [hidden.float().cpu() for hidden in model.layers(waveform.cuda())]
    for layer, (hidden, exact) in enumerate(zip(states, expected, strict=True)):
        assert float(torch.cosine_similarity(hidden, exact, dim=-1).min()) > cosine, layer


@pytest.mark.parametrize("name", sorted(METRICS))
def test_metrics(name):
    metric, generator = METRICS[name], torch.Generator().manual_seed(0)
    width = 24 if name.startswith("key") else 2
    scores = torch.randn(3, 200, width, generator=generator)
    targets = torch.randint(width, (200,), generator=generator)
    if "multilabel" in metric.kinds:
        targets = (torch.rand(200, width, generator=generator) < 0.3).float()
    elif "regression" in metric.kinds:
        targets = torch.randn(200, width, generator=generator)
    counts = torch.randint(3, (5, 200), generator=generator)
    torch.testing.assert_close(metric(scores.cuda(), targets, counts).cpu(), metric(scores, targets, counts), equal_nan=True)


@pytest.mark.parametrize("layer", [0, "weighted"])
def test_probes(layer):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 120, 16, generator=generator, dtype=torch.float64)
    targets = (features[0, :, 0] > 0).long()

    def answers(device):
        rows = torch.arange(120, device=device)
        splits = [Examples(part, torch.arange(len(part), device=device), targets.to(device)[part]) for part in rows.split(40)]
        data = ProbeData("task", "multiclass", 2, "accuracy", *splits)
        settings = Probe(epochs=4, dropout=0.0, hidden=8)
        (trained,) = train_probes(features.to(device), [0, 1], [Group(layer, 0)], data, settings)
        return trained

    there, near = answers("cuda"), answers("cpu")
    assert there.training.learning_rate == near.training.learning_rate
    torch.testing.assert_close(there.test.cpu(), near.test, rtol=1e-7, atol=1e-7)


def test_a_run(tmp_path):
    for number in range(30):
        path = tmp_path / "tones" / f"class{number % 3}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).standard_normal(24_000) / 100
        soundfile.write(path, np.sin(np.arange(24_000) * (0.05 + 0.1 * (number % 3))) / 2 + noise, 24_000)

    def scores(device):
        result = marble.run(
            "fbank-chroma", f"folder:{tmp_path / 'tones'}", layers=0, seeds=1, device=device, cache_dir=tmp_path / device,
            results=tmp_path / device, settings=["probe.epochs=20"],
        )  # fmt: skip
        return result.selected.test["accuracy"].mean

    assert scores("cuda") == scores("cpu") == 1.0


def test_a_pretraining_goes_on(tmp_path):
    soundfile.write(tmp_path / "music.wav", np.random.default_rng(0).standard_normal(24_000 * 20) / 10, 24_000)
    command = [sys.executable, "-m", "marble", "pretrain", "musicfm-tiny", "--data", str(tmp_path), "--device", "cuda"]
    command += ["--out", str(tmp_path / "out"), "--log-every", "1", "--checkpoint-every", "2", "--set", "steps=4"]

    def losses(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        log = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
        return {line["step"]: line["loss"] for line in log if "loss" in line}

    whole = losses()
    assert list(whole) == [1, 2, 3, 4]
    shutil.rmtree(max((tmp_path / "out/checkpoints").iterdir()))
    assert losses("--resume") == pytest.approx(whole, rel=1e-3)
