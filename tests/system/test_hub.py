"""The Hugging Face hub where it does not answer, and users without a home folder."""

import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from marble.errors import MarbleError
from marble.system import files
from marble.system.hub import hub_answers
from marble.upstreams.muq import MUQ

NO_HOME = r"no home folder for ~/\.cache/.* set MARBLE_HOME, .* and HF_HOME, .* folders that can be written"


@contextmanager
def server(status: int) -> Iterator[str]:
    """Yield the address of a server that answers every HEAD with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


@pytest.fixture
def endpoint(monkeypatch, tmp_path) -> Callable[[str], None]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return lambda address: monkeypatch.setattr(constants, "ENDPOINT", address)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (302, True), (401, True), (500, False), (503, False)])
def test_a_hub_that_answers_is_asked(endpoint, status, expected):
    with server(status) as address:
        endpoint(address)
        assert hub_answers() is expected
        assert hub_answers(offline=True) is False


def test_a_hub_that_cannot_be_reached_is_one_sentence_without_retries(endpoint, capfd):
    endpoint("http://127.0.0.1:1")
    with pytest.raises(MarbleError, match=r"muq has no model\.safetensors .* the hub cannot be reached: fetch https"):
        MUQ.load()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def no_home(monkeypatch):
    """A user without HOME whom the system does not know, as in containers."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("MARBLE_HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])


def test_marbles_folder_without_a_home_is_one_sentence(no_home, monkeypatch, tmp_path):
    with pytest.raises(MarbleError, match=NO_HOME):
        files.home()
    monkeypatch.setenv("MARBLE_HOME", str(tmp_path))
    assert files.home() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MARBLE_HOME", "~/mine")
    assert files.home() == tmp_path / "mine"


@pytest.mark.parametrize("words", [
    ["cache", "ls"], ["run", "--upstream", "constant", "--task", "folder:tones"], ["check", "--upstream", "muq", "--offline"],
    ["run", "--upstream", "constant", "--task", "gtzan", "--manifest", "hf:someone/something"],
])  # fmt: skip
def test_every_command_without_a_home_ends_in_that_sentence(words, tones, tmp_path):
    """The library of the hub expands its folder when it is imported, so each needs a process."""
    script = textwrap.dedent("""
        import pwd
        pwd.getpwuid = lambda uid: {}[uid]
        from marble.cli import main
        main()
    """)
    names = {"HOME", "MARBLE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(NO_HOME, done.stderr.splitlines()[-1])
    assert not (tmp_path / "~").exists()
