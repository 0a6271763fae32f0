"""Inputs: the features and targets of a task as tensors, for every maker of answers.

A *row* is the output of a reduction for a window: with a pooling, one row a window. A track has one or more rows; the answer to
a track is the mean of the answers to its rows. Settings of the probe leave a track one row: the mean of its windows, or in
validation and test its first window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from marble.features.cache import Space
from marble.probe.scoring.metrics import Metric
from marble.probe.settings import Probe
from marble.task import SPLITS, Clip, Split, Task


@dataclass(frozen=True)
class Examples:
    """The rows of one split and the tracks they belong to.

    Attributes:
        rows: ``int64[R]``, the positions of the rows among all rows of the task.
        track: ``int64[R]``, the number of the track of each row.
        targets: of the tracks: ``int64[M]``, or ``float[M, C]``.
        columns: of the answers of a frame task, which are statistics of tracks: those of each metric.
    """

    rows: Tensor
    track: Tensor
    targets: Tensor
    columns: Mapping[str, slice] = field(default_factory=dict)

    def by_track(self, values: Tensor) -> Tensor:
        """Return the mean of ``Tensor[..., R, C]`` over the rows of each track, ``Tensor[..., M, C]``, added in their order."""
        total = values.new_zeros(*values.shape[:-2], len(self.targets), values.shape[-1])
        return total.index_add_(-2, self.track.to(values.device), values) / self.rows_of_tracks(values)

    def units(self, answers: Tensor, metric: Metric) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the units of a metric: answers to tracks and their targets, or to windows, their targets and their tracks."""
        if metric.of_windows:
            return answers, self.targets[self.track], self.track
        return self.by_track(answers)[..., self.columns.get(metric.name, slice(None))], self.targets, None

    def weights(self) -> Tensor:
        """Return weights of the rows with sum 1 that let every track weigh the same, ``float64[R]``."""
        return 1 / (len(self.targets) * self.track.bincount(minlength=len(self.targets)).double()[self.track])

    def rows_of_tracks(self, like: Tensor) -> Tensor:
        """Return the number of rows of each track, ``Tensor[M, 1]`` of the type and device of another tensor."""
        return self.track.bincount(minlength=len(self.targets))[:, None].to(like)


@dataclass(frozen=True)
class ProbeData:
    """A task in numbers: its name and kind, number of outputs, the metric that chooses, and the three splits."""

    task: str
    kind: str
    outputs: int
    metric: str
    train: Examples
    valid: Examples
    test: Examples


class Inputs:
    """The features and targets of a task for one upstream, as tensors.

    Args:
        task: the task.
        clips: the usable clips.
        keys: their keys in the cache.
        space: the cache space of their features.
        widths: of the rows of each layer that the cache holds for all clips, ascending.
        device: of the tensors.
        probe: whose settings decide the rows of a track.

    Attributes:
        data: rows, tracks and targets of the splits.
        tracks: names of the tracks of each split, in the order of their numbers.
        rows: number of rows of each clip, ``int64[clips]``.
    """

    def __init__(
        self, task: Task, clips: Sequence[Clip], keys: Sequence[str], space: Space, widths: dict[int, int],
        device: torch.device, probe: Probe | None = None,
    ):  # fmt: skip
        self.task, self.clips, self.keys, self.space = task, clips, keys, space
        self.widths, self.device, self.probe = widths, device, probe or Probe()
        self.rows = self._rows()
        self.tracks: dict[Split, list[str]] = {
            split: list(dict.fromkeys(clip.track for clip in clips if clip.split == split)) for split in SPLITS
        }
        self.data = ProbeData(
            task=task.name,
            kind=task.kind,
            outputs=len(task.labels),
            metric=self.probe.metric or task.main_metric,
            train=self._examples("train"),
            valid=self._examples("valid"),
            test=self._examples("test"),
        )

    @property
    def layers(self) -> list[int]:
        """The layers that the cache holds for all clips."""
        return list(self.widths)

    def features(self, layers: Sequence[int]) -> Tensor:
        """Return the rows of some layers of one width, ``Tensor[L, R, D]``, on the device.

        Raises:
            MarbleError: they are no longer in the cache, or damaged.
        """
        count = sum(map(len, self.tracks.values())) if self.probe.average_windows else int(self.rows.sum())
        stacked = torch.empty(len(layers), count, self.widths[layers[0]], device=self.device)
        for rows, layer in zip(stacked, layers, strict=True):
            windows = torch.from_numpy(self.space.read(self.keys, layer)[0])
            rows.copy_(self._averaged(windows) if self.probe.average_windows else windows)
        return stacked

    def _rows(self) -> np.ndarray:
        """Return the number of rows of each clip."""
        return self.space.read(self.keys, self.layers[0])[1]

    def _averaged(self, windows: Tensor) -> Tensor:
        """Return the mean over the windows of each track, ``Tensor[tracks, D]``, split after split, of ``windows[R, D]``."""
        keys = [(split, name) for split, names in self.tracks.items() for name in names]
        number = {key: index for index, key in enumerate(keys)}
        track = torch.from_numpy(np.repeat([number[clip.split, clip.track] for clip in self.clips], self.rows))
        total = windows.new_zeros(len(number), windows.shape[1]).index_add_(0, track, windows)
        return total / track.bincount(minlength=len(number))[:, None]

    def _examples(self, split: Split) -> Examples:
        own = np.array([clip.split == split for clip in self.clips])
        clips = [clip for clip in self.clips if clip.split == split]
        first = {clip.track: clip for clip in reversed(clips)}
        number = {name: index for index, name in enumerate(self.tracks[split])}
        rows = np.flatnonzero(np.repeat(own, self.rows))
        track = np.repeat([number[clip.track] for clip in clips], self.rows[own])
        targets = self.task.encode([first[name] for name in self.tracks[split]])
        if self.probe.average_windows:
            before = sum(len(self.tracks[other]) for other in SPLITS[: SPLITS.index(split)])
            track = np.arange(len(targets))
            rows = before + track
        elif self.probe.test_windows == "first" and split != "train":
            track, position = np.unique(track, return_index=True)
            rows = rows[position]
        rows, track, targets = (torch.from_numpy(values).to(self.device) for values in (rows, track, targets))
        return Examples(rows, track, targets)
