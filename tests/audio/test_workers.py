"""Decoding processes: their order, their crashes and their ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from marble.audio import workers
from marble.audio.decode import BadAudioError, load
from marble.audio.workers import Request, WorkerPool
from marble.errors import MarbleError

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="child processes are looked for in /proc")

FAULTS = """
import os, signal, struct
from marble.audio import decode as audio

answers, blocks = os.dup(1), audio.blocks

def faulty(path, *rest):
    asked = path.with_suffix(".asked")
    if path.name.startswith(("once", "half")) and not asked.exists() or path.name.startswith("killer"):
        asked.touch()
        if path.name.startswith("half"):
            os.write(answers, struct.pack("<?q", True, 4000) + bytes(400))
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name.startswith("odd"):
        raise RuntimeError("surprise\\nand more")
    if path.name.startswith("large"):
        raise MemoryError((1, 2))
    return blocks(path, *rest)

audio.blocks = faulty
"""

ENDLESS = """
import sys
from pathlib import Path
from marble.audio.workers import Request, WorkerPool

with WorkerPool(2) as pool:
    for number, waveform in enumerate(pool.map(Request(Path(sys.argv[1]), 22050, 0.0, None) for _ in range(10**9))):
        if number == 10:
            print("busy", flush=True)
"""


def requests(folder: Path, names: list[str], rate: int = 8000) -> list[Request]:
    """One file for each name, the first 1000 samples long, the second 1001 …"""
    generator = np.random.default_rng(0)
    for number, name in enumerate(names):
        soundfile.write(folder / name, generator.uniform(-0.5, 0.5, 1000 + number), rate)
    return [Request(folder / name, rate, 0.0, None) for name in names]


def said(answers: Iterable[np.ndarray | BadAudioError]) -> list[int | str]:
    """The length of each waveform, or why there is none."""
    return [str(answer) if isinstance(answer, BadAudioError) else len(answer) for answer in answers]


def children(parent: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, owner = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(owner) == parent and state != "Z":
            found.append(int(status.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_dead(processes: list[int]) -> None:
    end = time.monotonic() + 10
    while any(map(alive, processes)):
        assert time.monotonic() < end, "a worker was left behind"
        time.sleep(0.02)


@pytest.fixture
def faults(tmp_path, monkeypatch):
    """Workers whose decoder dies of files named killer*, of once* and half* the first time, and fails at odd* and large*."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(FAULTS)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))


def test_answers_come_in_order_and_few_are_held(tmp_path):
    wanted = requests(tmp_path, [f"{number}.wav" for number in range(40)])
    asked = answered = most = 0

    def ask():
        nonlocal asked, most
        for request in wanted:
            asked += 1
            most = max(most, asked - answered)
            yield request

    with WorkerPool(2) as pool:
        for number, answer in enumerate(pool.map(ask())):
            answered += 1
            assert said([answer]) == [1000 + number]
    assert answered == 40
    assert most == 6


@pytest.mark.parametrize("room", [0, 100_000])
def test_long_answers_wait_in_their_workers(tmp_path, monkeypatch, room):
    """But for the one that is wanted next."""
    monkeypatch.setattr(workers, "WAITING_BYTES", room)
    wanted = requests(tmp_path, [f"{number}.wav" for number in range(9)])
    wanted = [request._replace(sample_rate=200_000) for request in wanted]  # 100 kB each
    with WorkerPool(3) as pool:
        answers = pool.map(wanted)
        for number, answer in enumerate(answers):
            assert isinstance(answer, np.ndarray)
            np.testing.assert_array_equal(answer, load(wanted[number].path, 200_000))
            time.sleep(0.1)
            assert sum(pool._waiting.values()) <= room
        assert not pool._waiting


THREADS = """
import resource, sys
from pathlib import Path
from marble.audio.workers import Request, WorkerPool
from marble.errors import MarbleError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limits = {"thread": (resource.RLIMIT_AS, pages * resource.getpagesize() + 2**20), "process": (resource.RLIMIT_NOFILE, 5)}
kind, limit = limits[sys.argv[1]]
resource.setrlimit(kind, (limit, limit))
try:
    with WorkerPool(2) as pool:
        list(pool.map([Request(Path("a.wav"), 8000, 0.0, None)] * 9))
except MarbleError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["thread", "process"])
def test_a_thread_or_process_that_cannot_start_ends_the_run(what):
    ask = [sys.executable, "-c", THREADS, what]
    run = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.startswith(f"A {what} cannot be started ("), run.stderr
    assert "use fewer --workers" in run.stdout


MEMORY = """
import mmap, resource, sys
from pathlib import Path
from marble.audio.workers import Request, WorkerPool
from marble.errors import MarbleError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
request = Request(Path(sys.argv[1]), 8000, 0.0, 1.0)
with WorkerPool(1) as pool:
    list(pool.map([request]))
    rest = mmap.mmap(-1, 2**30 - 2**27)
    try:
        list(pool.map([request._replace(sample_rate=1_000_000, stop=None)]))
    except MarbleError as error:
        rest.close()
        print(error)
