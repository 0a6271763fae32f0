"""Mel-RVQ: its formulas computed otherwise, what training does to it, the fate of stale codes, and the official tensors."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from marble.pretraining.targets import mel_rvq
from marble.pretraining.targets.features import StackedMel
from marble.pretraining.targets.mel_rvq import MelRVQ
from marble.tasks.synth import tasks as synth
from marble.tasks.synth.pieces import key_piece, tempo_piece


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(seed=0, **sizes):
    torch.manual_seed(seed)
    return MelRVQ(**{"width": 24, "codebooks": 3, "codes": 20, "dimensions": 4} | sizes)


def by_definition(model, features):
    """Codes, reconstruction and the three losses in float64, without torch."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    residual, codes, commitment = features.double().numpy(), [], 0.0
    for index in range(model.codebooks):
        name = f"quantizers.{index}."

        def projected(x, which, name=name):
            direction = state[f"{name}{which}.weight_v"][..., 0]
            length = np.sqrt((direction**2).sum(1, keepdims=True))
            return x @ (state[f"{name}{which}.weight_g"][..., 0] * direction / length).T + state[f"{name}{which}.bias"]

        encoded, table = projected(residual, "in_proj"), state[f"{name}codebook.weight"]
        cosine = (encoded @ table.T) / np.linalg.norm(encoded, axis=-1)[..., None] / np.linalg.norm(table, axis=-1)
        codes.append(cosine.argmax(-1))
        chosen = table[codes[-1]]
        commitment += ((encoded - chosen) ** 2).mean()
        residual = residual - projected(chosen, "out_proj")
    return np.stack(codes, -1), features.double().numpy() - residual, commitment, np.abs(residual).mean()


def test_codes_reconstruction_and_losses_follow_their_formulas():
    model = small()
    features = noise(2, 30, 24)
    found = model(features)
    codes, reconstruction, commitment, error = by_definition(model, features)
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_allclose(found.reconstruction.detach(), reconstruction, atol=1e-5)
    assert {name: part.item() for name, part in found.parts.items()} == pytest.approx(
        {"commitment": commitment, "codebook": commitment, "reconstruction": error}, rel=1e-5
    )
    assert found.loss.item() == pytest.approx(1.25 * commitment + error, rel=1e-5)


def test_gradients_pass_the_lookup_and_reach_a_codebook_through_its_own_loss_only():
    model = small()
    found = model(noise(1, 50, 24))
    found.parts["reconstruction"].backward(retain_graph=True)
    assert all(quantiser.in_proj.weight_v.grad.abs().sum() > 0 for quantiser in model.quantizers)
    assert all(quantiser.codebook.weight.grad is None for quantiser in model.quantizers)
    model.zero_grad()
    found.parts["codebook"].backward()
    used = torch.zeros(3, 20, dtype=torch.bool).scatter_(1, found.codes[0].T, True)
    moved = torch.stack([quantiser.codebook.weight.grad.abs().sum(1) > 0 for quantiser in model.quantizers])
    assert torch.equal(moved, used)


def test_names_shapes_and_types_are_the_official_ones():
    state = MelRVQ().state_dict()
    shapes = {
        "in_proj.weight_g": (16, 1, 1),
        "in_proj.weight_v": (16, 512, 1),
        "in_proj.bias": (16,),
        "out_proj.weight_g": (512, 1, 1),
        "out_proj.weight_v": (512, 16, 1),
        "out_proj.bias": (512,),
        "codebook.weight": (1024, 16),
        "stale_counter": (1024,),
    }
    assert {name: tensor.shape for name, tensor in state.items()} == {
        f"quantizers.{k}.{name}": shape for k in range(8) for name, shape in shapes.items()
    }
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert sum(parameter.numel() for parameter in MelRVQ().parameters()) == 270_592


def test_autocast_moves_nothing():
    model, features = small().eval(), noise(2, 50, 24)
    expected = model(features)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(features)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.reconstruction, expected.reconstruction)


