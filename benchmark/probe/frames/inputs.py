"""Inputs of a frame task: the frames and targets of whole tracks, for every maker of answers.

Tracks are numbered validation first, then training, then test: validation is read most, so its tracks stay in memory first. The
answers to a track are the statistics of all metrics of the task, side by side in one row: `marble.probe.scoring.frame_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from marble.features.cache import Space
from marble.features.frame_reader import FrameReader
from marble.features.frames import FrameReduction
from marble.frames import Spans
from marble.kinds import kind_of
from marble.probe.frames.bank import FrameData
from marble.probe.inputs import Examples, Inputs
from marble.probe.scoring.frame_metrics import FRAME_METRICS
from marble.probe.settings import Probe
from marble.task import Clip, Frames, Split, Task

_ORDER: tuple[Split, ...] = ("valid", "train", "test")
_ROWS_AT_ONCE = 2**11


class FrameInputs(Inputs):
    """The frames and targets of a task for one upstream; arguments as for `Inputs`, with the reduction and a budget in bytes.

    Attributes:
        frames: of the task.
        stored: the grid of the cache.
        grid: that of the labels.
        memory: bytes that probing may use beside targets and answers.
        numbers: the tracks of each split.
        spans, targets, seconds: of each track: its target, that of its frames, and its length.
        scored: how many frames of each split are scored.
    """

    def __init__(
        self, task: Task, clips: Sequence[Clip], keys: Sequence[str], space: Space, widths: dict[int, int],
        device: torch.device, probe: Probe, reduction: FrameReduction, memory: int,
    ):  # fmt: skip
        assert task.frames
        self.frames: Frames = task.frames
        self.stored, self.grid, self.memory = reduction.stored, task.frames.grid(reduction.native), memory
        order = sorted(range(len(clips)), key=lambda number: _ORDER.index(clips[number].split))
        clips, keys = [clips[number] for number in order], [keys[number] for number in order]
        self.numbers: dict[Split, Sequence[int]] = {
            split: [number for number, clip in enumerate(clips) if clip.split == split] for split in _ORDER
        }
        self.space, self.keys = space, keys
        reader = self.reader([min(widths)], 0)
        self.spans = [clip.target for clip in clips if isinstance(clip.target, Spans)]
        self.seconds = [reader.seconds(number) for number in range(len(clips))]
        counts = reader.frames.tolist()
        # Small types, since the targets of all tracks stay in memory.
        small = np.int16 if kind_of(task.kind).name == "frame_classes" else np.float16
        self.targets = [
            task.frames.encode(spans, task.labels, self.grid, frames).astype(small)
            for spans, frames in zip(self.spans, counts, strict=True)
        ]
        self.counts = reader.frames
        self.columns = self._columns(task)
        super().__init__(task, clips, keys, space, widths, device, probe)
        data = self.bank_data(reader, probe)
        self.scored = {split: sum(int(data.scored(n).sum()) for n in numbers) for split, numbers in self.numbers.items()}

    def reader(self, layers: Sequence[int], memory: int) -> FrameReader:
        """Return a reader of some layers that holds so many bytes of them."""
        return FrameReader(self.space, self.keys, layers, self.stored, self.grid, memory)

    def bank_data(self, reader: FrameReader, probe: Probe) -> FrameData:
        """Return what a bank of such probes learns from, with features of this reader."""
        chunk = max(1, round(probe.chunk * self.grid.rate))
        task = self.task
        return FrameData(task.name, task.kind, len(task.labels), chunk, self.numbers, self.targets, reader.read)

    def features(self, layers: Sequence[int]) -> Tensor:
        """Return the mean frame of each track, ``Tensor[L, tracks, D]``: the rows of `data`."""
        reader = self.reader(layers, 0)
        means = torch.empty(len(layers), len(self.keys), self.widths[layers[0]], device=self.device)
        for of_layer, layer in zip(means, layers, strict=True):
            for track, frames in enumerate(self.counts.tolist()):
                parts = [(begin, min(begin + _ROWS_AT_ONCE, frames)) for begin in range(0, frames, _ROWS_AT_ONCE)]
                total = sum(reader.read(track, layer, *part).astype(np.float64).sum(axis=0) for part in parts)
                of_layer[track] = torch.from_numpy(total / frames)
        return means

    def _rows(self) -> np.ndarray:
        return self.counts

    def _examples(self, split: Split) -> Examples:
        rows = torch.tensor(self.numbers[split])
        track, none = torch.arange(len(rows)), torch.zeros(len(rows), dtype=torch.int64)
        return Examples(*(values.to(self.device) for values in (rows, track, none)), self.columns)

    def _columns(self, task: Task) -> dict[str, slice]:
        """Return the columns of each metric among the statistics of a track."""
        first = self.numbers["valid"][0]
        shape = (len(self.targets[first]),) if self.targets[first].ndim == 1 else self.targets[first].shape
        answer = np.zeros(shape, dtype=np.int64 if len(shape) == 1 else bool)
        columns, begin = {}, 0
        for name in task.metrics:
            statistics = FRAME_METRICS[name].statistics(answer, self.grid, self.spans[first], task.labels, self.seconds[first])
            columns[name] = slice(begin, begin + len(statistics))
            begin += len(statistics)
        return columns
