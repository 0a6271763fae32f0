"""The cautions of a result: each rule where it speaks and where it is silent."""

import numpy as np
import pytest
import torch

import marble
from marble.jobs.cautions import _epoch_at_limit, _rate_at_edge, share_of_turns
from marble.jobs.run import encode, prepare
from marble.jobs.summary import build_result
from marble.probe.answers import Answers
from marble.probe.inputs import Inputs
from marble.probe.scoring.metrics import METRICS
from marble.results.schema import Cost, GridPoint, LayerResult, Run
from marble.system.progress import Reporter
from marble.upstream import Layer, Upstream, UpstreamInfo


def layer(*grids, epoch=7, number=3):
    """A layer with a run for each grid, learning rate -> validation score; the first of the best is chosen."""
    runs = []
    for seed, grid in enumerate(grids):
        points = [GridPoint(learning_rate=rate, epoch=epoch, validation=score) for rate, score in grid.items()]
        rate = max(grid, key=lambda rate: -1 if grid[rate] is None else grid[rate])
        runs.append(Run(seed=seed, learning_rate=rate, epoch=epoch, validation={}, test={}, grid=points))
    return LayerResult(layer=number, name="x", runs=runs, validation={}, test={})


HIGHEST = {1e-4: 0.1, 1e-3: 0.2, 1e-2: 0.3}
LOWEST = {1e-4: 0.3, 1e-3: 0.2, 1e-2: 0.1}
INSIDE = {1e-4: 0.1, 1e-3: 0.3, 1e-2: 0.2}


def test_a_rate_at_the_edge_of_the_grid_is_counted_over_the_seeds():
    assert _rate_at_edge(layer(HIGHEST, INSIDE, LOWEST)) == (
        "The learning rate is at the edge of the grid: for 2 of 3 seeds of layer 3 it is 0.0001 or 0.01, and one beyond may be "
        "better (--set probe.learning_rates)."
    )
    assert "1 of 1 seeds of the weighted sum it is 0.01," in _rate_at_edge(layer(HIGHEST, number="weighted"))
    assert "2 of 2 seeds" in _rate_at_edge(layer({1e-4: -0.2, 1e-3: -0.3}, {1e-3: 0.3, 1e-4: 0.2}))


@pytest.mark.parametrize(
    "grid",
    [
        INSIDE,
        {1e-3: 0.3},  # nothing was searched
        {1e-4: 0.3, 1e-3: 0.3, 1e-2: 0.1},  # as good inside
        {1e-4: 0.3, 1e-3: 0.1, 1e-2: 0.3},  # as good at both ends
        {1e-4: None, 1e-3: None},  # never a score
    ],
)
def test_a_rate_that_tells_nothing_about_a_wider_grid_is_no_caution(grid):
    assert _rate_at_edge(layer(grid)) is None


def test_answers_that_nothing_was_trained_for_give_no_caution():
    untrained = LayerResult(layer=0, name="x", runs=[Run(seed=0, validation={}, test={})], validation={}, test={})
    assert _rate_at_edge(untrained) is None
    assert _epoch_at_limit(untrained, 100) is None


def test_an_epoch_at_its_limit():
    late, early = layer(INSIDE, INSIDE, epoch=100), layer(INSIDE, epoch=99)
    assert _epoch_at_limit(late, 100).startswith("The epoch is at its limit: for 2 of 2 seeds of layer 3 it is 100, the last,")
    assert _epoch_at_limit(early, 100) is None


def answers(right: np.ndarray) -> torch.Tensor:
    """Answers to tracks of class 0 or 1 that are right where `right[S, N]` says so."""
    classes = np.arange(right.shape[1]) % 2
    return torch.eye(2)[torch.from_numpy(np.where(right, classes, 1 - classes))]


