"""Batches: which training rows the probes of each seed see at each step.

Conventions
-----------
- Rows are positions among the training rows, ``int64[S, B]`` for S seeds; all seeds have batches of one size. Batches of whole
  tracks differ in size, so they serve one seed at a time.
- An epoch shows every row once (``shuffled``, ``fixed``), or as many batches of as many rows (``drawn``: without replacement
  within a batch, whatever was in others). With one window a track, it has one row of each track, drawn anew.
- Where tracks weigh the same, a row's weight is one over the rows of its track.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from marble.probe.inputs import Examples
from marble.probe.settings import Probe
from marble.random_streams import generator


class Batches:
    """The batches of some seeds.

    Attributes:
        steps: batches in an epoch.
    """

    def __init__(self, task: str, seeds: Sequence[int], train: Examples, settings: Probe):
        if settings.batch_of == "tracks" and len(seeds) > 1:
            raise ValueError("Batches of whole tracks differ in size: train one seed at a time.")
        self.settings, self.device = settings, train.rows.device
        self.orders = [generator(task, seed, "order") for seed in seeds]
        self.windows = [generator(task, seed, "windows") for seed in seeds]
        track = train.track.cpu()
        self.rows_of = track.bincount(minlength=len(train.targets))
        self.rows = track.argsort(stable=True)
        self.first = self.rows_of.cumsum(0) - self.rows_of
        self.count = len(self.rows_of) if settings.batch_of == "tracks" or settings.train_windows == "one" else len(track)
        self.steps = math.ceil(self.count / settings.batch_size)
        self.weights = train.weights() if settings.weight == "track" else None

    def epoch(self) -> Iterator[Tensor]:
        """Yield the rows of each batch of an epoch, ``int64[S, B]``."""
        size = self.settings.batch_size
        single = self.settings.train_windows == "one"
        rows = torch.stack([self._one_of_each(stream) for stream in self.windows]) if single else None
        order = None if self.settings.order == "drawn" else self._order()
        if rows is None and self.settings.batch_of == "rows" and order is not None:
            yield from order.to(self.device).split(size, dim=1)
            return
        for step in range(self.steps):
            chosen = self._order()[:, :size] if order is None else order[:, step * size : (step + 1) * size]
            if rows is not None:
                chosen = rows.gather(1, chosen)
            elif self.settings.batch_of == "tracks":
                chosen = torch.stack([self._all_of(tracks) for tracks in chosen])
            yield chosen.to(self.device)

    def _order(self) -> Tensor:
        if self.settings.order == "fixed":
            return torch.arange(self.count).expand(len(self.orders), -1)
        return torch.stack([torch.randperm(self.count, generator=stream) for stream in self.orders])

    def _one_of_each(self, stream: torch.Generator) -> Tensor:
        drawn = torch.rand(len(self.rows_of), generator=stream, dtype=torch.float64)
        return self.rows[self.first + (drawn * self.rows_of).long()]

    def _all_of(self, tracks: Tensor) -> Tensor:
        """Return the rows of some tracks, one track after another."""
        counts = self.rows_of[tracks]
        ends = counts.cumsum(0)
        within = torch.arange(int(ends[-1])) - (ends - counts).repeat_interleave(counts)
        return self.rows[self.first[tracks].repeat_interleave(counts) + within]


def largest_batch(rows_of: Tensor, settings: Probe) -> int:
    """Return the most rows that a batch can have, from the number of rows of each training track."""
    if settings.batch_of == "tracks" and settings.train_windows == "all":
        return int(rows_of.sort(descending=True).values[: settings.batch_size].sum())
    return settings.batch_size
