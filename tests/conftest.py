"""What every test stands on: a home of its own, reproducible hypothesis, the shared files, and runs that can be killed."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any, cast

import pytest
from hypothesis import settings

HERE = Path(__file__).resolve().parent
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the cores, so neither they nor what they start should use several.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("marble", deadline=None, derandomize=True)
settings.load_profile("marble")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Marble's own folder, empty."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MARBLE_HOME", str(folder))
    return folder


@pytest.fixture
def shared() -> Path:
    """The folder `shared` beside the repository."""
    folder = HERE.parents[1] / "shared"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder


@pytest.fixture
def small_net(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `small_net`, for its class `Net`."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("small_net")


class Processes:
    """Runs of the small net in processes of their own; see `small_net.main`."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, HERE / "small_net.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> int:
        questions, answers = cast("IO[str]", self.server.stdin), cast("IO[str]", self.server.stdout)
        questions.write(json.dumps(request) + "\n")
        questions.flush()
        return int(answers.readline())

    def start(self, folder: Path, task: Path, *, shard_clips: int = 8, **options: Any) -> int:
        """Start a run below `folder` and return its process; see `small_net.run` for the options."""
        folder.mkdir(exist_ok=True)
        how = {"seeds": 2, "settings": ["probe.epochs=30", "probe.hidden=16"]} | options.pop("how", {})
        environment = {"MARBLE_HOME": str(folder / "home"), "SMALL_NET_LOG": str(folder / "log")}
        return self.ask(
            task=str(task), results=str(folder / "results"), says=str(folder / "says"), shard_clips=shard_clips,
            how=how, environment=environment, **options,
        )  # fmt: skip

    def encoded(self, folder: Path) -> list[str]:
        """Return the hashes of all clips that the runs below a folder have encoded, in order."""
        log = folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def wait(self, process: int) -> int:
        """Return the exit status of a run."""
        return self.ask(wait=process)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """The one server of all runs."""
    started = Processes()
    with started.server:  # leaving it closes the input, which ends the server
        yield started
