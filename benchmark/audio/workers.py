"""Worker processes that decode or compute audio and cannot take the run down.

A worker is a fresh Python that imports no torch and serves one function: it reads the arguments as one line of JSON on standard
input and answers with whether it went well, a length, and the float32 samples or the reason why not. It ends when its input
ends, so a killed run leaves no worker behind; when it crashes on a request, that request is bad and the worker is replaced.
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

_ANSWER = struct.Struct("<?q")


class Request(NamedTuple):
    """One excerpt to decode: times in seconds, rate in Hz."""

    path: Path
    sample_rate: int
    start: float
    stop: float | None


def spare_cores() -> int:
    """Return how many workers fit beside this process: the cores that it may use, shared with its siblings under torchrun."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(32, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


class WorkerPool:
    """Worker processes that answer requests ahead of whoever needs the answers, in order; a context manager.

    Args:
        workers: how many processes; the default leaves one core to whoever asks.
        function: "module:name" of what they serve: from the parts of a request to float32[N], or to a `BadAudioError`. The
            default decodes a `Request`.
    """

    def __init__(self, workers: int | None = None, function: str = "marble.audio.workers:decode"):
        self.function = function
        self.workers = workers or spare_cores()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="worker")
        self._local = threading.local()
        self._processes: set[subprocess.Popen] = set()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()

    def map(self, requests: Iterable[Sequence[object]], ahead: int | None = None) -> Iterator[np.ndarray | BadAudioError]:
        """Yield for each request, in order, its waveform float32[N] or the reason why there is none.

        At most `ahead` requests (by default three a worker) are held at once, so memory stays flat however many follow.
        """
        waiting: deque[Future[np.ndarray | BadAudioError]] = deque()
        for request in requests:
            waiting.append(self._threads.submit(self._ask, request))
            if len(waiting) >= (ahead or 3 * self.workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _ask(self, request: Sequence[object]) -> np.ndarray | BadAudioError:
        process = getattr(self._local, "process", None)
        if process is None or process.poll() is not None:
            process = self._local.process = self._start()
        requests, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        try:
            requests.write(json.dumps(request, default=str).encode() + b"\n")
            requests.flush()
            good, size = _ANSWER.unpack(_exactly(answers, _ANSWER.size))
            content = _exactly(answers, size)
        except (BrokenPipeError, ConnectionResetError, EOFError):
            process.kill()
            process.communicate()
            self._processes.discard(process)
            return BadAudioError(f"crashed its worker (exit status {process.returncode})")
        return np.frombuffer(content, dtype="<f4") if good else BadAudioError(content.decode())

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


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Return this many bytes; EOFError where the stream ends before."""
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
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # may reach the whole group; whoever asks ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module, _, name = function.partition(":")
    answer = getattr(import_module(module), name)
    for line in sys.stdin:
        try:
            content = np.ascontiguousarray(answer(*json.loads(line)), dtype="<f4").tobytes()
            header = _ANSWER.pack(True, len(content))
        except Exception as error:
            content = (str(error) if isinstance(error, BadAudioError) else f"raises {error!r}").encode()
            header = _ANSWER.pack(False, len(content))
        answers.write(header + content)
        answers.flush()
