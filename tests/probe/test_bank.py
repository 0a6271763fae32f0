"""The probe bank against a sequential trainer (`sequential`), for every head and kind, and against its own neighbours."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequential import METRIC, asked, sequential

from marble.kinds import KINDS
from marble.probe.answers import Answers, Group
from marble.probe.protocol import Probe
from marble.probe.scoring.metrics import METRICS
from marble.probe.training import bank
from marble.probe.training.bank import train_probes

RATES = (5e-4, 5e-3, 5e-2)
SETTINGS = Probe(hidden=16, dropout=0.25, learning_rates=RATES, batch_size=16, epochs=12, patience=3)


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
            steps = torch.tensor(sequential(features, group, rate, data, patient).losses, dtype=torch.float64)
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
    answers = bank.Bank._answers

    def counting(self, weights, statistics, group, split):
        read.append((split is data.test, len(group)))
        return answers(self, weights, statistics, group, split)

    monkeypatch.setattr(bank.Bank, "_answers", counting)
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
