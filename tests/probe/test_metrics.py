"""Every metric against scikit-learn, mir_eval or its definition, and what must hold of it whatever the scores."""

import mir_eval
import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marble.probe.scoring import metrics
from marble.probe.scoring.metrics import METRICS, grades, undefined_labels
from marble.tasks.giantsteps import KEYS

KIND = {
    "accuracy": "multiclass",
    "balanced_accuracy": "multiclass",
    "roc_auc": "multilabel",
    "average_precision": "multilabel",
    "r2": "regression",
    "mse": "regression",
    "r2_arousal": "regression",
    "r2_valence": "regression",
    "window_accuracy": "multiclass",
    "key_score": "multiclass",
    "key_score_both_fifths": "multiclass",
    "ordinal_mse": "ordinal",
    "ordinal_balanced_accuracy": "ordinal",
    "kendall_tau": "ordinal",
}
OF_CLIPS = [name for name, metric in METRICS.items() if not metric.decoder]


def problem(kind, seed, *, probes=(3,), tracks=57, width=6, levels=None):
    """Scores, targets and integer counts with gaps; `levels` quantises the scores, so that many are equal."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(*probes, tracks, width))
    if levels:
        scores = np.round(scores * levels) / levels
    if kind in ("multiclass", "ordinal"):
        targets = random.integers(0, width, tracks)
        scores += kind == "ordinal"
    elif kind == "multilabel":
        targets = (random.random((tracks, width)) < 0.3).astype(np.float32)
    else:
        targets = random.normal(loc=40, size=(tracks, width))
        scores += targets
    counts = random.poisson(1.0, tracks).astype(float)
    return torch.from_numpy(scores), torch.from_numpy(targets), torch.from_numpy(counts)


def key_score(reference, estimated, *, both=False):
    """The score of one pair of keys."""
    if both and KEYS[reference][-5:] == KEYS[estimated][-5:] and (reference - estimated) % 12 == 7:
        return 0.5
    return mir_eval.key.weighted_score(KEYS[reference], KEYS[estimated])


def expected_of_grades(name, scores, targets, counts):
    """One probe's value by definition, over single grades or all pairs of tracks."""
    found = (scores > 0.5).cumprod(-1).sum(-1) - 1
    held = [targets == grade for grade in np.unique(targets[counts > 0])]
    if name == "ordinal_mse":
        return np.mean([np.average((found - targets)[own] ** 2, weights=counts[own]) for own in held])
    if name == "ordinal_balanced_accuracy":
        return np.mean([np.average((found == targets)[own], weights=counts[own]) for own in held])
    first, second = (np.sign(values[:, None] - values) for values in (targets, found))
    pairs = counts[:, None] * counts
    return (pairs * first * second).sum() / np.sqrt((pairs * first**2).sum() * (pairs * second**2).sum())


def expected(name, scores, targets, counts):
    """One probe's value by scikit-learn, mir_eval or the definition."""
    scores, targets, counts = scores.double().numpy(), targets.double().numpy(), counts.numpy()
    if KIND[name] == "ordinal":
        return expected_of_grades(name, scores, targets, counts)
    if name.startswith("key_score"):
        pairs = zip(targets.astype(int).tolist(), scores.argmax(-1).tolist(), strict=True)
        return np.average([key_score(*pair, both="both" in name) for pair in pairs], weights=counts)
    if name in ("r2_arousal", "r2_valence"):
        column = int(name == "r2_valence")
        return oracle.r2_score(targets[:, column], scores[:, column], sample_weight=counts)
    if name in ("accuracy", "window_accuracy"):
        return oracle.accuracy_score(targets, scores.argmax(-1), sample_weight=counts)
    if name == "balanced_accuracy":
        counted = counts > 0  # scikit-learn counts a class of zero weight as 0 / 0 and warns
        found = scores.argmax(-1)[counted]
        return oracle.recall_score(
            targets[counted], found, sample_weight=counts[counted], average="macro", labels=np.unique(targets[counted])
        )
    function = {
        "roc_auc": oracle.roc_auc_score,
        "average_precision": oracle.average_precision_score,
        "r2": oracle.r2_score,
        "mse": oracle.mean_squared_error,
    }[name]
    values = []
    for column, target in zip(scores.T, targets.T, strict=True):
        held = target[counts > 0]
        constant = held.min() == held.max()
        if (name in ("roc_auc", "r2") and constant) or (name == "average_precision" and not held.any()):
            continue
        values.append(function(target, column, sample_weight=counts))
    return np.mean(values)