def test_a_code_nobody_chooses_for_a_hundred_batches_becomes_the_direction_of_a_token():
    model = small(codebooks=1, codes=6)
    quantiser = model.quantizers[0]
    features = noise(1, 1, 24) + 0.3 * noise(1, 40, 24, seed=1)
    with torch.no_grad():
        directions = torch.nn.functional.normalize(quantiser.in_proj(features), dim=-1)[0]
        quantiser.codebook.weight[:4] = directions[:4]
        quantiser.codebook.weight[4:] = -directions[:2]  # where no token points
    before = quantiser.codebook.weight.detach().clone()
    stale = torch.tensor([code not in model.tokens(features) for code in range(6)])
    assert stale[4:].all()
    assert not stale.all()
    model.eval()(features)
    model.train().tokens(features)
    assert not quantiser.stale_counter.any()
    for _ in range(99):
        model(features)
    assert torch.equal(quantiser.codebook.weight, before)
    assert torch.equal(quantiser.stale_counter, 99.0 * stale)
    model(features)
    assert torch.equal(quantiser.codebook.weight[~stale], before[~stale])
    assert torch.cdist(quantiser.codebook.weight[stale], directions).min(1).values.max() < 1e-6
    assert not quantiser.stale_counter.any()


TWO_PROCESSES = """
import sys, torch
from torch.distributed import init_process_group
from marble.pretraining.targets import mel_rvq
rank, meeting, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
mel_rvq.STALE_AFTER = 2
torch.manual_seed(0)
model = mel_rvq.MelRVQ(8, 2, 30, 4)
torch.manual_seed(rank)
for _ in range(4):
    model(torch.randn(1, 6, 8))
torch.save(model.state_dict(), out)
"""


def test_two_processes_replace_the_same_codes_by_the_same_tokens(tmp_path):
    outs = [tmp_path / "0.pt", tmp_path / "1.pt"]
    started = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path / "meeting"), str(out)])
        for rank, out in enumerate(outs)
    ]
    assert [process.wait() for process in started] == [0, 0]
    first, second = (torch.load(out, weights_only=True) for out in outs)
    torch.manual_seed(0)
    fresh = MelRVQ(8, 2, 30, 4).state_dict()
    for name in first:
        assert torch.equal(first[name], second[name])
        assert ("codebook" in name) == (not torch.equal(first[name], fresh[name])) or "stale" in name


@pytest.fixture(scope="module")
def corpus():
    """Features of twelve synthetic pieces to train on and of eight others, standardised as one."""

    def features(split, count):
        pieces = [
            synth.render(name, compose, split, number)[0]
            for name, compose in (("synth-key", key_piece), ("synth-tempo", tempo_piece))
            for number in range(count // 2)
        ]
        waveforms = torch.from_numpy(np.stack(pieces).astype(np.float32) / 32768)
        return StackedMel(0.0, 1.0)(waveforms).flatten(0, 1)

    train, test = features("train", 12), features("test", 8)
    return [(x - train.mean()) / train.std() for x in (train, test)]


def trained(features, steps, seed=0):
    model = small(seed, width=512, codes=32, dimensions=16)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        model(features[torch.randint(len(features), (1, 250))]).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def errors(model, features):
    """The mean absolute error after none, one, … of the codebooks."""
    residual, found = features[None], []
    with torch.no_grad():
        for quantiser in [*model.quantizers, None]:
            found.append(residual.abs().mean().item())
            residual = residual if quantiser is None else residual - quantiser(residual)[1]
    return found


def test_training_lowers_the_error_with_every_codebook_and_uses_nearly_all_codes(corpus, monkeypatch):
    monkeypatch.setattr(mel_rvq, "STALE_AFTER", 15)
    train, test = corpus
    model = trained(train, 110)
    nothing, *stages = errors(model, test)
    assert stages[0] < 0.92 * nothing
    assert all(later < 0.95 * earlier for earlier, later in itertools.pairwise(stages))
    assert stages[-1] < 0.72 * nothing < errors(small(width=512, codes=32, dimensions=16).eval(), test)[-1]
    books = model.tokens(train[None])[0].unbind(1)
    assert sum(len(book.unique()) for book in books) > 0.9 * 32 * len(books)


def test_the_seed_decides_the_training(corpus, monkeypatch):
    monkeypatch.setattr(mel_rvq, "STALE_AFTER", 2)
    first, again, other = (trained(corpus[0], 6, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["quantizers.0.codebook.weight"], other["quantizers.0.codebook.weight"])
