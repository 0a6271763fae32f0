"""Worker processes that decode or compute audio; the crash of one does not end the run.

A worker is a fresh Python that imports no torch and serves one function: it reads the arguments as one line of JSON on standard
input and answers in blocks, each a flag of success and a length before float32 samples; an empty block ends the waveform, and a
failure is one block with its reason. It ends when its input ends, so a killed run leaves no worker. A request whose worker dies
is repeated in a fresh one; if that dies too, the run ends with a sentence, since the cause (as a rule a want of memory) says
nothing about the audio. So does a run whose threads or processes cannot be started.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from marble.audio.decode import BadAudioError, Channels, blocks
from marble.errors import MarbleError, one_line
from marble.system.files import readable
from marble.system.threads import Threads, no_start, usable_cores

_BLOCK = struct.Struct("<?q")
# Bytes of waveforms that wait for their use. Beyond them only the clip that is wanted next is read on, so memory holds that
# and these, however long the clips are.
WAITING_BYTES = 2**29


class Request(NamedTuple):
    """One excerpt to decode: times in seconds, rate in Hz, channels as in `marble.audio.decode.blocks`."""

    path: Path
    sample_rate: int
    start: float
    stop: float | None
    channels: Channels | int = "mean"


def cores_of_job() -> int:
    """Return the number of cores that this process may use, shared with its siblings under torchrun."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def spare_cores() -> int:
    """Return the number of cores for workers: those of the job, less one."""
    return max(1, min(32, cores_of_job() - 1))


class WorkerPool:
    """Worker processes that answer requests ahead of their use, in order; a context manager.

    Args:
        workers: number of processes; the default leaves one core to the caller.
        function: "module:name" of the function they serve, from the parts of a request to float32[N] or blocks of it; it may
            raise `BadAudioError`. The default decodes a `Request`.
    """

    def __init__(self, workers: int | None = None, function: str = "marble.audio.workers:decode"):
        self.function = function
        self.workers = workers or spare_cores()
        self._threads = Threads(self.workers, thread_name_prefix="worker")
        self._local = threading.local()
        self._processes: set[subprocess.Popen] = set()
        self._numbers = count()
        self._wanted = -1
        self._waiting: dict[int, int] = {}  # bytes that were read, by the number of their request
        self._room = threading.Condition()
        self._closed = False

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        with self._room:
            self._closed = True
            self._room.notify_all()
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()

    def map(self, requests: Iterable[Sequence[object]], ahead: int | None = None) -> Iterator[np.ndarray | BadAudioError]:
        """Yield for each request, in order, its waveform float32[N] or the reason of the failure.

        At most `ahead` requests (by default three a worker) are in work at once, so memory stays flat.

        Raises:
            MarbleError: a request ended two workers in a row, or a thread or a worker cannot be started.
        """
        futures: deque[tuple[int, Future[np.ndarray | BadAudioError]]] = deque()
        for number, request in zip(self._numbers, requests, strict=False):
            futures.append((number, self._threads.submit(self._ask, number, request)))
            if len(futures) >= (ahead or 3 * self.workers):
                yield self._result(*futures.popleft())
        while futures:
            yield self._result(*futures.popleft())

    def _result(self, number: int, future: Future[np.ndarray | BadAudioError]) -> np.ndarray | BadAudioError:
        """Wait for the answer to a request, which from now on is read whatever its length."""
        with self._room:
            self._wanted = number
            self._room.notify_all()
        answer = future.result()
        self._forget(number)
        return answer

    def _forget(self, number: int) -> None:
        """Make room for other answers than that to a request."""
        with self._room:
            self._waiting.pop(number, None)
            self._room.notify_all()

    def _wait_for_room(self, number: int, size: int) -> None:
        """Wait until some bytes more of an answer may be read."""
        with self._room:
            self._room.wait_for(
                lambda: self._closed or number <= self._wanted or sum(self._waiting.values()) + size <= WAITING_BYTES
            )
            self._waiting[number] = self._waiting.get(number, 0) + size

    def _ask(self, number: int, request: Sequence[object]) -> np.ndarray | BadAudioError:
        name = readable(request[0]) if isinstance(request[0], Path) else f"Segment {request[0]}"
        status = None
        for _ in range(2):
            process = self._worker()
            try:
                return _answer(process, request, partial(self._wait_for_room, number))
            except (BrokenPipeError, ConnectionResetError, EOFError, MemoryError) as error:
                process.kill()
                process.communicate()
                self._processes.discard(process)
                self._forget(number)
                status = process.returncode
                if isinstance(error, MemoryError):
                    raise MarbleError(
                        f"The waveform of {name} needs more memory than there is: free some, use fewer --workers, or cut it."
                    ) from error
            if self._closed:
                break
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
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from marble.audio.workers import serve; serve('{self.function}')"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            raise no_start("process", error) from error
        self._processes.add(process)
        return process


def _answer(
    process: subprocess.Popen, request: Sequence[object], wait_for_room: Callable[[int], object]
) -> np.ndarray | BadAudioError:
    """Ask a worker and return its answer; EOFError or an error of the pipe where it dies."""
    requests, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
    requests.write(json.dumps(request, default=str).encode() + b"\n")
    requests.flush()
    waveform = bytearray()
    while True:
        good, size = _BLOCK.unpack(_exactly(answers, _BLOCK.size))
        if not good:
            return BadAudioError(_exactly(answers, size).decode())
        if not size:
            return np.frombuffer(waveform, dtype="<f4")
        wait_for_room(size)
        waveform += _exactly(answers, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Return this many bytes; raise EOFError if the stream ends before."""
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def decode(path: str, sample_rate: int, start: float, stop: float | None, channels: Channels | int) -> Iterator[np.ndarray]:
    """Answer a `Request`; see `marble.audio.decode.blocks`."""
    return blocks(Path(path), sample_rate, start, stop, channels)


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
            waveform = answer(*json.loads(line))
            for block in [waveform] if isinstance(waveform, np.ndarray) else waveform:
                if len(block):
                    content = np.ascontiguousarray(block, dtype="<f4").data
                    answers.write(_BLOCK.pack(True, content.nbytes))
                    answers.write(content)
            answers.write(_BLOCK.pack(True, 0))
        except Exception as error:
            reason = _in_words(error).encode()
            answers.write(_BLOCK.pack(False, len(reason)) + reason)
        answers.flush()


def _in_words(error: Exception) -> str:
    if isinstance(error, BadAudioError):
        return str(error)
    return "needs more memory than there is" if isinstance(error, MemoryError) else f"failed in its worker ({one_line(error)})"
