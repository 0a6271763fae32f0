"""Endless segments of audio for pretraining, decoded ahead of the trainer in worker processes.

Conventions
-----------
- A source numbers its segments 0, 1, 2 …, all of one length and at one rate; segment n is always the same audio.
- `Files` cuts every file into segments that do not overlap. One that ends early by at most `TOLERANCE` of its length is filled
  with zeros (30 s clips, as datasets have them, are of 29 to 30 s); a shorter file or rest is left out. Each epoch goes through
  all segments in an order of its own, drawn from (seed, epoch).
- The channels of a file are averaged, or one is drawn for each segment and epoch, from (seed, number of the segment).
- `Stream` computes segment n, for example by the synthesiser.
- Unusable audio is named with the reason when the source is made (`Source.refused`) or when it is decoded
  (`Loader.refused`); the batch takes the next segment.
- Of several processes, process r takes the segments r, r + world, r + 2 world …: together they see what one would see.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from itertools import count, pairwise, tee
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from marble.audio import decode as audio
from marble.audio.decode import BadAudioError
from marble.audio.workers import Request, WorkerPool
from marble.errors import MarbleError
from marble.random_streams import stream_seed
from marble.system.threads import Threads

TOLERANCE = 0.05
MAX_REFUSED = 1000  # in a row; a source without a good segment would otherwise be searched for ever

Waveform = np.ndarray | BadAudioError


class Source(Protocol):
    """Numbered segments, endless.

    Attributes:
        hours: of audio before the first repetition, None where there is none.
        refused: name -> reason of audio left out when the source was made.
    """

    hours: float | None
    refused: dict[str, str]

    def decoded(self, numbers: Iterator[int], workers: int | None, ahead: int) -> Generator[tuple[str, Waveform]]:
        """Yield for each number a name and its samples float32[N], or the reason why there are none, in order."""
        ...


class Segment(NamedTuple):
    """A part of a file, times in seconds."""

    path: Path
    start: float
    stop: float


class Files:
    """Segments of audio files.

    Args:
        paths: of the files.
        seconds: length of a segment.
        sample_rate: in Hz.
        seed: of the order and of the channels.
        random_channel: whether a segment is one of its channels, drawn at random, instead of their mean.

    Attributes:
        summary: how many segments and files are taken, filled and left out, in words.

    Raises:
        MarbleError: no file holds a segment, or no thread can be started.
    """

    def __init__(self, paths: Sequence[Path], seconds: float, sample_rate: int, seed: int, *, random_channel: bool = False):
        self.seconds, self.sample_rate, self.seed, self.random_channel = seconds, sample_rate, seed, random_channel
        self.segments: list[Segment] = []
        self.refused: dict[str, str] = {}
        short, unreadable = [], 0
        for path, length in zip(paths, _lengths(paths), strict=True):
            if isinstance(length, BadAudioError):
                self.refused[str(path)] = str(length)
                unreadable += 1
            elif pieces := int(length / seconds + TOLERANCE):
                ends = [min(index * seconds, length) for index in range(pieces + 1)]
                self.segments += [Segment(path, start, stop) for start, stop in pairwise(ends)]
            else:
                self.refused[str(path)] = f"is {length:.2f} s long and holds no segment of {seconds:g} s"
                short.append(length)
        left_out = f"{len(short)} shorter than {(1 - TOLERANCE) * seconds:g} s, {unreadable} unreadable"
        if not self.segments:
            example = next((f": {path} {why}" for path, why in self.refused.items()), "")
            remedy = f": the longest has {max(short):.2f} s, so write a shorter --set seconds" if short else example
            raise MarbleError(f"None of the {len(paths)} audio files holds a segment of {seconds:g} s ({left_out}){remedy}.")
        missing = [seconds - segment.stop + segment.start for segment in self.segments]
        filled = sum(length * sample_rate > 1 for length in missing)
        zeros = f", {filled} filled with up to {max(missing):.2f} s of zeros" if filled else ""
        taken = f"{len(paths) - len(short) - unreadable} of {len(paths)} files{zeros}"
        self.summary = f"{len(self.segments)} segments of {seconds:g} s from {taken}; left out: {left_out}"
        self.hours: float | None = (len(self.segments) * seconds - sum(missing)) / 3600

    def decoded(self, numbers: Iterator[int], workers: int | None, ahead: int) -> Generator[tuple[str, Waveform]]:
        """Yield for each number its file and start, and samples float32[N], or the reason why there are none, in order."""
        waiting: deque[str] = deque()

        def requests() -> Iterator[Request]:
            """Yield the requests to the workers, and note file and start of each."""
            for number in numbers:
                segment = self._segment(number)
                waiting.append(f"{segment.path} from {segment.start:g} s")
                channels = stream_seed("channel", self.seed, number) if self.random_channel else "mean"
                yield Request(segment.path, self.sample_rate, segment.start, segment.stop, channels)

        with WorkerPool(workers) as pool:
            for waveform in pool.map(requests(), ahead):
                yield waiting.popleft(), waveform

    def _segment(self, number: int) -> Segment:
        epoch, index = divmod(number, len(self.segments))
        return self.segments[self._order(epoch)[index]]

    @lru_cache(2)  # noqa: B019  (a source lives as long as its process)
    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(stream_seed("segments", self.seed, epoch))
        return torch.randperm(len(self.segments), generator=generator).tolist()


class Stream:
    """Endless segments that are computed when they are needed.

    Args:
        function: "module:name" of a function from (number, seconds, sample rate in Hz) to float32[N].
        seconds: length of a segment.
        sample_rate: in Hz.
    """

    def __init__(self, function: str, seconds: float, sample_rate: int):
        self.function, self.seconds, self.sample_rate = function, seconds, sample_rate
        self.hours: float | None = None
        self.refused: dict[str, str] = {}

    def decoded(self, numbers: Iterator[int], workers: int | None, ahead: int) -> Generator[tuple[str, Waveform]]:
        """Yield for each number its name and samples float32[N], in order.

        Raises:
            MarbleError: a segment cannot be computed, as a rule for want of memory.
        """
        requested, named = tee(numbers)
        with WorkerPool(workers, self.function) as pool:
            requests = ((number, self.seconds, self.sample_rate) for number in requested)
            for number, waveform in zip(named, pool.map(requests, ahead), strict=False):
                if isinstance(waveform, BadAudioError):
                    raise MarbleError(f"Segment {number} of the stream {waveform}: use fewer --workers if memory is short.")
                yield f"segment {number}", waveform


class Batch(NamedTuple):
    """Clips of equal length ``Tensor[B, N]`` and their numbers."""

    waveform: Tensor
    numbers: list[int]


class Loader:
    """Batches of `size` clips of one process, in order, from a position on, the next two decoded ahead; a context manager.

    Attributes:
        position: number of the next segment.
        refused: name -> reason of every segment that was skipped.
        waited: seconds spent waiting for audio since the trainer set it to 0.
    """

    def __init__(self, source: Source, size: int, samples: int, position: int, stride: int, workers: int | None):
        self.size, self.samples, self.stride, self.position = size, samples, stride, position
        self.refused: dict[str, str] = {}
        self.waited = 0.0
        self._decoded = source.decoded(count(position, stride), workers, ahead=2 * size)

    def batch(self) -> Batch:
        """Return the next batch.

        Raises:
            MarbleError: a thousand segments in a row could not be used.
        """
        began = time.monotonic()
        waveforms: list[Tensor] = []
        numbers: list[int] = []
        failed = 0
        while len(numbers) < self.size:
            name, waveform = next(self._decoded)
            if isinstance(waveform, BadAudioError):
                self.refused[name] = str(waveform)
                failed += 1
                if failed == MAX_REFUSED:
                    raise MarbleError(f"{failed} segments in a row cannot be used, the last because {name} {waveform}.")
            else:
                failed = 0
                waveforms.append(_exactly(waveform, self.samples))
                numbers.append(self.position)
            self.position += self.stride
        self.waited += time.monotonic() - began
        return Batch(torch.stack(waveforms), numbers)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoded.close()


def _exactly(waveform: np.ndarray, samples: int) -> Tensor:
    """Return the first `samples` samples, zeros where there are fewer."""
    clip = np.zeros(samples, np.float32)
    kept = waveform[:samples]
    clip[: len(kept)] = kept
    return torch.from_numpy(clip)


def _lengths(paths: Sequence[Path]) -> list[float | BadAudioError]:
    """Return the length of each file in seconds, or the reason why it has none."""
    with Threads(16) as threads:
        return list(threads.map(_length, paths))


def _length(path: Path) -> float | BadAudioError:
    try:
        return audio.seconds(path)
    except BadAudioError as error:
        return error
