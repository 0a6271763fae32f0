"""Kill what is at work at random moments, go on with the same command, and compare with an undisturbed run.

    python tests/campaigns/kills.py [--what prepare,gc,pretrain] [--kills 20] [--seed 0]

- ``prepare``: ``marble data prepare`` from a mirror; afterwards every file is there, whole, and no partial one is left.
- ``gc``: ``marble cache gc`` beside and after runs; afterwards the same predictions, and no healthy file is gone.
- ``pretrain``: a training of two processes (torchrun), killed with its children; afterwards the weights of an undisturbed one.

Prints one JSON line for each campaign: how many kills hit, and how many trials failed. Exit status 1 where one failed.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

MARBLE = [sys.executable, "-m", "marble"]


class Campaign:
    """Commands in one folder, some of them killed."""

    def __init__(self, root: Path, dice: random.Random):
        self.root, self.dice, self.hits = root, dice, 0
        self.environment = {**os.environ, "MARBLE_HOME": str(root / "home"), "OMP_NUM_THREADS": "1"}

    def run(self, command: list[str]) -> float:
        """Run a command to its end and return its seconds."""
        begin = time.monotonic()
        done = subprocess.run(command, env=self.environment, cwd=self.root, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr[-300:]}")
        return time.monotonic() - begin

    def kill(self, command: list[str], seconds: float) -> None:
        """Start a command and kill it with its children at a random moment of an undisturbed run's length."""
        quiet = subprocess.DEVNULL
        started = subprocess.Popen(
            command, env=self.environment, cwd=self.root, stdout=quiet, stderr=quiet, start_new_session=True
        )
        time.sleep(self.dice.uniform(0.2, 1.0) * seconds)
        self.hits += started.poll() is None
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def tree(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder that is not a lock."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sounds(folder: Path, count: int, seconds: float = 0.5) -> None:
    """Noises in two class folders."""
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            path, np.random.default_rng(number).uniform(-0.5, 0.5, round(24_000 * seconds)) * (1 + number % 2) / 2, 24_000
        )


def prepare(campaign: Campaign) -> None:
    """Kill `marble data prepare` of a folder that comes from a mirror."""
    mirror = campaign.root / "mirror" / "vocalset"
    for number in range(60):
        path = (
            mirror
            / "FULL"
            / f"female{1 + number % 9}"
            / "long_tones"
            / "straight"
            / f"f{1 + number % 9}_long_straight_{number}.wav"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).uniform(-0.5, 0.5, 400_000), 44_100)
    command = [*MARBLE, "data", "prepare", "vocalset-singer", "--mirror", str(campaign.root / "mirror")]
    data = campaign.root / "home" / "data"
    seconds = campaign.run(command)
    undisturbed = tree(data)
    shutil.rmtree(data)
    campaign.kill(command, seconds)
    campaign.kill(command, seconds)
    campaign.run(command)
    assert tree(data) == undisturbed, "other files than those of an undisturbed run"


def gc(campaign: Campaign) -> None:
    """Kill `marble cache gc` while a cache is filled, and after."""
    sounds(campaign.root / "sounds", 60)
    words = ["--upstream", "fbank-chroma", "--task", "folder:sounds", "--seeds", "1", "--set", "probe.epochs=4"]
    command, collect = [*MARBLE, "run", *words], [*MARBLE, "cache", "gc"]
    seconds = campaign.run(command)
    (undisturbed,) = (campaign.root / "results").glob("*/*/*.parquet")
    predictions, cache = undisturbed.read_bytes(), tree(campaign.root / "home" / "cache")
    shutil.rmtree(campaign.root / "results")
    campaign.kill(collect, seconds / 3)
    assert tree(campaign.root / "home" / "cache") == cache, "a healthy file is gone"
    shutil.rmtree(campaign.root / "home" / "cache")
    campaign.kill(command, seconds)
    campaign.kill(collect, seconds / 3)
    campaign.run(command)
    campaign.run(collect)
    (again,) = (campaign.root / "results").glob("*/*/*.parquet")
    assert again.read_bytes() == predictions, "other predictions"


def pretrain(campaign: Campaign) -> None:
    """Kill a training of two processes."""
    sounds(campaign.root / "sounds", 40, seconds=1.2)
    settings = ("seconds=1", "batch=4", "micro_batch=2", "steps=30", "optimiser.warmup=2", "mask.probability=0.5")
    changes = [word for setting in settings for word in ("--set", setting)]
    words = ["conformer-attention-tiny", "--data", "sounds", "--checkpoint-every", "5", *changes]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["-m", "marble", "pretrain"]
    seconds = campaign.run([*torchrun, *words, "--out", "undisturbed"])
    command = [*torchrun, *words, "--out", "killed"]
    campaign.kill(command, seconds)
    checkpoints = campaign.root / "killed" / "checkpoints"
    if checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir()):
        command = [*command, "--resume"]
    else:
        shutil.rmtree(campaign.root / "killed", ignore_errors=True)
    campaign.run(command)
    last = "checkpoints/00000030/upstream.safetensors"
    weights = [(campaign.root / folder / last).read_bytes() for folder in ("killed", "undisturbed")]
    assert weights[0] == weights[1], "other weights"


CAMPAIGNS = {"prepare": prepare, "gc": gc, "pretrain": pretrain}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", default=",".join(CAMPAIGNS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice, failed = random.Random(options.seed), 0
    for name in options.what.split(","):
        hits, trials, failures = 0, 0, []
        while hits < options.kills and trials < 2 * options.kills:
            with tempfile.TemporaryDirectory() as folder:
                campaign = Campaign(Path(folder), dice)
                trials += 1
                try:
                    CAMPAIGNS[name](campaign)
                except AssertionError as error:
                    failures.append(str(error))
                hits += campaign.hits
        line = {"campaign": name, "kills": hits, "trials": trials, "failed": len(failures), "failures": failures[:3]}
        print(json.dumps(line), flush=True)
        failed += len(failures)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
