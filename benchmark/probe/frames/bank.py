"""The bank of frame tasks: probes of all layers, seeds and learning rates that answer every frame of a track.

Conventions
-----------
- Members, heads, optimiser and choice are those of `marble.probe.training.members`; a probe sees one frame at a time.
- An epoch shows one chunk of each training track, `chunk` seconds at a start that is drawn from all whole frames from which a
  chunk holds a scored frame, in an order that is drawn; tracks without a scored frame are left out. Both draws depend on (task,
  seed) alone. So no batch is made of one song, and long songs do not outweigh short ones.
- A batch is `batch_size` chunks, the shorter ones padded. Its loss is the sum over its scored frames divided by their number.
- Features are shifted and scaled to mean 0 and deviation 1 over all scored frames of the training tracks, by sums in float64.
  So no frame that is not scored, nor padding, changes a number.
- Validation is on whole tracks: the share of scored frames with the right class, or the F-measure of all tags at a logit of 0,
  over all frames at once. It chooses epoch and learning rate, and costs a fraction of the metrics of the task, which choose
  the layer. It takes place after each of the first ten epochs, then after every fifth; other `validate_every` are obeyed.
- Features are read when they are needed, one layer and batch ahead; members are computed one after another, since one fills
  the processor. Memory is that of the members' weights, of one member's activations and of what the reader holds.

`VERSION` is part of the identity of a trained probe: raise it whenever a change here changes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from marble.features.frame_reader import ahead
from marble.kinds import kind_of
from marble.probe.answers import Group
from marble.probe.settings import Probe
from marble.probe.training.heads import make_head, padded
from marble.probe.training.members import Members
from marble.random_streams import generator
from marble.task import Split

VERSION = 1
_EVERY_EPOCH, _THEN_EVERY = 10, 5
_ROWS_AT_ONCE = 2**11


@dataclass(frozen=True)
class FrameData:
    """A frame task in numbers.

    Attributes:
        task, kind: name and kind of the task.
        outputs: number of labels.
        chunk: frames of a chunk.
        splits: the numbers of the tracks of each split.
        targets: of the frames of each track, ``int[T]`` with -1 or ``float[T, C]`` with NaN where nothing is scored.
        read: function from track, layer, first and last frame (not included) to their features, ``float[T, D]``.
    """

    task: str
    kind: str
    outputs: int
    chunk: int
    splits: dict[Split, Sequence[int]]
    targets: Sequence[np.ndarray]
    read: Callable[[int, int, int, int], np.ndarray]

    def scored(self, track: int) -> np.ndarray:
        """Return which frames of a track are scored, ``bool[T]``."""
        return _scored(self.targets[track])


def validations_of(epochs: int, settings: Probe) -> int:
    """Return how often a probe is validated in so many epochs."""
    if settings.validate_every > 1:
        return epochs // settings.validate_every
    return min(epochs, _EVERY_EPOCH) + max(epochs // _THEN_EVERY - _EVERY_EPOCH // _THEN_EVERY, 0)


def _scored(targets: np.ndarray) -> np.ndarray:
    return targets >= 0 if targets.ndim == 1 else np.isfinite(targets.sum(axis=1))


class _Chunks(NamedTuple):
    """The chunks of a batch of a seed: their tracks and first frames."""

    tracks: list[int]
    starts: list[int]


class FrameBank(Members):
    """The members and the chunks that they learn from.

    Args:
        data: the task and its frames.
        width: of the features of all layers.
        groups: to train, of single layers.
        settings: the probe of the protocol, without a grid.
        like: a tensor of the device and type of the computation.
    """

    def __init__(self, data: FrameData, width: int, groups: Sequence[Group], settings: Probe, like: Tensor):
        self.data, self.kind, self.dtype = data, kind_of(data.kind), like.dtype
        self.head = make_head(settings, data.outputs)
        initial = {group.seed: self.head.initial(data.task, group.seed, width) for group in groups}
        super().__init__(groups, settings, True, initial, self.head.statistics(), like)
        self.layers = list(dict.fromkeys(int(group.layer) for group in groups))
        self.train = [track for track in data.splits["train"] if data.scored(track).any()]
        self.scale = {layer: self._scale(layer, width) for layer in self.layers}
        streams = [[generator(data.task, seed, purpose) for seed in self.seeds] for purpose in ("order", "chunks")]
        self.orders, self.luck = streams
        self.dropouts = [generator(data.task, seed, "dropout", self.device) for seed in self.seeds]
        self.input_dropouts = [generator(data.task, seed, "input dropout", self.device) for seed in self.seeds]
        self.streams = [*self.orders, *self.luck, *self.dropouts, *self.input_dropouts]

    def train_epoch(self, epoch: int) -> None:
        """Let every member see a chunk of every track, and validate when it is due."""
        self.train_chunks(epoch)
        if validations_of(epoch, self.settings) > validations_of(epoch - 1, self.settings):
            self.validate(epoch)

    def train_chunks(self, epoch: int) -> None:
        """Let every member see a chunk of every track."""
        chunks = [list(self._epoch(seed)) for seed in range(len(self.seeds))]
        groups = sorted(set((self.member % len(self.groups)).tolist()))
        batches = range(len(chunks[0]))
        parts = ahead(
            lambda item: self._features(chunks[int(self.seed_of_group[item[1]])][item[0]], int(self.groups[item[1]].layer)),
            ((batch, group) for batch in batches for group in groups),
        )
        for batch in batches:
            seeds = {seed: self._batch(chunks[seed][batch], seed) for seed in self.seed_of_group[groups].unique().tolist()}
            for group in groups:
                self._learn_from(next(parts), group, *seeds[int(self.seed_of_group[group])])
            self.step()
            if self.optimiser.done == self.settings.steps:
                break
        parts.close()

    @torch.no_grad()
    def validate(self, epoch: int) -> None:
        """Score all members on whole validation tracks, keep the weights that are wanted, and drop finished members."""
        sums = torch.zeros(len(self.member), 2, dtype=torch.float64, device=self.device)
        everyone = self.member % len(self.groups)
        for track, members, outputs in self.answers("valid", self.weights, self.statistics, everyone):
            targets, scored = (self._tensor(values) for values in (self.data.targets[track], self.data.scored(track)))
            for member, answer in zip(members, outputs, strict=True):
                sums[member] += self._counts(answer[scored], targets[scored])
        self.keep(epoch, sums[:, 0] / sums[:, 1])

    @torch.no_grad()
    def answers(
        self, split: Split, weights: Sequence[Tensor], statistics: Sequence[Tensor], group: Tensor
    ) -> Iterator[tuple[int, list[int], Iterator[Tensor]]]:
        """Yield, for each layer and track of a split, the track, the members of the layer, and their logits ``Tensor[T, C]``.

        Args:
            split: the tracks.
            weights, statistics: of K members.
            group: of each of them, ``int64[K]``.
        """
        layer_of = torch.tensor([int(group.layer) for group in self.groups])[group.cpu()]
        layers = [layer for layer in self.layers if (layer_of == layer).any()]
        items = [(track, layer) for layer in layers for track in self.data.splits[split]]
        read = ahead(lambda item: self.data.read(item[0], item[1], 0, len(self.data.targets[item[0]])), items)
        for (track, layer), features in zip(items, read, strict=True):
            members = (layer_of == layer).nonzero()[:, 0].tolist()
            inputs = self._standardised(torch.from_numpy(features), layer)[None]
            yield track, members, (self._outputs(weights, statistics, member, inputs)[0] for member in members)

    def _outputs(
        self, weights: Sequence[Tensor], statistics: Sequence[Tensor], member: int, inputs: Tensor,
        masks: Sequence[Tensor] = (), *, learning: bool = False,
    ) -> Tensor:  # fmt: skip
        """Return the outputs ``Tensor[1, N, C]`` of a member for ``inputs[1, N, D]``."""
        own = slice(member, member + 1)
        return self.head.outputs(
            [values[own] for values in weights], [values[own] for values in statistics], inputs, list(masks),
            self.gradient[own], learning=learning,
        )  # fmt: skip

    def _learn_from(self, features: Tensor, group: int, targets: Tensor, scored: Tensor, masks: list[Tensor]) -> None:
        """Add the gradients of the members of a group on a batch, ``features[B, T, D]``."""
        inputs = self._standardised(features, int(self.groups[group].layer)).flatten(0, 1)[None]
        if self.settings.input_dropout:
            inputs = inputs * masks[0]
        masks = masks[bool(self.settings.input_dropout) :]
        for member in (self.member % len(self.groups) == group).nonzero()[:, 0].tolist():
            outputs = self._outputs(self.weights, self.statistics, member, inputs, masks, learning=True)
            self.kind.loss(outputs, targets[None], scored[None]).sum().backward()

    def _epoch(self, seed: int) -> Iterator[_Chunks]:
        """Yield the chunks of each batch of an epoch of a seed."""
        order = torch.randperm(len(self.train), generator=self.orders[seed])
        luck = torch.rand(len(self.train), generator=self.luck[seed], dtype=torch.float64)
        for numbers in order.split(self.settings.batch_size):
            tracks = [self.train[number] for number in numbers.tolist()]
            yield _Chunks(tracks, list(map(self._start, tracks, luck[numbers].tolist())))

    def _start(self, track: int, luck: float) -> int:
        """Return the first frame of a chunk, drawn from those from which a chunk holds a scored frame."""
        sums = np.concatenate([[0], self.data.scored(track).cumsum()])
        length = min(self.data.chunk, len(sums) - 1)
        starts = np.flatnonzero(sums[length:] > sums[: len(sums) - length])
        return int(starts[int(luck * len(starts))])

    def _features(self, chunks: _Chunks, layer: int) -> Tensor:
        """Return the features of a batch as they are stored, ``Tensor[B, T, D]``, padded with zeros."""
        parts = [
            self.data.read(track, layer, start, min(start + self.data.chunk, len(self.data.targets[track])))
            for track, start in zip(*chunks, strict=True)
        ]
        length = max(map(len, parts))
        return torch.from_numpy(np.stack([np.pad(part, ((0, length - len(part)), (0, 0))) for part in parts]))

    def _batch(self, chunks: _Chunks, seed: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return targets, weights and dropout masks of the frames of a batch; padding and unscored frames weigh nothing."""
        chunk = self.data.chunk
        parts = [self.data.targets[track][start : start + chunk] for track, start in zip(*chunks, strict=True)]
        length = max(map(len, parts))
        shape = (length * len(parts), *parts[0].shape[1:])
        targets = np.full(shape, -1 if parts[0].ndim == 1 else np.nan, dtype=np.float64)
        for number, part in enumerate(parts):
            targets[number * length : number * length + len(part)] = part
        scored = _scored(targets)
        targets[~scored] = 0
        frames = self._tensor(targets)
        frames = frames.long() if targets.ndim == 1 else frames.to(self.dtype)
        sizes = [(self.settings.dropout, units, self.dropouts) for units in self.head.hidden]
        masks = [padded(self._mask(rate, shape[0], units, streams[seed])) for rate, units, streams in sizes if rate]
        if rate := self.settings.input_dropout:
            width = self.weights[0].shape[1]
            masks.insert(0, self._mask(rate, shape[0], width, self.input_dropouts[seed]))
        return frames, self._tensor(scored).to(self.dtype), masks

    def _mask(self, rate: float, size: int, units: int, stream: torch.Generator) -> Tensor:
        """Return 0 for what is silenced and more than 1 for the rest, ``Tensor[1, N, H]``."""
        drawn = torch.rand(size, units, generator=stream, device=self.device)
        return ((drawn >= rate).to(self.dtype) / (1 - rate))[None]

    def _counts(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Return numerator and denominator of the score of one member on the scored frames of a track, ``float64[2]``."""
        if targets.ndim == 1:
            right, every = answers.argmax(1) == targets, targets.new_ones(len(targets))
        else:
            right, every = 2 * ((answers > 0) & (targets > 0)), (answers > 0).long() + (targets > 0)
        counts = torch.stack([right.sum(), every.sum()]).double()
        return counts + torch.where(answers.isnan().any(), torch.nan, 0.0)

    def _scale(self, layer: int, width: int) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of the features of a layer over the scored frames of the training tracks, ``Tensor[D]``.

        A dimension that is constant there (deviation below 1e-6 of its size) has deviation 1.
        """
        sums, largest = torch.zeros(2, width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
        if not self.settings.standardise:
            return sums[0].to(self.device, self.dtype), torch.ones(width).to(self.device, self.dtype)
        count = 0
        shift = torch.zeros(width, dtype=torch.float64)
        for values in ahead(lambda part: self._scored_rows(layer, *part), self._parts()):
            rows = torch.from_numpy(values).double()
            if not len(rows):
                continue
            # Sums of squares about a value near the mean keep their digits.
            shift = shift if count else rows.mean(0)
            count += len(rows)
            largest = largest.maximum(rows.amax(0)).maximum(-rows.amin(0))
            rows -= shift
            sums[0] += rows.sum(0)
            sums[1] += rows.square_().sum(0)
        mean = sums[0] / count
        deviation = (sums[1] / count - mean.square()).clamp(min=0).sqrt()
        deviation[deviation <= 1e-6 * largest] = 1.0
        return (mean + shift).to(self.device, self.dtype), deviation.to(self.device, self.dtype)

    def _parts(self) -> Iterator[tuple[int, int, int]]:
        """Yield the training tracks in parts: track, first and last frame."""
        for track in self.train:
            for begin in range(0, len(self.data.targets[track]), _ROWS_AT_ONCE):
                yield track, begin, min(begin + _ROWS_AT_ONCE, len(self.data.targets[track]))

    def _scored_rows(self, layer: int, track: int, begin: int, end: int) -> np.ndarray:
        return self.data.read(track, layer, begin, end)[self.data.scored(track)[begin:end]]

    def _standardised(self, features: Tensor, layer: int) -> Tensor:
        mean, deviation = self.scale[layer]
        return (features.to(self.device).to(self.dtype) - mean).div_(deviation)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)