def test_the_share_of_turns_is_that_of_resamples_drawn_one_by_one():
    random = np.random.default_rng(3)
    first, second = random.random((2, 3, 60)) < np.array([0.8, 0.7])[:, None, None]
    targets = torch.arange(60) % 2
    share = share_of_turns(answers(first), answers(second), targets, METRICS["accuracy"])
    gain, again = first.astype(float) - second, np.random.default_rng(4)
    drawn = [gain[again.integers(3, size=3)][:, again.integers(60, size=60)].mean() <= 1e-12 for _ in range(4000)]
    assert share == pytest.approx(np.mean(drawn), abs=0.03)
    assert share == share_of_turns(answers(first), answers(second), targets, METRICS["accuracy"])


def test_layers_that_answer_alike_turn_always_and_a_clear_lead_never():
    right, wrong = np.ones((2, 40), bool), np.zeros((2, 40), bool)
    targets = torch.arange(40) % 2
    assert share_of_turns(answers(right), answers(right), targets, METRICS["accuracy"]) == 1
    assert share_of_turns(answers(right), answers(wrong), targets, METRICS["accuracy"]) == 0
    values = torch.linspace(-1, 1, 40)[None, :, None]
    near, far = values + 0.01, values + 1
    assert share_of_turns(near, far, values[0], METRICS["mse"]) == share_of_turns(near, far, values[0], METRICS["r2"]) == 0
    assert share_of_turns(far, near, values[0], METRICS["mse"]) == 1


def test_one_hard_track_in_common_is_no_noise():
    """Paired: both layers miss the same tracks, one of them eight more of sixty."""
    first, second = np.ones((2, 1, 60), bool)
    first[:, :25] = second[:, :33] = False
    targets = torch.arange(60) % 2
    assert share_of_turns(answers(first), answers(second), targets, METRICS["accuracy"]) < 0.01


def test_a_metric_that_never_exists_gives_no_share():
    ones = torch.ones(1, 5, 2)
    assert np.isnan(share_of_turns(ones, ones, torch.ones(5, 2), METRICS["roc_auc"]))


def test_layers_whose_probes_diverged_for_a_seed_are_not_compared(tones, tmp_path):
    job = prepare(Copies(), f"folder:{tones}", seeds=2, cache_dir=tmp_path)
    encode(job, 1, Reporter())
    inputs = Inputs(job.task, job.data.clips, job.data.keys, job.space, job.widths, job.upstream.device)
    rows = [len(split.rows) for split in (inputs.data.valid, inputs.data.test)]
    answers = {group: Answers(*(torch.ones(count, 3) for count in rows)) for group in job.groups}
    answers[job.groups[0]] = Answers(*(torch.full((count, 3), torch.nan) for count in rows))
    result = build_result(job, inputs, answers, Cost(**dict.fromkeys(Cost.model_fields, 0)))
    assert result.selected.layer == 1
    assert result.layers[0].validation["accuracy"].mean is None
    assert result.doubts == []


class Copies(Upstream):
    """Two layers that are one."""

    info = UpstreamInfo(name="copies", sample_rate=8000, frame_rate=50.0, layers=(Layer("a", 80), Layer("b", 80)))

    def layers(self, waveform):
        frames = waveform.unfold(1, 160, 160)[..., :80].abs()
        yield frames
        yield frames


def test_a_result_says_what_its_numbers_leave_open(tones, tmp_path):
    options = {"seeds": 2, "settings": ["probe.epochs=1", "probe.hidden=16"], "results": tmp_path}
    result = marble.run(Copies(), f"folder:{tones}", **options)
    assert result.selected.layer == 0
    assert "for 2 of 2 seeds of layer 0 it is 1, the last" in " ".join(result.doubts)
    (caution,) = [text for text in result.doubts if text.startswith("The layer is within noise of another: on validation")]
    assert "and layer 1 " in caution
    assert "which is as good or better in 100% of 1000 resamples of tracks and seeds." in caution
    alone = marble.run(Copies(), f"folder:{tones}", layers="0", **options)
    assert "The layer is within noise of another" not in alone.short_cautions
    assert "The epoch is at its limit" in alone.short_cautions