@pytest.mark.parametrize("name", OF_CLIPS)
@pytest.mark.parametrize("levels", [None, 2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn(name, levels, seed):
    scores, targets, counts = problem(KIND[name], seed, levels=levels)
    for given_counts in (None, counts, counts * 0.3):
        values = METRICS[name](scores, targets, given_counts)
        assert values.dtype == torch.float64
        for value, probe in zip(values, scores, strict=True):
            used = torch.ones(len(counts)) if given_counts is None else given_counts
            assert float(value) == pytest.approx(expected(name, probe, targets, used), rel=0, abs=1e-12)


@pytest.mark.parametrize("name", OF_CLIPS)
@pytest.mark.parametrize("resamples", [(), (1,), (5,)])
@pytest.mark.parametrize("probes", [(), (1,), (4, 1, 2)])
def test_every_weighting_meets_every_probe(name, resamples, probes):
    scores, targets, _ = problem(KIND[name], 0, probes=probes, tracks=30, width=3, levels=3)
    counts = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (*resamples, 30)))
    values = METRICS[name](scores, targets, counts)
    assert values.shape == (*resamples, *probes)
    for resample in np.ndindex(*resamples):
        for probe in np.ndindex(*probes):
            assert values[(*resample, *probe)] == METRICS[name](scores[probe], targets, counts[resample])


def test_a_class_without_tracks_is_left_out():
    scores, targets = torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2])
    assert METRICS["balanced_accuracy"](scores, targets, torch.tensor([1, 0, 1, 1])) == 0.75
    assert METRICS["balanced_accuracy"](torch.eye(5)[[0, 1, 1, 2]], targets) == pytest.approx(2.5 / 3)


@pytest.mark.parametrize("name", OF_CLIPS)
@pytest.mark.parametrize("width", [1, 2])
def test_a_value_depends_on_no_neighbour(name, width):
    width = max(width, 2) if name == "r2_valence" else width
    scores, targets, counts = problem(KIND[name], 3, probes=(5,), tracks=40_000, width=width)
    together = METRICS[name](scores, targets)
    weighted = METRICS[name](scores, targets, torch.stack([counts] * 3))
    assert together.isnan().all() == ((name, width) == ("kendall_tau", 1))
    for probe in range(5):
        alone = METRICS[name](scores[probe], targets), METRICS[name](scores[probe], targets, counts)
        assert torch.equal(torch.stack(alone).nan_to_num(9), torch.stack([together[probe], weighted[1, probe]]).nan_to_num(9))


@pytest.mark.parametrize("name", OF_CLIPS)
def test_chunks_do_not_show(name, monkeypatch):
    scores, targets, _ = problem(KIND[name], 5, probes=(7,), levels=2)
    counts = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (11, 57)))
    whole = METRICS[name](scores, targets, counts), METRICS[name](scores, targets)
    for size in (1, 57 * 6 * 2, 57 * 6 * 20):
        monkeypatch.setattr(metrics, "_CHUNK", size)
        assert torch.equal(METRICS[name](scores, targets, counts), whole[0])
        assert torch.equal(METRICS[name](scores, targets), whole[1])


@st.composite
def problems(draw, kinds):
    name = draw(st.sampled_from([name for name in OF_CLIPS if KIND[name] in kinds]))
    levels = draw(st.sampled_from([None, 1, 3]))
    tracks, width = draw(st.integers(1, 12)), draw(st.integers(2 if name == "r2_valence" else 1, 4))
    seed = draw(st.integers(0, 10_000))
    return name, *problem(KIND[name], seed, probes=(2,), tracks=tracks, width=width, levels=levels)


def same(left, right):
    return torch.allclose(left, right, rtol=0, atol=1e-12, equal_nan=True)


@given(problems(tuple(sorted(set(KIND.values())))))
@settings(max_examples=150, deadline=None)
def test_a_weight_is_a_repetition(drawn):
    name, scores, targets, counts = drawn
    metric, times = METRICS[name], counts.long()
    if times.sum() == 0:
        assert metric(scores, targets, counts).isnan().all()
        return
    repeated = metric(scores.repeat_interleave(times, 1), targets.repeat_interleave(times, 0))
    assert same(metric(scores, targets, counts), repeated)


