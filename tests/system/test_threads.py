"""Threads under limits: one sentence, neither a traceback nor a wait without end."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from marble.system.progress import Reporter

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory that is mapped is read in /proc")

HASHES = """
import resource, sys, threading
from pathlib import Path
from marble.errors import MarbleError
from marble.system.files import file_hashes

stack = 2**23
threading.stack_size(stack)
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = mapped + eval(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    print(len(file_hashes([Path(sys.argv[2])])))
except MarbleError as error:
    print(error)
"""


@pytest.mark.parametrize("room", ["0", "stack + 2**12", "stack + 2**13", "stack + 2**14", "2 * stack", "2**27"])
def test_no_room_for_a_thread_is_one_sentence(tmp_path, room):
    """With room for its stack and nothing else, a thread starts, dies, and whoever started it would wait for ever."""
    (tmp_path / "a.wav").write_text("a")
    run = subprocess.run(
        [sys.executable, "-c", HASHES, room, tmp_path / "a.wav"], capture_output=True, text=True, timeout=30, check=False
    )
    expected = (
        "1\n" if room == "2**27" else "A thread cannot be started (OSError: [Errno 12] Cannot allocate memory), for want of"
    )
    assert run.stdout.startswith(expected), run.stderr


def test_progress_on_a_terminal_needs_no_thread():
    before = threading.active_count()
    screen = io.StringIO()
    reporter = Reporter(Console(file=screen, force_terminal=True, width=80))
    with reporter.stage("reading", 3, "files") as advance:
        for _ in range(3):
            advance(1)
            assert threading.active_count() == before
        reporter.say("a line between")
    assert "a line between" in screen.getvalue()
    assert screen.getvalue().rindex("3/3") > screen.getvalue().index("0/3")
