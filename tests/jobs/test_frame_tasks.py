"""A task of frames from audio files to a result, its predictions, its plan and its figure."""

import re
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from marble.errors import MarbleError
from marble.features.frames import FrameReduction
from marble.frames import Grid, Spans
from marble.jobs import plan_frames
from marble.jobs.job import prepare
from marble.jobs.plan import make_plan
from marble.jobs.run import run
from marble.probe.scoring.frame_metrics import FRAME_METRICS
from marble.probe.scoring.intervals import estimate, interval
from marble.probe.scoring.metrics import METRICS
from marble.results.figures.track import track_figure, track_rows
from marble.results.store import read

sys.path.insert(0, str(Path(__file__).parents[1]))
from tone_tracks import TONES, encode, tone_task

QUICK = ["probe.hidden=16", "probe.epochs=12", "probe.chunk=3", "probe.learning_rates=1e-3,1e-2"]


def quick(task, root, **options):
    options = {
        "results": root / "results",
        "cache_dir": root / "cache",
        "settings": QUICK,
        "workers": 1,
        "layers": "0,1",
    } | options
    return run("fbank-chroma", task, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def task(root):
    return tone_task(root / "audio")


@pytest.fixture
def result(task, root):
    """Computed once, then found."""
    return quick(task, root)


def test_tones_are_found(result, task, root):
    assert [len(layer.runs) for layer in result.layers] == [3, 3]
    fbank, chroma = (layer.test["frame_accuracy"].mean for layer in result.layers)
    assert fbank > 0.9 > chroma  # the tones are octaves of each other
    assert result.selected.layer == 0
    low, high = result.selected.test["frame_accuracy"].ci95
    assert 0 < low < fbank <= high <= 1
    frames = result.task.frames
    assert (frames.rate, frames.first, frames.statistics) == (10.0, 0.05, {"frame_accuracy": (0, 2)})
    truth = [task.frames.encode(clip.target, task.labels, Grid(10.0, 0.05), 200) for clip in task.clips(root)]
    scored = {split: sum(int((t >= 0).sum()) for t, c in zip(truth, task.clips(root), strict=True) if c.split == split)
              for split in ("train", "valid", "test")}  # fmt: skip
    assert frames.scored == scored


def test_predictions_are_intervals_and_statistics_that_give_the_score(result, task, root):
    rows = result.predictions(root / "results")
    assert len(rows) == 3 * 4  # seeds, validation and test tracks, of the selected layer
    clips = {clip.id: clip for clip in task.clips(root)}
    metric = FRAME_METRICS["frame_accuracy"]
    for seed, run_of_seed in enumerate(result.layers[0].runs):
        sums = np.zeros(2)
        for _, row in rows[(rows.seed == seed) & (rows.split == "test")].iterrows():
            answer = Spans(tuple((span["start"], span["stop"], span["label"]) for span in row.prediction))
            target = tuple((span["start"], span["stop"], span["label"]) for span in row.target)
            assert target == clips[row.track].target.rows
            decoded = answer.classes(task.labels, Grid(10.0, 0.05), len(row.probability))
            assert (decoded >= 0).all()
            statistics = metric.statistics(decoded, Grid(10.0, 0.05), clips[row.track].target, task.labels, 0.0)
            assert row.statistics.tolist() == statistics.tolist()
            assert ((row.probability >= 1 / 3 - 0.01) & (row.probability <= 1)).all()
            sums += statistics
        assert run_of_seed.test["frame_accuracy"] == pytest.approx(sums[0] / sums[1], abs=1e-12)


def test_a_small_budget_or_other_layers_beside_change_no_byte(result, task, root, tmp_path):
    small = quick(task, tmp_path, memory=0.02, layers="0")
    assert small.layers[0].runs == result.layers[0].runs
    with pytest.raises(MarbleError, match=r"need .* GB, and 0.00 GB are allowed: raise --memory"):
        quick(task, tmp_path / "none", memory=0.00001)


def test_finer_labels_read_the_upstreams_own_frames(root):
    task = tone_task(root / "audio", rate=None)
    native = prepare("fbank-chroma", task, cache_dir=root / "cache")
    finer = prepare("fbank-chroma", replace(task, frames=replace(task.frames, rate=200.0)), cache_dir=root / "cache")
    assert native.reduction == FrameReduction(Grid(100.0), Grid(100.0)) == finer.reduction
    assert native.space.folder == finer.space.folder
    assert native.identity != finer.identity
    capped = prepare("fbank-chroma", replace(task, frames=replace(task.frames, most=25.0)), cache_dir=root / "cache")
    assert capped.reduction.stored == Grid(25.0, 0.05)


def test_defaults_of_frames(root, task):
    job = prepare("fbank-chroma", task, cache_dir=root / "cache")
    probe = job.protocol.probe
    assert (probe.learning_rates, probe.batch_size, job.seeds) == ((1e-4, 1e-3, 5e-3), 16, [0, 1, 2])
    assert (job.windows.seconds, job.windows.hop) == (30.0, 24.0)
    changed = prepare("fbank-chroma", task, cache_dir=root / "cache", settings=["probe.batch_size=8"], seeds=2)
    assert (changed.protocol.probe.batch_size, changed.seeds) == (8, [0, 1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": "weighted"}, "leave out 'weighted'"),
        ({"settings": ["probe.weight=track"]}, "probe.weight=track is for tasks of clips"),
        ({"settings": ["pooling=max"]}, "pooling=max is for tasks of clips"),
    ],
)
def test_what_frames_do_not_have_is_refused(options, sentence, task, root):
    with pytest.raises(MarbleError, match=sentence):
        prepare("fbank-chroma", task, cache_dir=root / "cache", **options)


def test_excerpts_are_no_tracks(task, root):
    clips = [replace(clip, stop=2.0) for clip in task.clips(root)]
    with pytest.raises(MarbleError, match="is an excerpt: a task of frames has whole tracks"):
        prepare("fbank-chroma", replace(task, clips=lambda _: clips), cache_dir=root / "cache")
    with pytest.raises(MarbleError, match="a kind of frames and `frames` go together"):
        prepare("fbank-chroma", replace(task, frames=None), cache_dir=root / "cache")


def test_a_plan_states_gigabytes_and_passes(task, root, tmp_path, monkeypatch):
    job = prepare("fbank-chroma", task, cache_dir=tmp_path, settings=QUICK)
    plan = make_plan(job)
    seconds = plan["audio_hours"] * 3600
    assert plan["feature_gigabytes"] * 1e9 == pytest.approx(2 * (80 + 12 + 92) * seconds * 10, rel=0.02)
    assert (plan["passes"], plan["layers_of_passes"], plan["probes"]) == (1, "all", 3 * 3 * 2)
    free = namedtuple("Usage", "free")(int(2.4 * 92 * seconds * 10))
    monkeypatch.setattr(plan_frames.shutil, "disk_usage", lambda folder: free)
    rows = round(seconds * 10)
    assert plan_frames.groups_of_layers(job, rows) == [[0, 1], [2]]
    assert plan_frames.share_of_passes(job, [[0, 1], [2]]) == pytest.approx(5 / 3)
    assert plan_frames.groups_of_layers(job, 10 * rows) == [[0], [1], [2]]


def test_the_figure_of_a_track(result, task, root):
    path = root / "results" / result.path
    rows = track_rows(read(path), path, "track6")
    figure = track_figure(result, rows)
    top, below = figure.axes
    assert [label.get_text() for label in top.get_yticklabels()] == ["seed 2", "seed 1", "seed 0", "truth"]
    assert len(below.lines) == 3
    texts = {text.get_text() for text in top.texts}
    assert texts <= set(TONES)
    with pytest.raises(MarbleError, match="has no answer to the track 'track0'"):
        track_rows(result, path, "track0")


def test_frames_beyond_the_labels_change_no_score(task, root, tmp_path, result):
    """The same targets with all time before the first and after the last label declared to be of no label."""

    def silent(target, labels, grid, frames):
        classes = encode(target, labels, grid, frames)
        assert (classes[: grid.frame(target.rows[0][0])] == -1).all()
        return classes

    other = quick(replace(task, frames=replace(task.frames, encode=silent)), tmp_path, layers="0")
    assert other.layers[0].runs == result.layers[0].runs


def test_a_metric_of_frames_is_one_of_resampled_tracks():
    metric = METRICS["frame_accuracy"]
    statistics = torch.tensor([[[3.0, 4.0], [1.0, 6.0], [0.0, 0.0]]])
    counts = torch.tensor([[1, 1, 1], [2, 0, 5], [0, 0, 1]])
    values = metric(statistics, torch.zeros(3, dtype=torch.int64), counts)
    assert values[:2, 0].tolist() == [0.4, 0.75]
    assert values[2].isnan().all()


def test_an_interval_of_frames_counts_tracks():
    """Forty tracks of equal length with eight and a half right frames of ten on average; more frames a track change nothing."""
    random = np.random.default_rng(0)
    hits = torch.from_numpy(random.integers(7, 11, size=(3, 40)).astype(float))
    metric, none = METRICS["frame_accuracy"], torch.zeros(40, dtype=torch.int64)
    few, many = (
        interval(estimate(torch.stack([factor * hits, torch.full_like(hits, factor * 10)], dim=2), none, metric), 0.85)
        for factor in (1.0, 100.0)
    )
    assert few == pytest.approx(many, abs=1e-12)
    assert few[0] < 0.85 < few[1]
    assert few[1] - few[0] < 0.1


def test_an_annotation_that_outlasts_its_audio_is_a_bad_clip(task, root):
    """Else what cannot be heard would count as answered."""

    def longer(seconds):
        clips = list(task.clips(None))
        end = clips[0].target.stop
        tail = (end, end + seconds, "low")
        clips[0] = replace(clips[0], target=Spans((*clips[0].target.rows, tail)))
        return replace(task, clips=lambda _: clips)

    assert quick(longer(1.0), root).bad_clips == []
    result = quick(longer(60.0), root, skip_bad=True)
    assert [clip.id for clip in result.bad_clips] == ["track0"]
    assert re.fullmatch(r"has an annotation of 6\d\.\d s, and its audio ends after \d\.\d s", result.bad_clips[0].reason)
