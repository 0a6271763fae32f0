"""The probe bank against one torch.optim.Adam for each probe, and against its own neighbours."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from marble.probe import bank as probes
from marble.probe.bank import Group, Question, Tracks, loss, train_probes
from marble.probe.metrics import METRICS
from marble.probe.protocol import Probe
from marble.random_streams import dropout_generator, initial_weights, order_generator

RATES = (5e-4, 5e-3, 5e-2)
SETTINGS = Probe(hidden=16, dropout=0.25, learning_rates=RATES, batch_size=16, epochs=12, patience=3)
LOSS = {
    "multiclass": nn.functional.cross_entropy,
    "multilabel": nn.functional.binary_cross_entropy_with_logits,
    "regression": nn.functional.mse_loss,
    "ordinal": lambda outputs, grades: nn.functional.mse_loss(outputs, cumulative(outputs, grades)),
}
METRIC = {"multiclass": "accuracy", "multilabel": "roc_auc", "regression": "r2", "ordinal": "ordinal_mse"}


def cumulative(outputs: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """The targets of Ramoneda et al. 2025: ones up to the grade, zeros beyond."""
    targets = torch.zeros_like(outputs)
    for row, grade in zip(targets, grades.tolist(), strict=True):
        row[: grade + 1] = 1
    return targets


def tracks(generator: torch.Generator, rows: range, kind: str, outputs: int) -> Tracks:
    """Tracks of one to three windows each over some rows, with random targets that the features partly tell."""
    ends, track = [], []
    while len(track) < len(rows):
        windows = min(1 + len(ends) % 3, len(rows) - len(track))
        track += [len(ends)] * windows
        ends.append(len(track))
    count = len(ends)
    if kind in ("multiclass", "ordinal"):
        targets = torch.arange(count) % outputs
    elif kind == "multilabel":
        targets = (torch.rand(count, outputs, generator=generator) < 0.4).double()
    else:
        targets = 50 + 20 * torch.randn(count, outputs, generator=generator, dtype=torch.float64)
    return Tracks(torch.tensor(rows), torch.tensor(track), targets)


def question(kind: str, outputs: int = 3) -> tuple[torch.Tensor, Question]:
    """Features [3, 150, 7] in float64 and a question on them."""
    generator = torch.Generator().manual_seed(3)
    splits = [tracks(generator, rows, kind, outputs) for rows in (range(90), range(90, 120), range(120, 150))]
    features = torch.randn(3, 150, 7, generator=generator, dtype=torch.float64)
    for split in splits:
        hint = 3 * split.targets[split.track].double()
        features[1, split.rows, 0] += hint if hint.ndim == 1 else hint[:, 0]
    return features, Question("toy", kind, outputs, METRIC[kind], *splits)


def sequential(features: torch.Tensor, group: Group, rate: float, asked: Question, probe: Probe) -> dict:
    """One probe, as a textbook would train it."""
    first, first_bias, second, second_bias = initial_weights(
        asked.task, group.seed, features.shape[2], probe.hidden, asked.outputs
    )
    body = nn.Linear(features.shape[2], probe.hidden, dtype=features.dtype)
    head = nn.Linear(probe.hidden, asked.outputs, dtype=features.dtype)
    layer_logits = nn.Parameter(torch.zeros(len(features), dtype=features.dtype))
    with torch.no_grad():
        body.weight.copy_(first.T), body.bias.copy_(first_bias[0])
        head.weight.copy_(second.T), head.bias.copy_(second_bias[0])
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters(), layer_logits], lr=rate, foreach=False)
    order = order_generator(asked.task, group.seed)
    dropout = dropout_generator(asked.task, group.seed, torch.device("cpu"))
    targets, mean, scale = asked.train.targets, 0.0, 1.0
    if asked.kind == "regression":
        mean, scale = targets.mean(0), targets.std(0, correction=0)
        targets = (targets - mean) / scale

    def logits(rows: torch.Tensor, mask: torch.Tensor | float) -> torch.Tensor:
        if group.layer == "weighted":
            inputs = sum(weight * layer[rows] for weight, layer in zip(layer_logits.softmax(0), features, strict=True))
        else:
            inputs = features[group.layer, rows]
        return head(body(inputs).relu() * mask)

    def answers(split: Tracks) -> torch.Tensor:
        rows = logits(split.rows, 1.0)
        return torch.stack([rows[split.track == track].mean(0) for track in range(len(split.targets))]) * scale + mean

    losses: list[float] = []
    best = {"score": -float("inf"), "epoch": 0, "losses": losses}
    for epoch in range(1, probe.epochs + 1):
        for rows in torch.randperm(len(asked.train.rows), generator=order).split(probe.batch_size):
            kept = torch.rand(len(rows), probe.hidden, generator=dropout) >= probe.dropout
            optimiser.zero_grad()
            output = logits(asked.train.rows[rows], kept.to(features.dtype) / (1 - probe.dropout))
            error = LOSS[asked.kind](output, targets[asked.train.track[rows]])
            error.backward()
            losses.append(error.item())
            optimiser.step()
        with torch.no_grad():
            metric = METRICS[asked.metric]
            score = float(metric(answers(asked.valid), asked.valid.targets)) * (1 if metric.higher_is_better else -1)
            if score > best["score"]:
                best |= {"score": score, "epoch": epoch, "validation": answers(asked.valid), "test": answers(asked.test)}
                best["layer_weights"] = layer_logits.softmax(0).clone()
        if epoch - best["epoch"] >= probe.patience:
            break
    return best


@pytest.mark.parametrize("kind", METRIC)
def test_fused_training_is_sequential_training(kind):
    features, asked = question(kind)
    groups = [Group(layer, seed) for layer in (0, 1, 2, "weighted") for seed in (0, 5)]
    for group, trained in zip(groups, train_probes(features, [0, 1, 2], groups, asked, SETTINGS), strict=True):
        runs = [sequential(features, group, rate, asked, SETTINGS) for rate in RATES]
        assert trained.grid_epochs.tolist() == [run["epoch"] for run in runs]
        sign = 1 if METRICS[asked.metric].higher_is_better else -1
        torch.testing.assert_close(
            sign * trained.grid_scores, torch.tensor([run["score"] for run in runs], dtype=torch.float64), rtol=0, atol=1e-10
        )
        chosen = max(range(len(RATES)), key=lambda number, runs=runs: runs[number]["score"])
        assert (trained.learning_rate, trained.epoch) == (RATES[chosen], runs[chosen]["epoch"])
        torch.testing.assert_close(trained.validation, runs[chosen]["validation"], rtol=0, atol=1e-10)
        torch.testing.assert_close(trained.test, runs[chosen]["test"], rtol=0, atol=1e-10)
        if group.layer == "weighted":
            torch.testing.assert_close(trained.layer_weights, runs[chosen]["layer_weights"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", METRIC)
def test_fused_losses_are_sequential_losses_at_every_step(kind, monkeypatch):
    features, asked = question(kind)
    groups = [Group(layer, seed) for layer in (0, 1, "weighted") for seed in (0, 5)]
    patient = SETTINGS.model_copy(update={"epochs": 3, "patience": 3})  # nobody is dropped, so members keep their places
    seen = []

    def spied(*arguments):
        seen.append(loss(*arguments))
        return seen[-1]

    monkeypatch.setattr(probes, "loss", spied)
    train_probes(features, [0, 1, 2], groups, asked, patient)
    fused = torch.stack(seen).detach().view(-1, len(RATES), len(groups))
    for number, group in enumerate(groups):
        for rate_number, rate in enumerate(RATES):
            steps = torch.tensor(sequential(features, group, rate, asked, patient)["losses"], dtype=torch.float64)
            torch.testing.assert_close(fused[:, rate_number, number], steps, rtol=0, atol=1e-10)


def same(left, right) -> bool:
    """Whether two trained groups agree in every byte."""
    return all(
        torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for one, other in zip(vars(left).values(), vars(right).values(), strict=True)
    )


@cache
def everyone(kind: str, dtype: torch.dtype):
    """All probes of a question trained together."""
    features, asked = question(kind)
    groups = [Group(layer, seed) for layer in (0, 1, 2, "weighted") for seed in range(5)]
    return (
        features.to(dtype),
        asked,
        dict(zip(groups, train_probes(features.to(dtype), [0, 1, 2], groups, asked, SETTINGS), strict=True)),
    )


@settings(max_examples=12, deadline=None)
@given(
    groups=st.sets(st.tuples(st.sampled_from([0, 1, 2, "weighted"]), st.integers(0, 4)), min_size=1, max_size=6),
    kind=st.sampled_from(list(METRIC)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_probe_does_not_change_because_its_neighbours_did(groups, kind, dtype):
    features, asked, reference = everyone(kind, dtype)
    chosen = [Group(*group) for group in sorted(groups, key=str)]
    for group, trained in zip(chosen, train_probes(features, [0, 1, 2], chosen, asked, SETTINGS), strict=True):
        assert same(trained, reference[group])


def test_a_learning_rate_does_not_change_because_others_were_removed():
    features, asked = question("multilabel")
    (grid,) = train_probes(features, [0, 1, 2], [Group(1, 0)], asked, SETTINGS)
    for number, rate in enumerate(RATES):
        alone = SETTINGS.model_copy(update={"learning_rates": (rate,)})
        (trained,) = train_probes(features, [0, 1, 2], [Group(1, 0)], asked, alone)
        torch.testing.assert_close(trained.grid_scores[0], grid.grid_scores[number], rtol=0, atol=1e-10)
        assert trained.grid_epochs[0] == grid.grid_epochs[number]


def test_permuted_test_targets_change_no_choice_and_no_answer():
    features, asked = question("multiclass")
    groups = [Group(layer, 0) for layer in (0, 1, "weighted")]
    first = train_probes(features, [0, 1, 2], groups, asked, SETTINGS)
    shuffled = Tracks(asked.test.rows, asked.test.track, asked.test.targets.flip(0))
    second = train_probes(features, [0, 1, 2], groups, Question(**{**vars(asked), "test": shuffled}), SETTINGS)
    assert not torch.equal(asked.test.targets, shuffled.targets)
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


def test_test_features_are_read_once_for_the_chosen_rate_only(monkeypatch):
    from marble.probe import bank as probes

    features, asked = question("multiclass")
    read = []
    answers = probes._Bank._answers

    def counting(self, weights, group, split):
        read.append((split is asked.test, len(group)))
        return answers(self, weights, group, split)

    monkeypatch.setattr(probes._Bank, "_answers", counting)
    groups = [Group(layer, seed) for layer in (0, 1, 2) for seed in (0, 1)]
    train_probes(features, [0, 1, 2], groups, asked, SETTINGS)
    assert [members for is_test, members in read if is_test] == [len(groups)]


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_answers_to_windows_are_those_that_tracks_are_averaged_from(kind):
    features, asked = question(kind)
    groups = [Group(layer, 0) for layer in (0, 1, "weighted")]
    plain = train_probes(features, [0, 1, 2], groups, asked, SETTINGS)
    told = train_probes(features, [0, 1, 2], groups, Question(**{**vars(asked), "windows": True}), SETTINGS)
    for without, trained in zip(plain, told, strict=True):
        assert len(without.test_windows) == 0
        assert torch.equal(without.test, trained.test)
        for split, windows, answers in (
            (asked.valid, trained.validation_windows, trained.validation),
            (asked.test, trained.test_windows, trained.test),
        ):
            means = torch.stack([windows[split.track == track].mean(0) for track in range(len(split.targets))])
            torch.testing.assert_close(means, answers, rtol=0, atol=1e-10)
    one_each = asked.test.windows()
    assert torch.equal(one_each.targets, asked.test.targets[asked.test.track])
    assert one_each.track.tolist() == list(range(len(asked.test.rows)))


def test_a_diverging_member_loses_and_harms_nobody():
    features, asked = question("regression", outputs=1)
    wild = SETTINGS.model_copy(update={"learning_rates": (5e-3, 1e30)})
    tame = SETTINGS.model_copy(update={"learning_rates": (5e-3,)})
    (both,) = train_probes(features.float(), [0, 1, 2], [Group(1, 0)], asked, wild)
    (alone,) = train_probes(features.float(), [0, 1, 2], [Group(1, 0)], asked, tame)
    assert both.learning_rate == 5e-3
    assert torch.equal(both.test, alone.test)


def test_the_bank_learns_what_the_features_tell():
    features, asked = question("multiclass")
    groups = [Group(layer, 0) for layer in (0, 1)]
    longer = SETTINGS.model_copy(update={"epochs": 60, "patience": 20})
    blind, seeing = train_probes(features, [0, 1, 2], groups, asked, longer)
    assert METRICS["accuracy"](seeing.test, asked.test.targets) > METRICS["accuracy"](blind.test, asked.test.targets) + 0.15
