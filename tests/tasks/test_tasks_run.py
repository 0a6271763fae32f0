"""Every task of a real data set runs from its official layout to a result, and its labels are learned."""

import pandas
import pytest
import torch
from typer.testing import CliRunner

import marble
from marble import registry
from marble.cli.app import app
from marble.jobs import summary
from marble.jobs.run import BadClipsError, prepare
from marble.probe.inputs import Examples

QUICK = {"seeds": 1, "settings": ["probe.epochs=60", "probe.hidden=64", "probe.learning_rates=1e-3,1e-2"], "layers": "0"}
# The least that the main metric has to reach on the test split (of MSE: the most).
REACHED = {
    "gtzan": 0.7, "giantsteps-key": 0.7, "emomusic": 0.3, "vocalset-singer": 0.6, "vocalset-technique": 0.7,
    "mtt": 0.8, "mtt-clean": 0.7, "mtg-top50": 0.8, "mtg-genre": 0.8, "mtg-instrument": 0.8, "mtg-mood": 0.8,
    "nsynth-instrument": 0.8, "nsynth-pitch": 0.8, "piano-difficulty": 3.0, "piano-difficulty-4": 3.0, "chords-rwc": 0.8,
    "local-key": 0.7,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    """Sounds of half a second give two threads nothing to share; on a busy machine they only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_task_of_a_real_data_set_is_run_here():
    made_of = {registry.TASKS[name].split(":")[0] for name in REACHED}
    assert {module.rpartition(".")[2] for module in {path.split(":")[0] for path in registry.TASKS.values()} - made_of} == {
        "tasks", "folder", "table", "music_taste", "chords",
    }  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_a_task_runs_from_its_official_layout_to_a_result_and_names_what_is_damaged(name, spoilt, tmp_path):
    task, root, fault_of = spoilt(name)
    heard = QUICK | {"layers": "2" if "key" in name or "singer" in name else "0"}
    with pytest.raises(
        BadClipsError, match=f"{len(fault_of)} bad clips were left out, first .* accept it with --skip-bad"
    ) as end:
        marble.run("fbank-chroma", task, data_root=root, results=tmp_path / "results", **heard)
    result = end.value.result
    named = {bad.path: bad.reason for bad in result.bad_clips}
    assert set(named) == set(fault_of)
    assert all(fault in named[path] for path, fault in fault_of.items()), named
    value = result.selected.test[task.main_metric].mean
    assert value < REACHED[name] if name.startswith("piano") else value > REACHED[name], value
    assert set(result.selected.test) == set(task.metrics)
    assert all(scores.mean is not None for scores in result.selected.test.values())


@pytest.mark.parametrize("name", ["gtzan", "mtt-clean"])
def test_damaged_clips_may_be_left_out(name, spoilt, tmp_path):
    task, root, fault_of = spoilt(name)
    result = marble.run("fbank-chroma", task, data_root=root, results=tmp_path / "results", skip_bad=True, **QUICK)
    assert {bad.path for bad in result.bad_clips} == set(fault_of)
    assert result.task.tracks["train"] == task.split_sizes["train"] - len(fault_of)


def test_tasks_on_the_same_audio_share_its_features(stand_in, tmp_path):
    for name, shared in (("mtg-top50", 0), ("mtg-instrument", 43)):
        task, root = stand_in(name)
        quick = QUICK | {"settings": ["probe.epochs=1", "probe.hidden=8", "probe.learning_rates=1e-4"]}
        cost = marble.run("fbank-chroma", task, data_root=root, results=tmp_path, **quick).cost
        assert (cost.clips_encoded, cost.clips_cached) == (43 - shared, shared)


def test_a_preset_knows_the_task_that_is_asked(stand_in, tmp_path):
    for name, seconds in (("gtzan", 10.0), ("nsynth-pitch", 4.0)):
        task, root = stand_in(name)
        job = prepare("constant", task, protocol="muq", data_root=root, cache_dir=tmp_path)
        assert (job.windows.seconds, job.protocol.label) == (seconds, "muq")


def test_windows_are_counted_beside_recordings(stand_in, tmp_path):
    task, root = stand_in("vocalset-technique")
    quick = QUICK | {"settings": ["probe.epochs=2", "probe.hidden=8", "probe.learning_rates=1e-4"]}
    result = marble.run("fbank-chroma", task, data_root=root, results=tmp_path, cache_dir=root / "cache", **quick)
    answers = result.layers[0].test
    windows = 2 * result.task.tracks["test"]
    assert answers["window_accuracy"].mean * windows == pytest.approx(round(answers["window_accuracy"].mean * windows))
    low, high = answers["window_accuracy"].ci95
    assert low <= answers["window_accuracy"].mean <= high


def test_window_metrics_read_windows_and_track_metrics_read_tracks(stand_in):
    task, _ = stand_in("vocalset-technique")
    examples = Examples(torch.arange(5), torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1]))
    windows = torch.eye(10)[[0, 0, 1, 0, 1]]  # right in 3 of 5 windows; the second track is a tie, which class 0 wins
    assert summary._metrics(windows, examples, task) == {"accuracy": 0.5, "window_accuracy": 0.6}


def test_grades_go_through_predictions_tables_and_figures(stand_in, tmp_path):
    task, root = stand_in("piano-difficulty")
    result = marble.run("fbank-chroma", task, data_root=root, results=tmp_path / "results", **(QUICK | {"layers": "0..2"}))
    assert result.selected.layer == min(result.layers, key=lambda one: one.validation["ordinal_mse"].mean).layer
    table = pandas.read_parquet((tmp_path / "results" / result.path).with_suffix(".parquet"))
    rows = table[(table.layer == str(result.selected.layer)) & (table.split == "test")]
    predicted = rows.prediction.map(lambda grade: -1 if grade is None else int(grade))
    errors = (predicted - rows.target.str[0].astype(int)) ** 2
    by_grade = errors.groupby(rows.target.str[0]).mean()
    assert by_grade.mean() == pytest.approx(result.selected.test["ordinal_mse"].mean, abs=1e-12)
    for command in (["leaderboard"], ["heatmap"]):
        done = CliRunner().invoke(app, [*command, "--results", str(tmp_path / "results")])
        assert done.exit_code == 0, done.output
