"""Runs that are killed and interrupted anywhere, and what is left of them."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

CLIPS = 60
SHARD = 8
HERE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A folder with 60 sounds of 0.2 to 0.5 seconds in three classes."""
    folder = tmp_path_factory.mktemp("task")
    generator = np.random.default_rng(0)
    for number in range(CLIPS):
        label = folder / f"class {number % 3}"
        label.mkdir(exist_ok=True)
        time = np.arange(int(generator.integers(1600, 4000))) / 8000
        sound = 0.3 * np.sin(2 * np.pi * 300 * (1 + number % 3) * time) + generator.normal(0, 0.2, len(time))
        soundfile.write(label / f"{number}.wav", sound, 8000)
    return folder


def predictions(folder: Path) -> bytes:
    (path,) = (folder / "results").rglob("*.parquet")
    return path.read_bytes()


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part" in path.name or path.suffix == ".damaged"]


@pytest.fixture(scope="module")
def undisturbed(processes, task, tmp_path_factory):
    """The predictions of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert processes.wait(processes.start(folder, task)) == 0, (folder / "says").read_text()
    assert len(processes.encoded(folder)) == CLIPS
    return predictions(folder)


def wait_for(condition, process: int) -> None:
    """Wait for something that a run does, or for its end."""
    while not condition() and Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)


def kill(processes, process: int) -> bool:
    """Kill a run and tell whether it was still at work."""
    os.kill(process, signal.SIGKILL)
    return processes.wait(process) == -signal.SIGKILL


def probe_files(folder: Path) -> list[Path]:
    return list((folder / "home/cache/probes").rglob("*.safetensors"))


def test_two_undisturbed_runs_agree(processes, task, tmp_path, undisturbed):
    assert processes.wait(processes.start(tmp_path, task, shard_clips=64)) == 0
    assert predictions(tmp_path) == undisturbed


@pytest.mark.parametrize("luck", range(2))
def test_a_killed_extraction_continues(processes, task, tmp_path, undisturbed, luck):
    dice = random.Random(luck)
    kills = 0
    for goal in sorted(dice.sample(range(1, CLIPS + 1), 4)):
        process = processes.start(tmp_path, task)
        wait_for(lambda goal=goal: len(set(processes.encoded(tmp_path))) >= goal, process)
        time.sleep(dice.uniform(0, 0.01))
        kills += kill(processes, process)
    assert kills > 1
    assert processes.wait(processes.start(tmp_path, task)) == 0, (tmp_path / "says").read_text()
    assert predictions(tmp_path) == undisturbed
    times = Counter(processes.encoded(tmp_path))
    assert len(times) == CLIPS
    assert sum(times.values()) - CLIPS <= kills * SHARD


@pytest.mark.parametrize("luck", range(2))
def test_a_killed_probing_continues(processes, task, tmp_path, undisturbed, luck):
    dice = random.Random(luck)
    kills = 0
    for goal in sorted(dice.sample(range(1, 10), 4)):
        process = processes.start(tmp_path, task, stack_bytes=dice.choice([1, 10**6, 10**9]))
        wait_for(lambda goal=goal: len(probe_files(tmp_path)) >= goal, process)
        time.sleep(dice.uniform(0, 0.1))
        kills += kill(processes, process)
    assert kills > 1
    kept = {path: path.stat().st_mtime_ns for path in probe_files(tmp_path)}
    assert processes.wait(processes.start(tmp_path, task, stack_bytes=10**6)) == 0, (tmp_path / "says").read_text()
    assert predictions(tmp_path) == undisturbed
    assert len(processes.encoded(tmp_path)) == CLIPS
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in probe_files(tmp_path)}.items()


def checkpoints(folder: Path) -> list[Path]:
    return list((folder / "home/cache/probes").rglob("*.stopped"))


def test_a_killed_stack_continues_from_its_checkpoint(processes, task, tmp_path, undisturbed):
    longer = {"settings": ["probe.epochs=400", "probe.patience=400", "probe.hidden=16"]}
    whole = tmp_path / "whole"
    assert processes.wait(processes.start(whole, task, how=longer)) == 0
    folder = tmp_path / "killed"
    written = []
    for _ in range(3):
        process = processes.start(folder, task, how=longer, checkpoint_seconds=0)
        before = [path.stat().st_mtime_ns for path in checkpoints(folder)]
        wait_for(lambda before=before: [path.stat().st_mtime_ns for path in checkpoints(folder)] > before, process)
        assert kill(processes, process)
        written += [path.stat().st_size for path in checkpoints(folder)]
    assert written
    assert processes.wait(processes.start(folder, task, how=longer)) == 0, (folder / "says").read_text()
    assert predictions(folder) == predictions(whole)
    assert not checkpoints(folder)


def test_an_interrupt_is_one_sentence_and_the_same_command_continues(task, tmp_path, small_net):
    log = tmp_path / "log"
    environment = {**os.environ, "SMALL_NET_LOG": str(log), "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-c", "from marble.features import encode; encode.SHARD_CLIPS = 8; from marble.cli import main; main()",
        "run", "--upstream", "small_net:Net", "--task", f"folder:{task}", "--seeds", "1", "--set", "probe.epochs=10",
    ]  # fmt: skip

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    run = start()
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 20, run.pid)
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate(timeout=30)
    assert run.returncode == 130, said
    assert said[0] == ""
    assert said[1].splitlines()[-1] == "stopped: the same command continues where this one was"
    assert "Traceback" not in said[1]
    assert not leftovers(tmp_path)
    begun = len(log.read_text().splitlines())
    assert begun < CLIPS
    run = start()
    said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert len(log.read_text().splitlines()) - CLIPS <= SHARD
