"""From features to what a probe reads."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import marble
from marble.errors import MarbleError
from marble.probe.answers import Group
from marble.probe.inputs import Examples, Inputs, ProbeData
from marble.probe.protocol import Probe
from marble.probe.training.bank import bytes_per_member
from marble.probe.training.train import _Point, standardise
from marble.results.schema import LayerResult
from marble.system.files import home
from marble.task import Clip, Task


def test_standardise_uses_the_given_rows_and_leaves_constants_alone():
    generator = torch.Generator().manual_seed(0)
    features = 1e3 + torch.randn(2, 40, 5, generator=generator)
    features[1, :, 2] = 7.25
    rows = torch.arange(30)
    expected = (features - features[:, rows].mean(1, keepdim=True)) / features[:, rows].std(1, correction=0, keepdim=True)
    result = standardise(features.clone(), rows)
    torch.testing.assert_close(result[0], expected[0], rtol=1e-3, atol=1e-3)
    assert torch.equal(result[1, :, 2], torch.zeros(40))
    torch.testing.assert_close(result[0, :30].std(0, correction=0), torch.ones(5), rtol=1e-4, atol=0)


def test_a_stack_that_memory_does_not_hold_is_told_in_a_sentence():
    inputs: Any = SimpleNamespace(layers=[0, 1], features=lambda layers: torch.empty(2**60))
    with pytest.raises(
        MarbleError, match=r"^Training the probes of 2 layers needs more memory than there is: lower probe\.hidden"
    ):
        _Point(Probe(), Path(), inputs, [])._train([Group(0, 0), Group(1, 0)], lambda epochs: None)


def test_standardise_can_let_tracks_weigh_the_same():
    generator = torch.Generator().manual_seed(1)
    features = 5 + torch.randn(1, 12, 3, generator=generator)
    track = torch.tensor([0] * 9 + [1])
    weights = Examples(torch.arange(10), track, torch.zeros(2)).weights()
    assert float(weights.sum()) == pytest.approx(1)
    result = standardise(features.clone(), torch.arange(10), weights)
    of_tracks = torch.stack([result[0, :9].mean(0), result[0, 9]])
    torch.testing.assert_close(of_tracks.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    squares = torch.stack([result[0, :9].square().mean(0), result[0, 9].square()])
    torch.testing.assert_close(squares.mean(0), torch.ones(3), rtol=1e-5, atol=0)


def clips_of(windows: dict[tuple[str, str], list[float]]) -> tuple[list[Clip], Any]:
    """One clip of one dimension for each (split, track), and a space that holds its windows."""
    clips = [Clip(f"{split} {track}", Path(track), split=split, target="a", group=track) for split, track in windows]
    rows = np.array([value for values in windows.values() for value in values], dtype=np.float32)[:, None]
    return clips, SimpleNamespace(read=lambda keys, layer: (rows, np.array([len(values) for values in windows.values()])))


WINDOWS = {
    ("train", "x"): [1.0, 2.0, 6.0],
    ("valid", "y"): [4.0],
    ("train", "z"): [8.0, 2.0],
    ("test", "x"): [7.0, 9.0],
    ("valid", "w"): [3.0, 3.0, 9.0],
}


def inputs(**settings: Any) -> Inputs:
    clips, space = clips_of(WINDOWS)
    task = Task(
        name="toy", version=1, description="d", kind="multiclass", labels=("a",), metrics=("accuracy",),
        clips=lambda root: clips, citation="c", licence="l", source="s",
    )  # fmt: skip
    keys = [clip.id for clip in clips]
    return Inputs(task, clips, keys, space, {0: 1}, torch.device("cpu"), Probe(**settings))


def heard(made: Inputs) -> dict[str, list[tuple[int, float]]]:
    """The track and value of each row of each split."""
    values = made.features([0])[0, :, 0]
    splits = {"train": made.data.train, "valid": made.data.valid, "test": made.data.test}
    return {
        name: [(int(track), float(values[row])) for row, track in zip(split.rows, split.track, strict=True)]
        for name, split in splits.items()
    }


def test_a_track_has_a_row_for_each_window():
    assert heard(inputs()) == {
        "train": [(0, 1), (0, 2), (0, 6), (1, 8), (1, 2)],
        "valid": [(0, 4), (1, 3), (1, 3), (1, 9)],
        "test": [(0, 7), (0, 9)],
    }


def test_the_first_window_alone_is_tested():
    assert heard(inputs(test_windows="first")) == {
        "train": [(0, 1), (0, 2), (0, 6), (1, 8), (1, 2)],
        "valid": [(0, 4), (1, 3)],
        "test": [(0, 7)],
    }


def test_the_mean_of_the_windows_is_one_row():
    assert heard(inputs(average_windows=True)) == {"train": [(0, 3), (1, 5)], "valid": [(0, 4), (1, 5)], "test": [(0, 8)]}


def test_a_grid_trains_each_point_once_and_takes_the_best_on_validation(tones, tmp_path):
    def run(*settings: str) -> LayerResult:
        arguments: dict[str, Any] = {"layers": "0", "results": tmp_path, "seeds": 2}
        return marble.run("fbank-chroma", f"folder:{tones}", settings=["probe.epochs=4", *settings], **arguments).layers[0]

    rates = "probe.learning_rates=1e-3,1e-2"
    grid = run(rates, "probe.grid=hidden=4/8,weight_decay=0/0.5")
    files = {path: path.stat().st_mtime_ns for path in (home() / "cache/probes").rglob("*.safetensors")}
    assert len(files) == 2 * 4
    for number, trained in enumerate(grid.runs):
        assert [point.settings for point in trained.grid[::2]] == [
            {"hidden": hidden, "weight_decay": decay} for hidden in (4, 8) for decay in (0.0, 0.5)
        ]
        scores = [point.validation or 0 for point in trained.grid]
        best = trained.grid[scores.index(max(scores))]
        assert (best.settings, best.learning_rate, best.epoch) == (trained.settings, trained.learning_rate, trained.epoch)
        alone = run(rates, *(f"probe.{name}={value}" for name, value in trained.settings.items()))
        assert alone.runs[number].test == trained.test
    larger = run(rates, "probe.grid=hidden=4/8/16,weight_decay=0/0.5")
    assert all(path.stat().st_mtime_ns == written for path, written in files.items())
    assert len(larger.runs[0].grid) == 12


def test_seeds_draw_their_points(tones, tmp_path):
    settings = ["probe.epochs=1", "probe.grid=hidden=2/3/4/5/6/7", "probe.grid_points=2", "probe.learning_rates=1e-3"]
    result = marble.run("constant", f"folder:{tones}", layers="0", results=tmp_path, seeds=4, settings=settings)
    drawn = [tuple(point.settings["hidden"] for point in run.grid) for run in result.layers[0].runs]
    assert all(len(points) == 2 for points in drawn)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_layers": 2, "norm": "batch"},
        {"layer_weights": "matrix"},
        {"input_dropout": 0.2},
        {"batch_of": "tracks"},
    ],
)
def test_what_needs_memory_is_counted(settings):
    track = torch.arange(3000) // 30
    data = ProbeData("toy", "multiclass", 10, "accuracy", *[Examples(torch.arange(3000), track, torch.zeros(100))] * 3)
    more = bytes_per_member(256, data, Probe(**settings), range(5))
    assert more > bytes_per_member(256, data, Probe(), range(5))
