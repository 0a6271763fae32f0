"""The probe bank against one torch.optim.Adam for each probe, for every head and kind, and against its own neighbours."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from marble.kinds import KINDS
from marble.probe import bank
from marble.probe.answers import Answers, Group
from marble.probe.bank import train_probes
from marble.probe.heads import make_head
from marble.probe.inputs import Examples, ProbeData
from marble.probe.metrics import METRICS
from marble.probe.protocol import Probe
from marble.random_streams import dropout_generator, order_generator

RATES = (5e-4, 5e-3, 5e-2)
SETTINGS = Probe(hidden=16, dropout=0.25, learning_rates=RATES, batch_size=16, epochs=12, patience=3)
LINEAR = SETTINGS.model_copy(update={"kind": "linear"})
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


def tracks(generator: torch.Generator, rows: range, kind: str, outputs: int) -> Examples:
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
    return Examples(torch.tensor(rows), torch.tensor(track), targets)


def asked(kind: str, outputs: int = 3) -> tuple[torch.Tensor, ProbeData]:
    """Features [3, 150, 7] in float64 and what is asked of them."""
    generator = torch.Generator().manual_seed(3)
    splits = [tracks(generator, rows, kind, outputs) for rows in (range(90), range(90, 120), range(120, 150))]
    features = torch.randn(3, 150, 7, generator=generator, dtype=torch.float64)
    for split in splits:
        hint = 3 * split.targets[split.track].double()
        features[1, split.rows, 0] += hint if hint.ndim == 1 else hint[:, 0]
    return features, ProbeData("toy", kind, outputs, METRIC[kind], *splits)


def sequential(features: torch.Tensor, group: Group, rate: float, data: ProbeData, probe: Probe) -> dict:
    """One probe, as a textbook would train it."""
    first, first_bias, *second = make_head(probe, data.outputs).initial(data.task, group.seed, features.shape[2])
    hidden = probe.hidden if second else data.outputs
    body = nn.Linear(features.shape[2], hidden, dtype=features.dtype)
    head = nn.Linear(hidden, data.outputs, dtype=features.dtype) if second else nn.Identity()
    layer_logits = nn.Parameter(torch.zeros(len(features), dtype=features.dtype))
    with torch.no_grad():
        body.weight.copy_(first[:, :hidden].T), body.bias.copy_(first_bias[0, :hidden])
        if second:
            head.weight.copy_(second[0][:hidden, : data.outputs].T), head.bias.copy_(second[1][0, : data.outputs])
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters(), layer_logits], lr=rate, foreach=False)
    order = order_generator(data.task, group.seed)
    dropout = dropout_generator(data.task, group.seed, torch.device("cpu"))
    targets, mean, scale = data.train.targets, 0.0, 1.0
    if data.kind == "regression":
        mean, scale = targets.mean(0), targets.std(0, correction=0)
        targets = (targets - mean) / scale

    def logits(rows: torch.Tensor, mask: torch.Tensor | float) -> torch.Tensor:
        if group.layer == "weighted":
            inputs = sum(weight * layer[rows] for weight, layer in zip(layer_logits.softmax(0), features, strict=True))
        else:
            inputs = features[group.layer, rows]
        return head(body(inputs).relu() * mask) if second else body(inputs)

    def answers(split: Examples) -> torch.Tensor:
        return logits(split.rows, 1.0) * scale + mean

    def by_track(split: Examples) -> torch.Tensor:
        rows = answers(split)
        return torch.stack([rows[split.track == track].mean(0) for track in range(len(split.targets))])

    losses: list[float] = []
    best = {"score": -float("inf"), "epoch": 0, "losses": losses}
    for epoch in range(1, probe.epochs + 1):
        for rows in torch.randperm(len(data.train.rows), generator=order).split(probe.batch_size):
            kept = torch.rand(len(rows), hidden, generator=dropout) >= probe.dropout
            optimiser.zero_grad()
            output = logits(data.train.rows[rows], kept.to(features.dtype) / (1 - probe.dropout))
            error = LOSS[data.kind](output, targets[data.train.track[rows]])
            error.backward()
            losses.append(error.item())
            optimiser.step()
        with torch.no_grad():
            metric = METRICS[data.metric]
            score = float(metric(by_track(data.valid), data.valid.targets)) * (1 if metric.higher_is_better else -1)
            if score > best["score"]:
                best |= {"score": score, "epoch": epoch, "validation": answers(data.valid), "test": answers(data.test)}
                best["layer_weights"] = layer_logits.softmax(0).clone()
        if epoch - best["epoch"] >= probe.patience:
            break
    return best


@pytest.mark.parametrize("probe", [SETTINGS, LINEAR], ids=lambda probe: probe.kind)
@pytest.mark.parametrize("kind", METRIC)
def test_fused_training_is_sequential_training(kind, probe):
    features, data = asked(kind)
    groups = [Group(layer, seed) for layer in (0, 1, 2, "weighted") for seed in (0, 5)]
    for group, answers in zip(groups, train_probes(features, [0, 1, 2], groups, data, probe), strict=True):
        runs = [sequential(features, group, rate, data, probe) for rate in RATES]
        trained = answers.training
        assert trained.grid_epochs.tolist() == [run["epoch"] for run in runs]
        sign = 1 if METRICS[data.metric].higher_is_better else -1
        torch.testing.assert_close(
            sign * trained.grid_scores, torch.tensor([run["score"] for run in runs], dtype=torch.float64), rtol=0, atol=1e-10
        )
        chosen = max(range(len(RATES)), key=lambda number, runs=runs: runs[number]["score"])
        assert (trained.learning_rate, trained.epoch) == (RATES[chosen], runs[chosen]["epoch"])
        torch.testing.assert_close(answers.validation, runs[chosen]["validation"], rtol=0, atol=1e-10)
        torch.testing.assert_close(answers.test, runs[chosen]["test"], rtol=0, atol=1e-10)
        if group.layer == "weighted":
            torch.testing.assert_close(answers.layer_weights, runs[chosen]["layer_weights"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", METRIC)
def test_fused_losses_are_sequential_losses_at_every_step(kind, monkeypatch):
    features, data = asked(kind)
    groups = [Group(layer, seed) for layer in (0, 1, "weighted") for seed in (0, 5)]
    patient = SETTINGS.model_copy(update={"epochs": 3, "patience": 3})  # nobody is dropped, so members keep their places
    seen = []
    loss = type(KINDS[kind]).loss

    def spied(*arguments):
        seen.append(loss(*arguments))
        return seen[-1]

    monkeypatch.setattr(type(KINDS[kind]), "loss", spied)
    train_probes(features, [0, 1, 2], groups, data, patient)
    fused = torch.stack(seen).detach().view(-1, len(RATES), len(groups))
    for number, group in enumerate(groups):
        for rate_number, rate in enumerate(RATES):
            steps = torch.tensor(sequential(features, group, rate, data, patient)["losses"], dtype=torch.float64)
            torch.testing.assert_close(fused[:, rate_number, number], steps, rtol=0, atol=1e-10)


def same(left: Answers, right: Answers) -> bool:
    """Whether the answers of two trained groups, and how they were chosen, agree in every byte."""
    parts = [
        [answers.validation, answers.test, answers.layer_weights, *vars(answers.training).values()] for answers in (left, right)
    ]
    return all(
        torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other for one, other in zip(*parts, strict=True)
    )


@cache
def everyone(kind: str, dtype: torch.dtype):
    """All probes of a question trained together."""
    features, data = asked(kind)
    groups = [Group(layer, seed) for layer in (0, 1, 2, "weighted") for seed in range(5)]
    return (
        features.to(dtype),
        data,
        dict(zip(groups, train_probes(features.to(dtype), [0, 1, 2], groups, data, SETTINGS), strict=True)),
    )


@settings(max_examples=12, deadline=None)
@given(
    groups=st.sets(st.tuples(st.sampled_from([0, 1, 2, "weighted"]), st.integers(0, 4)), min_size=1, max_size=6),
    kind=st.sampled_from(list(METRIC)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_probe_does_not_change_because_its_neighbours_did(groups, kind, dtype):
    features, data, reference = everyone(kind, dtype)
    chosen = [Group(*group) for group in sorted(groups, key=str)]
    for group, trained in zip(chosen, train_probes(features, [0, 1, 2], chosen, data, SETTINGS), strict=True):
        assert same(trained, reference[group])


def test_a_learning_rate_does_not_change_because_others_were_removed():
    features, data = asked("multilabel")
    (grid,) = train_probes(features, [0, 1, 2], [Group(1, 0)], data, SETTINGS)
    for number, rate in enumerate(RATES):
        alone = SETTINGS.model_copy(update={"learning_rates": (rate,)})
        (trained,) = train_probes(features, [0, 1, 2], [Group(1, 0)], data, alone)
        torch.testing.assert_close(trained.training.grid_scores[0], grid.training.grid_scores[number], rtol=0, atol=1e-10)
        assert trained.training.grid_epochs[0] == grid.training.grid_epochs[number]


def test_permuted_test_targets_change_no_choice_and_no_answer():
    features, data = asked("multiclass")
    groups = [Group(layer, 0) for layer in (0, 1, "weighted")]
    first = train_probes(features, [0, 1, 2], groups, data, SETTINGS)
    shuffled = replace(data.test, targets=data.test.targets.flip(0))
    second = train_probes(features, [0, 1, 2], groups, replace(data, test=shuffled), SETTINGS)
    assert not torch.equal(data.test.targets, shuffled.targets)
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


def test_test_features_are_read_once_for_the_chosen_rate_only(monkeypatch):
    features, data = asked("multiclass")
    read = []
    answers = bank._Bank._answers

    def counting(self, weights, group, split):
        read.append((split is data.test, len(group)))
        return answers(self, weights, group, split)

    monkeypatch.setattr(bank._Bank, "_answers", counting)
    groups = [Group(layer, seed) for layer in (0, 1, 2) for seed in (0, 1)]
    train_probes(features, [0, 1, 2], groups, data, SETTINGS)
    assert [members for is_test, members in read if is_test] == [len(groups)]


def test_the_answer_to_a_track_is_the_mean_over_its_rows():
    _, data = asked("multiclass")
    values = torch.randn(2, len(data.test.rows), 3, dtype=torch.float64)
    expected = [values[:, data.test.track == track].mean(1) for track in range(len(data.test.targets))]
    torch.testing.assert_close(data.test.by_track(values), torch.stack(expected, dim=1), rtol=0, atol=1e-14)


def test_a_diverging_member_loses_and_harms_nobody():
    features, data = asked("regression", outputs=1)
    wild = SETTINGS.model_copy(update={"learning_rates": (5e-3, 1e30)})
    tame = SETTINGS.model_copy(update={"learning_rates": (5e-3,)})
    (both,) = train_probes(features.float(), [0, 1, 2], [Group(1, 0)], data, wild)
    (alone,) = train_probes(features.float(), [0, 1, 2], [Group(1, 0)], data, tame)
    assert both.training.learning_rate == 5e-3
    assert torch.equal(both.test, alone.test)


def test_the_bank_learns_what_the_features_tell():
    features, data = asked("multiclass")
    groups = [Group(layer, 0) for layer in (0, 1)]
    longer = SETTINGS.model_copy(update={"epochs": 60, "patience": 20})
    blind, seeing = train_probes(features, [0, 1, 2], groups, data, longer)

    def accuracy(answers: Answers) -> float:
        return float(METRICS["accuracy"](data.test.by_track(answers.test), data.test.targets))

    assert accuracy(seeing) > accuracy(blind) + 0.15
