"""The README does what it says: its examples run as written, its facts are those of the code."""

import json
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from typer.testing import CliRunner

from marble import registry
from marble.cli.app import app
from marble.tasks.own import columns

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMAND = Path(sys.executable).with_name("marble")


@pytest.fixture(autouse=True)
def rendered_once(home, tmp_path_factory):
    """Let all tests of this file share what the synthetic tasks render."""
    shared = tmp_path_factory.getbasetemp() / "rendered"
    shared.mkdir(exist_ok=True)
    (home / "data").symlink_to(shared)


def example(name: str) -> str:
    """The code block that is marked as the file `name`."""
    found = re.search(rf"<!-- tested: {name} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, name
    return found[1]


def marble(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["my_model.py", "my_task.py"])
def test_an_extension_is_under_forty_lines(name):
    assert example(name).count("\n") < 40


def test_the_example_upstream_passes_its_check_and_runs(tmp_path):
    (tmp_path / "my_model.py").write_text(example("my_model.py"))
    done = marble(tmp_path, "check", "--upstream", "my_model:MyModel")
    assert done.returncode == 0, done.stdout + done.stderr
    quick = ["--task", "synth-instrument", "--limit", "6", "--seeds", "1", "--set", "probe.epochs=2", "--json"]
    done = marble(tmp_path, "run", "--upstream", "my_model:MyModel", *quick)
    assert done.returncode == 0, done.stderr
    assert [layer["name"] for layer in json.loads(done.stdout)[0]["layers"]] == ["spectrum", "block 1"]


def test_the_example_task_runs(tmp_path):
    (tmp_path / "my_task.py").write_text(example("my_task.py"))
    for number, piano in enumerate(("upright", "grand", "electric", "toy")):
        (tmp_path / "chords" / piano).mkdir(parents=True)
        for take in range(6):
            mode = ("major", "minor")[take % 2]
            root = 220 * 2 ** ((take + 3 * number) / 12)
            time = np.arange(8000) / 16_000
            third = 4 if mode == "major" else 3
            chord = sum(np.sin(2 * np.pi * root * 2 ** (step / 12) * time) for step in (0, third, 7)) / 4
            soundfile.write(tmp_path / "chords" / piano / f"{mode}-{take}.wav", chord, 16_000)
    words = [
        "--upstream",
        "fbank-chroma",
        "--task",
        "my_task:TASK",
        "--data-root",
        ".",
        "--seeds",
        "1",
        "--set",
        "probe.epochs=2",
    ]
    done = marble(tmp_path, "run", *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["task"]["tracks"] == {"train": 12, "valid": 6, "test": 6}


@pytest.fixture
def own_data(tmp_path):
    """The table of the README and the files that it names, and drums of four kits."""
    (tmp_path / "songs.csv").write_text(example("songs.csv"))
    table = pandas.read_csv(tmp_path / "songs.csv")
    hertz = dict(zip(table["path"], table["label"].map({"rock": 220, "jazz": 880}), strict=True))
    hertz |= {
        f"drums/{drum}/kit{kit}/{take}.wav": 110 * (1 + take)
        for drum in ("kick", "snare")
        for kit in range(4)
        for take in range(2)
    }
    for number, (path, pitch) in enumerate(hertz.items()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        noise = 0.02 * np.random.default_rng(number).standard_normal(9600)
        soundfile.write(tmp_path / path, 0.3 * np.sin(2 * np.pi * pitch * np.arange(9600) / 16_000) + noise, 16_000)
    return tmp_path


def test_the_commands_for_own_data_run_and_split_as_they_say(own_data, monkeypatch):
    monkeypatch.chdir(own_data)
    quick = ["--layers", "0", "--seeds", "1", "--set", "probe.epochs=2"]
    results = []
    for line in example("own_data.sh").splitlines():
        words = [*shlex.split(line, comments=True)[1:], "--json"]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            done = CliRunner().invoke(app, [*words, *(quick if words[0] == "run" else [])])
        assert done.exit_code == 0, done.stderr
        results += json.loads(done.stdout)
        if "by artist" in line:
            assert "songs.csv: 6 artists are kept in one split each" in str(said[-1].message)
    names = ["table:songs", "folder:drums@parent", "folder:drums@regex:kit[0-9]", "folder:my-drums"]
    assert [result["task"]["name"] for result in results[:4]] == names
    assert results[1]["task"]["data_sha256"] == results[2]["task"]["data_sha256"] != results[3]["task"]["data_sha256"]
    artists = next(finding for finding in results[4:] if finding["check"] == "artists")
    assert (artists["good"], artists["found"]) == (True, "0 of 6 stand in training and elsewhere")


def test_the_commands_for_chords_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ["--layers", "1", "--seeds", "1", "--set", "probe.epochs=2", "--limit", "1", "--json"]
    for artist in "abc":
        folder = tmp_path / "music" / artist / "album"
        folder.mkdir(parents=True)
        for title, hertz in (("one", 220), ("two", 330)):
            soundfile.write(folder / f"{title}.flac", 0.3 * np.sin(2 * np.pi * hertz * np.arange(48_000) / 16_000), 16_000)
            (folder / f"{title}.lab").write_text("0.0 1.5 A:min\n1.5 3.0 N\n")
    results = []
    for line in example("chords.sh").splitlines():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            done = CliRunner().invoke(app, [*shlex.split(line, comments=True)[1:], *quick])
        assert done.exit_code == 0, done.stderr
        assert any("3 artists are kept in one split each" in str(one.message) for one in said)
        results += json.loads(done.stdout)
    assert [result["task"]["name"] for result in results] == ["chords:music"]
    assert 0 <= results[0]["selected"]["test"]["wcsr"]["mean"] <= 1


def test_the_python_example_for_own_data_runs(own_data, monkeypatch, capsys):
    monkeypatch.chdir(own_data)
    with pytest.warns(UserWarning, match="DataFrame: 6 artists are kept in one split each"):
        exec(compile(example("own_data.py"), "own_data.py", "exec"), {})
    assert capsys.readouterr().out == "{'train': 4, 'valid': 2, 'test': 2} []\n"


def test_the_columns_in_the_readme_are_those_that_tables_know():
    rows = re.search(r"\| column \| what it holds \|\n\|---\|---\|\n(.*?)\n\n", README, re.DOTALL)[1].splitlines()
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {*columns.TARGETS, *columns._OTHERS}


def test_the_python_example_runs(tmp_path):
    run, compare, draw = re.findall(r"```python\n((?:import marble\n|from marble.results).*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", run + compare + draw], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "mean=" in done.stdout
    assert "task.name: synth-instrument against gtzan" in done.stdout
    assert (tmp_path / "curve.pdf").is_file()


def test_every_name_in_the_readme_exists():
    upstreams = {name for text in re.findall(r"--upstream ([^ `]+)", README) for name in text.split(",")}
    paths = {name for name in upstreams if "/" in name or "my_model:MyModel" in name} | {"PATH"}
    assert upstreams - paths <= set(registry.upstream_names())
    tasks = {name.split(":")[0] for text in re.findall(r"--task ([^ `]+)", README) for name in text.split(",")} - {"my_task"}
    assert tasks - {"suite"} <= set(registry.task_names())
    for name in re.findall(r"^marble (\w+)", README, re.MULTILINE):
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_the_pictures_of_the_readme_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((Path(__file__).parents[1] / picture).stat().st_size > 10_000 for picture in pictures)