"""


def test_a_waveform_that_memory_does_not_hold_ends_the_run_and_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8000 * 40), 8000)
    ask = [sys.executable, "-c", MEMORY, tmp_path / "a.wav"]
    run = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.startswith(f"The waveform of {tmp_path}/a.wav needs more memory than there is: "), run.stderr


def test_a_worker_gives_what_load_gives(tmp_path):
    (request,) = requests(tmp_path, ["a.wav"])
    with WorkerPool(1) as pool:
        (waveform,) = pool.map([request._replace(sample_rate=11025, start=0.01, stop=0.1)])
        (bad,) = pool.map([request._replace(path=tmp_path / "näh\n.wav")])
    assert isinstance(waveform, np.ndarray)
    np.testing.assert_array_equal(waveform, load(request.path, 11025, 0.01, 0.1))
    assert str(bad) == "cannot be read (no such file or directory)"


def test_a_worker_that_is_killed_once_costs_nothing(tmp_path, faults):
    """What kills it, as a rule a want of memory, says nothing about the audio."""
    names = ["a.wav", "once.wav", "b.wav", "half.wav", "c.wav"]
    for number in (1, 2):
        wanted = requests(tmp_path, names)
        with WorkerPool(number) as pool:
            assert said(pool.map(wanted)) == [1000, 1001, 1002, 1003, 1004]
        for name in ("once", "half"):
            (tmp_path / f"{name}.asked").unlink()  # which tells that it was killed


def test_a_worker_that_is_killed_twice_ends_the_run_and_no_file_is_bad(tmp_path, faults):
    before = len(os.listdir("/proc/self/fd"))
    with WorkerPool(1) as pool:
        answers = pool.map(requests(tmp_path, ["a.wav", "killer.wav"]))
        assert len(next(answers)) == 1000
        sentence = r"^/.*/killer.wav ended two workers in a row \(exit status -9\).*fewer --workers"
        with pytest.raises(MarbleError, match=sentence):
            next(answers)
        assert said(pool.map(requests(tmp_path, ["b.wav"]))) == [1000]
    assert len(os.listdir("/proc/self/fd")) == before


def test_other_errors_of_a_worker_are_told_in_plain_words(tmp_path, faults):
    with WorkerPool(1) as pool:
        assert said(pool.map(requests(tmp_path, ["odd.wav", "large.wav"]))) == [
            "failed in its worker (RuntimeError: surprise)", "needs more memory than there is",
        ]  # fmt: skip


def test_a_worker_that_died_in_between_is_replaced(tmp_path):
    others = set(children(os.getpid()))  # of other tests
    first, second = requests(tmp_path, ["a.wav", "b.wav"])
    with WorkerPool(1) as pool:
        assert said(pool.map([first])) == [1000]
        (worker,) = set(children(os.getpid())) - others
        os.kill(worker, signal.SIGKILL)
        wait_until_dead([worker])
        assert said(pool.map([second])) == [1001]
    assert set(children(os.getpid())) == others


def test_a_worker_outlives_the_signals_that_stop_a_run(tmp_path):
    """They may reach all processes of a job; the run decides when its workers end."""
    others = set(children(os.getpid()))
    first, second = requests(tmp_path, ["a.wav", "b.wav"])
    with WorkerPool(1) as pool:
        assert said(pool.map([first])) == [1000]
        (worker,) = set(children(os.getpid())) - others
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker, number)
        assert said(pool.map([second])) == [1001]
        assert set(children(os.getpid())) - others == {worker}
    assert set(children(os.getpid())) == others


def test_a_worker_needs_neither_torch_nor_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "soundfile.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    others = set(children(os.getpid()))
    with WorkerPool(1) as pool:
        assert said(pool.map(requests(tmp_path, ["a.wav"]))) == [1000]
        (worker,) = set(children(os.getpid())) - others
        assert "torch" not in Path(f"/proc/{worker}/maps").read_text()


@pytest.mark.parametrize(
    ("cores", "siblings", "expected"), [(1, 1, 1), (2, 1, 1), (16, 1, 15), (256, 1, 32), (64, 8, 7), (4, 8, 1)]
)
def test_workers_leave_a_core_to_each_process_of_a_job(monkeypatch, cores, siblings, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(siblings))
    with WorkerPool() as pool:
        assert pool.workers == expected


def test_nothing_starts_for_nothing():
    others = children(os.getpid())
    with WorkerPool() as pool:
        assert list(pool.map([])) == []
        assert children(os.getpid()) == others


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_workers_end_with_the_run(tmp_path, how):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 44_100), 44_100)
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENDLESS), str(tmp_path / "a.wav")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    with run:
        assert run.stdout
        assert run.stdout.readline() == b"busy\n"
        started = children(run.pid)
        assert len(started) == 2
        if how == "kill":
            run.kill()
        else:
            os.killpg(run.pid, signal.SIGINT)
        run.wait(10)
        wait_until_dead(started)
