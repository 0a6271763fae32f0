"""Presets: every setting has a source, the documentation is what they are, and each runs."""

from pathlib import Path

import pytest

import marble
from marble.probe.presets import PROTOCOLS, page
from marble.probe.protocol import load_protocol
from marble.probe.settings import Probe
from marble.probe.training.grid import drawn_points
from marble.tasks import TASKS

PAGE = Path(__file__).parents[2] / "docs/protocols.md"


def test_the_page_is_what_the_presets_state():
    assert PAGE.read_text() == page(), "run: python -m marble.probe.presets > docs/protocols.md"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_value_of_a_preset_is_stated_with_its_source(name):
    protocol = PROTOCOLS[name]
    stated = {setting.partition("=")[0] for row in protocol.stated if not row.tasks for setting in row.settings.split()}
    default = Probe()
    differing = {f"probe.{key}" for key in Probe.model_fields if getattr(protocol.probe, key) != getattr(default, key)}
    assert differing <= stated
    assert protocol.name == name
    assert protocol.description
    for row in protocol.stated:
        assert row.what
        assert row.value
        assert row.source or row.value == "not stated"
        assert row.settings or row.how
        assert set(row.tasks) <= set(TASKS)
    assert set(protocol.by_task) <= set(TASKS)
    assert load_protocol(name) == protocol.model_copy(update={"by_task": {}, "stated": (), "description": ""})


def test_nothing_is_not_expressed_but_chunks_that_nobody_published():
    missing = [row.value for protocol in PROTOCOLS.values() for row in protocol.stated if "not expressed:" in row.how]
    assert missing == ["leading silence trimmed by a voice detector"]


def value(name: str, task: str, *fields: str) -> list:
    """Some values of a preset for a task."""
    protocol = load_protocol(name, task=task)
    parts = {"windows": protocol.windows, "probe": protocol.probe}
    return [getattr(parts[part], field) for part, _, field in (name.partition(".") for name in fields)]


RATES, PLATEAU = "probe.learning_rates", "probe.plateau_patience"
V1 = (RATES, PLATEAU, "probe.epochs", "probe.patience", "probe.batch_of")


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("gtzan", [(5e-3,), 6, 100, 20, "tracks"]),
        ("emomusic", [(1e-3,), 5, 100, 20, "tracks"]),
        ("giantsteps-key", [(1e-3,), 5, 100, 20, "rows"]),
        ("mtt", [(1e-3,), 3, 100, 10, "tracks"]),
        ("mtg-top50", [(1e-3,), 3, 100, 10, "tracks"]),
        ("nsynth-pitch", [(1e-3,), 3, 50, 10, "tracks"]),
        ("vocalset-singer", [(1e-3,), 5, 100, 20, "rows"]),
        ("vocalset-technique", [(1e-3,), 5, 100, 10, "rows"]),
    ],
)
def test_marble_v1_by_task(task, values):
    assert value("marble-v1", task, *V1) == values
    assert value("layerwise", task, *V1[:-1]) == values[:-1]
    assert value("marble-v1", task, "probe.find_rate") == [task == "giantsteps-key"]


V2 = (
    RATES,
    "probe.factor",
    PLATEAU,
    "probe.epochs",
    "probe.patience",
    "probe.batch_size",
    "probe.validate_by",
    "probe.validation_batch",
    "windows.seconds",
)


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("gtzan", [(5e-3,), 0.5, 6, 50, 20, 64, "window", 8, 30.2]),
        ("emomusic", [(1e-3,), 0.5, 5, 50, 20, 64, "window", 16, 15.0]),
        ("giantsteps-key", [(1e-3,), 0.1, 5, 50, 20, 64, "window", 16, 30.0]),
        ("mtt", [(1e-3,), 0.5, 3, 50, 10, 128, "track", None, 30.0]),
        ("mtg-mood", [(1e-3,), 0.5, 3, 20, 10, 128, "track", None, 30.0]),
    ],
)
def test_marble_v2_by_task(task, values):
    assert value("marble-v2", task, *V2) == values
    assert value("marble-v2", task, "probe.selection", "probe.layer_weights") == ["last", "matrix"]
    assert value("marble-v2", task, "probe.arithmetic", "windows.short") == ["bfloat16", "padded"]


def test_windows_and_budgets_of_the_papers():
    assert value("muq", "gtzan", "windows.seconds", "probe.average_windows") == [10.0, True]
    assert value("muq", "emomusic", "windows.seconds") == [5.0]
    assert value("muq", "vocalset-technique", "windows.seconds", "windows.tail") == [3.0, 3.0]
    assert value("marble-v1", "emomusic", "windows.seconds", "windows.until") == [5.0, 30.0]
    assert value("marble-v1", "vocalset-singer", "windows.level", "probe.arithmetic") == ["standard", "float16"]
    assert value("muq", "emomusic", "windows.until", "probe.arithmetic") == [None, "float16"]
    assert value("superb", "gtzan", "windows.seconds", "probe.train_windows", "probe.average_windows") == [8.0, "one", False]
    assert value("omar", "mtt-clean", "probe.steps", "probe.metric", "windows.hop") == [20000, "average_precision", 15.0]
    assert value("omar", "nsynth-pitch", "probe.steps", "probe.loss", "probe.input_dropout") == [100000, "binary", 0.0]
    assert value("omar", "piano-difficulty-2", "probe.average_windows", "probe.train_windows") == [True, "all"]


def test_the_grids_are_as_large_as_published():
    jukemir, hear = PROTOCOLS["jukemir"].probe, PROTOCOLS["hear"].probe
    assert sum(len(probe.learning_rates) for _, probe in jukemir.points()) == 216
    assert sum(len(probe.learning_rates) for _, probe in hear.points()) == 16
    assert [len(drawn_points(hear, "gtzan", seed)) for seed in range(3)] == [8, 8, 8]
    assert drawn_points(hear, "gtzan", 0) != drawn_points(hear, "gtzan", 1)


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "marble"])
def test_a_preset_runs_on_tracks_of_several_windows_and_the_result_names_it(name, tones, tmp_path, small_net):
    settings = ["probe.epochs=2", "probe.hidden=8", "windows.seconds=0.1", "windows.hop=0.1", "windows.tail=0"]
    arguments = {"protocol": name, "results": tmp_path, "seeds": 2, "settings": settings}
    result = marble.run(small_net.Net(), f"folder:{tones}", layers="2,weighted", **arguments)
    assert (tmp_path / result.path).name.startswith(f"{name}-")
    assert result.protocol.label.startswith(f"{name} (probe.epochs=2, ")
    probe = PROTOCOLS[name].probe
    count = sum(len(point.learning_rates) for _, point in probe.points()[: probe.grid_points])
    for run in (run for layer in result.layers for run in layer.runs):
        assert len(run.grid) == count
        best = max(point.validation or 0 for point in run.grid)
        chosen = next(point for point in run.grid if point.validation == best)
        assert (chosen.learning_rate, chosen.settings) == (run.learning_rate, run.settings)
        assert bool(run.settings) == bool(probe.grid)
    weights = result.layers[1].weights
    if probe.layer_weights == "matrix":
        assert weights is None
    else:
        assert weights is not None
        assert sum(weights) == pytest.approx(1, abs=1e-6)
        assert weights[: probe.first_layer] == [0.0] * probe.first_layer
    assert marble.run(small_net.Net(), f"folder:{tones}", layers="2,weighted", **arguments).identity == result.identity
