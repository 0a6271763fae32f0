"""Small real data for the tests of the harness, and a web server that can misbehave."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


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
        asked: path and Range header of each request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    version: str = '"1"'
    ranges: bool = True
    careful: bool = True
    cut: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers requests."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers["Range"]
                web.asked.append((self.path, wanted))
                content = web.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and web.ranges else 0
                if web.careful and self.headers["If-Range"] not in (None, web.version):
                    begin = 0
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                if web.version:
                    self.send_header("ETag", web.version)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                self.wfile.write(content[begin:][: web.cut])

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