@given(problems(tuple(sorted(set(KIND.values())))), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_tracks_is_nothing(drawn, random):
    name, scores, targets, counts = drawn
    order = torch.tensor(random.sample(range(len(counts)), len(counts)))
    assert same(METRICS[name](scores, targets, counts), METRICS[name](scores[:, order], targets[order], counts[order]))


@given(problems(("multilabel",)))
@settings(max_examples=100, deadline=None)
def test_a_ranking_knows_no_scale(drawn):
    name, scores, targets, counts = drawn
    assert same(METRICS[name](scores, targets, counts), METRICS[name](scores.atan() * 3 - 1, targets, counts))


@given(problems(("multilabel",)))
@settings(max_examples=50, deadline=None)
def test_turning_scores_round_turns_the_roc_curve_round(drawn):
    _, scores, targets, counts = drawn
    auc = METRICS["roc_auc"]
    assert same(auc(scores, targets, counts), 1 - auc(-scores, targets, counts))


def test_undefined_labels_are_left_out_and_counted():
    scores = torch.tensor([[[3.0, 1.0, 0.0], [1.0, 2.0, 5.0], [2.0, 3.0, 1.0]]])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert undefined_labels(targets) == 2
    assert METRICS["roc_auc"](scores, targets).tolist() == [1.0]
    assert METRICS["average_precision"](scores, targets).tolist() == [1.0]  # labels 0 and 2; label 1 has no positive
    assert METRICS["roc_auc"](scores[..., 1:], targets[:, 1:]).isnan().all()


def test_a_constant_dimension_is_left_out_even_when_its_mean_is_not_exact():
    targets = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0], [7.0, 8.0]], dtype=torch.float64)
    scores = targets + torch.tensor([[0.5, 0.1], [0.2, -0.1], [0.1, 0.2], [0.0, 0.0]])
    counts = torch.tensor([1.0, 1.0, 1.0, 0.0])
    alone = METRICS["r2"](scores[:, 1:], targets[:, 1:], counts)
    assert METRICS["r2"](scores, targets, counts) == alone
    assert METRICS["r2"](scores[:, :1], targets[:, :1], counts).isnan()


def test_equal_scores_choose_the_lowest_class():
    assert METRICS["accuracy"](torch.zeros(2, 3), torch.tensor([0, 1])) == 0.5


@pytest.mark.parametrize("name", OF_CLIPS)
def test_a_nan_score_spoils_its_own_probe_only(name):
    scores, targets, counts = problem(KIND[name], 2)
    clean = METRICS[name](scores, targets, counts)
    scores[1, 4, 2] = torch.nan
    spoilt = METRICS[name](scores, targets, counts)
    assert spoilt[1].isnan()
    assert torch.equal(spoilt[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize(("name", "worst"), [("mse", torch.inf), ("r2", -torch.inf)])
def test_an_infinite_answer_is_infinitely_wrong_unless_it_weighs_nothing(name, worst):
    scores, targets = (
        torch.tensor([[0.0, 1.0], [1.0, 0.0], [torch.inf, 2.0]]),
        torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]),
    )
    assert METRICS[name](scores, targets) == worst
    without = METRICS[name](scores[:2], targets[:2])
    assert METRICS[name](scores, targets, torch.tensor([1.0, 1.0, 0.0])) == pytest.approx(float(without))


def test_directions():
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"mse", "ordinal_mse"}
    assert {name for name, metric in METRICS.items() if metric.of_windows} == {"window_accuracy"}
    assert all(metric.name == name and metric.description for name, metric in METRICS.items())


def test_all_pairs_of_keys_score_as_in_mir_eval():
    for reference in range(24):
        targets = torch.tensor([reference])
        for estimated in range(24):
            scores = torch.nn.functional.one_hot(torch.tensor([estimated]), 24).float()
            assert float(METRICS["key_score"](scores, targets)) == key_score(reference, estimated)
            assert float(METRICS["key_score_both_fifths"](scores, targets)) == key_score(reference, estimated, both=True)


@pytest.mark.parametrize(
    ("estimated", "one", "both"),
    [
        ("C major", 1, 1),
        ("G major", 0.5, 0.5),
        ("F major", 0, 0.5),
        ("A minor", 0.3, 0.3),
        ("C minor", 0.2, 0.2),
        ("D major", 0, 0),
    ],
)
def test_only_the_fifth_above_the_reference_counts(estimated, one, both):
    scores = torch.zeros(1, 24)
    scores[0, KEYS.index(estimated)] = 1
    assert METRICS["key_score"](scores, torch.tensor([KEYS.index("C major")])) == one
    assert METRICS["key_score_both_fifths"](scores, torch.tensor([KEYS.index("C major")])) == both


def test_grades_end_at_the_first_output_that_is_not_above_a_half():
    outputs = torch.tensor([[0.4, 0.9, 0.9], [0.6, 0.5, 0.9], [0.9, 0.9, 0.1], [2.0, 0.7, 0.6]])
    assert grades(outputs).tolist() == [-1, 0, 1, 2]


def test_a_constant_has_no_rank_correlation():
    outputs = torch.ones(4, 3)
    assert METRICS["kendall_tau"](outputs, torch.tensor([0, 1, 2, 2])).isnan()
    assert METRICS["ordinal_mse"](outputs, torch.tensor([0, 1, 2, 2])) == 5 / 3


def test_valence_is_the_second_dimension():
    targets = torch.tensor([[1.0, 2.0], [2.0, 1.0], [4.0, 5.0]])
    scores = targets * torch.tensor([1.0, 0.0])
    assert METRICS["r2_arousal"](scores, targets) == 1
    assert METRICS["r2_valence"](scores, targets) < 0


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"accuracy got scores \(5, 2\), targets \(4,\)"):
        METRICS["accuracy"](torch.zeros(5, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="counts"):
        METRICS["mse"](torch.zeros(5, 2), torch.zeros(5, 2), torch.ones(4))
