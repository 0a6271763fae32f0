"""What every test stands on: a home of its own, small real data, a web server that can misbehave, runs that can be killed."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import IO, Any, cast

import numpy as np
import pytest
import soundfile
from hypothesis import settings

HERE = Path(__file__).resolve().parent
RATE = 16_000
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the cores, so neither they nor what they start should use several.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts its background jobs deaf to Ctrl-C, and what they start would be so, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("marble", deadline=None, derandomize=True)
settings.load_profile("marble")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no GPU")


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


def write_tones(root: Path, each: int = 8, seconds: float = 0.3) -> Path:
    """Write `each` tones in a little noise for each of three class folders below `root` and return it."""
    for number, (name, frequency) in enumerate({"low": 220.0, "middle": 880.0, "high": 3520.0}.items()):
        (root / name).mkdir(parents=True)
        for take in range(each):
            time = np.arange(round(seconds * RATE)) / RATE
            noise = 0.02 * np.random.default_rng(100 * number + take).standard_normal(len(time))
            soundfile.write(
                root / name / f"{take}.wav", 0.4 * np.sin(2 * np.pi * frequency * (1 + 0.01 * take) * time) + noise, RATE
            )
    return root


@pytest.fixture(scope="session")
def tones_below():
    """The function that writes tones below a folder, for fixtures that many tests share."""
    return write_tones


@pytest.fixture
def tones(tmp_path):
    """A folder of three class folders with eight tones each."""
    return write_tones(tmp_path / "tones")


@dataclass
class Web:
    """What the server gives, and how badly.

    Attributes:
        address: of its root.
        files: content by path, "/name".
        version: the ETag of all of them; empty for none.
        ranges: whether it knows ranges.
        careful: whether it asks for If-Range before it continues.
        cut: after how many bytes of an answer it hangs up.
        redirects: address by path, to which it sends on.
        endless: whether it repeats a file a hundred times, without telling a length.
        pause: seconds before each byte, and it hangs up after a hundred; None sends all at once.
        asked: path and Range header of each request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    version: str = '"1"'
    ranges: bool = True
    careful: bool = True
    cut: int | None = None
    redirects: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    pause: float | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers requests."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers["Range"]
                web.asked.append((self.path, wanted))
                if self.path in web.redirects:
                    self.send_response(302)
                    self.send_header("Location", web.redirects[self.path])
                    self.end_headers()
                    return
                content = web.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and web.ranges else 0
                if web.careful and self.headers["If-Range"] not in (None, web.version):
                    begin = 0
                if begin >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                if web.version:
                    self.send_header("ETag", web.version)
                if not web.endless:
                    self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                with suppress(ConnectionError):  # whoever asked has heard enough
                    self.send(content[begin:][: web.cut])

            def send(self, content):
                pause = web.pause
                if pause is None:
                    for _ in range(100 if web.endless else 1):
                        self.wfile.write(content)
                else:
                    for byte in content[:100]:
                        time.sleep(pause)
                        self.wfile.write(bytes([byte]))

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def web(monkeypatch) -> Iterator[Web]:
    """A server on the loopback interface."""
    monkeypatch.setenv("no_proxy", "*")
    web = Web()
    with ThreadingHTTPServer(("127.0.0.1", 0), web.handler()) as server:
        web.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield web
        server.shutdown()
