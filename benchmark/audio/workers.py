"""Worker processes that decode or compute audio; the crash of one does not end the run.

A worker is a fresh Python that imports no torch and serves one function: it reads the arguments as one line of JSON on standard
input and answers with a flag of success, a length, and the float32 samples or the reason of the failure. It ends when its
input ends, so a killed run leaves no worker. A request whose worker dies is repeated in a fresh one; if that dies too, the run
ends with a sentence, since the cause (as a rule a lack of memory) says nothing about the audio.

pebble and loky offer such pools as well, but their workers import ``__main__`` and with it torch.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from marble.audio.decode import BadAudioError, load
from marble.errors import MarbleError, one_line
from marble.files import readable

_ANSWER = struct.Struct("<?q")


class Request(NamedTuple):
    """One excerpt to decode: times in seconds, rate in Hz."""

    path: Path
    sample_rate: int
    start: float
    stop: float | None


def spare_cores() -> int:
    """Return the number of cores for workers: those this process may use, shared with its siblings under torchrun, less one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(32, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


class WorkerPool:
    """Worker processes that answer requests ahead of their use, in order; a context manager.

    Args:
        workers: number of processes; the default leaves one core to the caller.
        function: "module:name" of the function they serve, from the parts of a request to float32[N]; it may raise
            `BadAudioError`. The default decodes a `Request`.
    """

    def __init__(self, workers: int | None = None, function: str = "marble.audio.workers:decode"):
        self.function = function
        self.workers = workers or spare_cores()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="worker")
        self._local = threading.local()
        self._processes: set[subprocess.Popen] = set()
        self._closed = False

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()

    def map(self, requests: Iterable[Sequence[object]], ahead: int | None = None) -> Iterator[np.ndarray | BadAudioError]:
        """Yield for each request, in order, its waveform float32[N] or the reason of the failure.

        At most `ahead` requests (by default three a worker) are in work at once, so memory stays flat.

        Raises:
            MarbleError: a request ended two workers in a row.
        """
        waiting: deque[Future[np.ndarray | BadAudioError]] = deque()
        for request in requests:
            waiting.append(self._threads.submit(self._ask, request))
            if len(waiting) >= (ahead or 3 * self.workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _ask(self, request: Sequence[object]) -> np.ndarray | BadAudioError:
        status = None
        for _ in range(2):
            process = self._worker()
            try:
                return _answer(process, request)
            except (BrokenPipeError, ConnectionResetError, EOFError):
                process.kill()
                process.communicate()
                self._processes.discard(process)
                status = process.returncode
            if self._closed:
                break
        name = readable(request[0]) if isinstance(request[0], Path) else f"Segment {request[0]}"
        raise MarbleError(
            f"{name} ended two workers in a row (exit status {status}), as a rule for want of memory: free some or use fewer "
            "--workers, and run the same command again; if nothing helps, leave it out."
        )

    def _worker(self) -> subprocess.Popen:
        """Return the worker of this thread, a fresh one where there is none or it has died."""
        process = getattr(self._local, "process", None)
        if process is None or process.poll() is not None:
            process = self._local.process = self._start()
        return process

    def _start(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from marble.audio.workers import serve; serve('{self.function}')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._processes.add(process)
        return process


def _answer(process: subprocess.Popen, request: Sequence[object]) -> np.ndarray | BadAudioError:
    """Send a request to a worker and return its answer; raise EOFError or an error of the pipe if it dies."""
    requests, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
    requests.write(json.dumps(request, default=str).encode() + b"\n")
    requests.flush()
    good, size = _ANSWER.unpack(_exactly(answers, _ANSWER.size))
    content = _exactly(answers, size)
    return np.frombuffer(content, dtype="<f4") if good else BadAudioError(content.decode())


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Return this many bytes; raise EOFError if the stream ends before."""
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def decode(path: str, sample_rate: int, start: float, stop: float | None) -> np.ndarray:
    """Answer a `Request`; see `marble.audio.decode.load`."""
    return load(Path(path), sample_rate, start, stop)


def serve(function: str) -> None:
    """Answer requests on standard input until it ends; the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # may reach the whole process group; the parent ends its workers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module, _, name = function.partition(":")
    answer = getattr(import_module(module), name)
    for line in sys.stdin:
        try:
            content = np.ascontiguousarray(answer(*json.loads(line)), dtype="<f4").tobytes()
            good = True
        except Exception as error:
            content, good = _in_words(error).encode(), False
        answers.write(_ANSWER.pack(good, len(content)) + content)
        answers.flush()


def _in_words(error: Exception) -> str:
    if isinstance(error, BadAudioError):
        return str(error)
    return "needs more memory than there is" if isinstance(error, MemoryError) else f"failed in its worker ({one_line(error)})"
