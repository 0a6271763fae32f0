"""Every setting of a probe: the bank trains what the sequential trainer trains, to 1e-10 in float64."""

import pytest
import torch
from sequential import METRIC, Trainer, asked, range_test, sequential

from marble.probe.answers import Group
from marble.probe.inputs import ProbeData
from marble.probe.scoring.metrics import METRICS
from marble.probe.settings import Probe
from marble.probe.training.bank import train_probes

RATES = (5e-3, 5e-2)
SETTINGS = Probe(hidden=16, dropout=0.25, learning_rates=RATES, batch_size=16, epochs=12, patience=3)
GROUPS = [Group(1, 0), Group(1, 5), Group("weighted", 5)]


def changed(probe: Probe = SETTINGS, **values: object) -> Probe:
    """A probe with other settings."""
    return Probe.model_validate(probe.model_dump() | values)


def agree(features: torch.Tensor, data: ProbeData, probe: Probe, groups: list[Group]) -> None:
    """Check that every number of the bank is that of the sequential trainer."""
    sign = 1 if METRICS[data.metric].higher_is_better else -1
    layers = list(range(len(features)))
    for group, answers in zip(groups, train_probes(features, layers, groups, data, probe), strict=True):
        runs = [sequential(features, group, rate, data, probe) for rate in probe.learning_rates]
        trained = answers.training
        assert trained is not None
        assert trained.grid_epochs.tolist() == [run.epoch for run in runs]
        scores = torch.tensor([run.score for run in runs], dtype=torch.float64)
        torch.testing.assert_close(sign * trained.grid_scores, scores, rtol=0, atol=1e-10)
        best = max(runs, key=lambda run: run.score)
        assert (trained.learning_rate, trained.epoch) == (probe.learning_rates[runs.index(best)], best.epoch)
        if data.kind == "multiclass" and probe.track_answer != "logits":
            for name, split in (("test", data.test), ("validation", data.valid)):
                expected = Trainer.by_track(getattr(best, name), split, best.combination)
                torch.testing.assert_close(split.by_track(getattr(answers, name)), expected, rtol=0, atol=1e-10)
        else:
            torch.testing.assert_close(answers.validation, best.validation, rtol=0, atol=1e-10)
            torch.testing.assert_close(answers.test, best.test, rtol=0, atol=1e-10)
        if group.layer == "weighted":
            torch.testing.assert_close(answers.layer_weights.double(), best.layer_weights.double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", METRIC)
@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_the_default_settings(kind, head):
    features, data = asked(kind)
    agree(features, data, changed(kind=head), [Group(layer, seed) for layer in (0, 1, "weighted") for seed in (0, 5)])


OPTIONS = {
    "two hidden layers": {"hidden_layers": 2},
    "no activation": {"activation": None},
    # A bias before a norm has no gradient but noise, which Adam scales up to its rate: a small one keeps it below 1e-10.
    "batch norm": {"norm": "batch", "hidden_layers": 2, "initial": "xavier-uniform", "learning_rates": (1e-4, 1e-3)},
    "normal weights": {"initial": "xavier-normal"},
    "input dropout": {"input_dropout": 0.3},
    "input dropout alone": {"input_dropout": 0.3, "kind": "linear"},
    "positive layer weights": {"layer_weights": "positive"},
    "free layer weights": {"layer_weights": "free", "weight_decay": 0.01},
    "random softmax without layer 0": {"layer_start": "random", "first_layer": 1},
    "random free": {"layer_weights": "free", "layer_start": "random"},
    "random positive": {"layer_weights": "positive", "layer_start": "random", "first_layer": 1},
    "matrices": {"layer_weights": "matrix"},
    "matrices without layer 0": {"layer_weights": "matrix", "first_layer": 1, "kind": "linear"},
    "tracks weigh the same": {"weight": "track"},
    "one window a track": {"train_windows": "one"},
    "rows drawn": {"order": "drawn"},
    "rows in order": {"order": "fixed"},
    "weight decay": {"weight_decay": 0.05},
    "AdamW": {"optimiser": "adamw", "weight_decay": 0.05},
    "clipped": {"clip": 0.05},
    "plateau": {"schedule": "plateau", "factor": 0.3, "plateau_patience": 1, "patience": 8},
    "cosine": {"schedule": "cosine", "steps": 40, "warm_up": 7, "final_rate": 1e-5, "epochs": None, "optimiser": "adamw"},
    "steps end within an epoch": {"steps": 20, "patience": None},
    "steps end with an epoch": {"steps": 18, "patience": None},
    "steps end before a validation": {"steps": 4},
    "validation by steps": {"validate_every": 4, "validate_unit": "steps", "patience": 5},
    "validation each second epoch": {"validate_every": 2, "patience": 2},
    "an untrained candidate": {"validate_untrained": True, "learning_rates": (1e-12, 1e-3), "validate_every": 3},
    "float16": {"arithmetic": "float16", "hidden_layers": 2},
    "float16 without a hidden layer": {"arithmetic": "float16", "kind": "linear"},
    "bfloat16 with matrices": {"arithmetic": "bfloat16", "layer_weights": "matrix", "input_dropout": 0.3},
    "never early": {"patience": None},
    "the last epoch": {"selection": "last"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_alone(option):
    kind = "regression" if option in ("plateau", "clipped", "tracks weigh the same") else "multiclass"
    agree(*asked(kind), changed(**OPTIONS[option]), GROUPS)


@pytest.mark.parametrize("kind", ["ordinal", "multilabel"])
def test_a_plateau_of_an_error_and_of_an_area(kind):
    agree(*asked(kind), changed(**OPTIONS["plateau"]), GROUPS)


@pytest.mark.parametrize("kind", METRIC)
def test_validation_of_windows(kind):
    agree(*asked(kind), changed(validate_by="window"), GROUPS)


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_validation_of_batches_of_windows(kind):
    agree(*asked(kind), changed(validate_by="window", validation_batch=8), GROUPS)


@pytest.mark.parametrize("answer", ["probabilities", "max", "vote", "best"])
def test_answers_to_tracks(answer):
    agree(*asked("multiclass"), changed(track_answer=answer), GROUPS)
    if answer != "best":
        agree(*asked("multiclass"), changed(track_answer=answer, validate_by="window"), GROUPS[:1])


def test_binary_loss():
    agree(*asked("multiclass"), changed(loss="binary", weight="track"), GROUPS)


@pytest.mark.parametrize("weight", ["window", "track"])
@pytest.mark.parametrize("order", ["shuffled", "drawn"])
def test_batches_of_tracks(weight, order):
    probe = changed(batch_of="tracks", batch_size=9, weight=weight, order=order)
    agree(*asked("multilabel"), probe, [Group(layer, 5) for layer in (1, "weighted")])


def test_batches_of_tracks_are_refused_for_several_seeds():
    features, data = asked("multiclass")
    with pytest.raises(ValueError, match="one seed at a time"):
        train_probes(features, [0, 1, 2], GROUPS, data, changed(batch_of="tracks"))


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_rate_that_a_range_test_finds(kind):
    features, data = asked(kind)
    search = changed(learning_rates=(1e-3,), find_rate=True)
    groups = [group for group in GROUPS if group.layer != "weighted"]
    for group, answers in zip(groups, train_probes(features, [0, 1, 2], groups, data, search), strict=True):
        rate = range_test(features, group, data, search)
        assert answers.training is not None
        assert answers.training.learning_rate == pytest.approx(rate, rel=1e-12)
        torch.testing.assert_close(answers.test, sequential(features, group, rate, data, search).test, rtol=0, atol=1e-10)


def test_everything_of_a_published_protocol_together():
    omar = changed(
        optimiser="adamw", weight_decay=0.01, schedule="cosine", steps=50, warm_up=10, final_rate=1e-7, epochs=None,
        patience=None, input_dropout=0.2, dropout=0.2, train_windows="one", loss="binary",
    )  # fmt: skip
    agree(*asked("multiclass"), omar, GROUPS)
    v2 = changed(
        layer_weights="matrix", schedule="plateau", factor=0.1, plateau_patience=2, selection="last", validate_by="window"
    )
    agree(*asked("multiclass"), v2, GROUPS)
