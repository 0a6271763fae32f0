"""The probe bank: probes of all layers, seeds and learning rates trained in one loop.

Conventions
-----------
- A *group* is (layer, seed); its *members* are the learning rates. A group whose layer is ``"weighted"`` reads the sum of
  all layers with softmax weights, zero-initialised and learned with the probe.
- A probe is Linear(D, H) - ReLU - Dropout - Linear(H, C) on windows; the answer for a track is the mean of the logits of
  its windows. Losses: cross-entropy; binary cross-entropy; squared error on targets standardised over the training split;
  for ordinal tasks squared error against ones up to the true class and zeros beyond (Ramoneda et al. 2025).
- All members of a seed see the same minibatches and the same dropout masks; initial weights depend on (task, seed) and the
  width only. So a probe does not change when other layers, seeds or rates are added or removed.
- Arithmetic: one batched matrix product over all members and a fused Adam (Kingma & Ba 2015, betas .9 and .999, eps 1e-8)
  for each learning rate. In float64 it agrees with one `torch.optim.Adam` for each probe to 1e-10 (tests/benchmark).
- After each epoch the main metric is computed over the whole validation split; the best epoch of each member is kept, a
  member stops `patience` epochs after it, and finished members leave the stack.
- The learning rate of a group is the one with the best validation metric. Only then, and only for it, is the test split
  looked at.

`VERSION` is part of the identity of a trained probe: raise it whenever a change here changes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam

from marble.probe.metrics import METRICS
from marble.probe.protocol import Probe
from marble.random_streams import dropout_generator, initial_weights, order_generator
from marble.task import Kind

VERSION = 1
# Numbers that an evaluation holds at once; a CPU is fastest while they stay in its caches and need no fresh pages.
_EVALUATION_ELEMENTS = {"cpu": 2**22, "cuda": 2**28}


class Group(NamedTuple):
    """A layer (its index, or "weighted") and a seed."""

    layer: int | str
    seed: int


@dataclass(frozen=True)
class Tracks:
    """The windows of one split and the tracks they belong to.

    Attributes:
        rows: ``int64[W]``, where the windows stand among all windows of the task.
        track: ``int64[W]``, which track each window belongs to.
        targets: of the tracks: ``int64[M]``, or ``float[M, C]``.
    """

    rows: Tensor
    track: Tensor
    targets: Tensor

    def windows(self) -> Tracks:
        """Return the same windows, each as a track of its own."""
        return Tracks(self.rows, torch.arange(len(self.rows), device=self.rows.device), self.targets[self.track])


@dataclass(frozen=True)
class Question:
    """What a bank of probes is asked: the task's name and kind, number of outputs, main metric, and the three splits.

    `windows` asks for the answers to single windows as well.
    """

    task: str
    kind: Kind
    outputs: int
    metric: str
    train: Tracks
    valid: Tracks
    test: Tracks
    windows: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained group.

    Attributes:
        learning_rate: the chosen one.
        epoch: the chosen one, counted from 1; 0 where the metric never had a value (a diverged probe).
        grid_scores: validation metric of each learning rate at its best epoch, ``float64[R]``.
        grid_epochs: that epoch, ``int64[R]``.
        validation: logits of the validation tracks at the chosen rate and epoch, ``Tensor[M, C]``.
        test: logits of the test tracks, likewise.
        layer_weights: learned softmax weights of a weighted sum, ``Tensor[L]``; empty for a single layer.
        validation_windows: logits of the validation windows, ``Tensor[W, C]``; empty where the question does not want them.
        test_windows: logits of the test windows, likewise.
    """

    learning_rate: float
    epoch: int
    grid_scores: Tensor
    grid_epochs: Tensor
    validation: Tensor
    test: Tensor
    layer_weights: Tensor
    validation_windows: Tensor
    test_windows: Tensor


def train_probes(
    features: Tensor,
    layers: Sequence[int],
    groups: Sequence[Group],
    question: Question,
    settings: Probe,
    on_epochs: Callable[[int], object] = lambda epochs: None,
) -> list[Trained]:
    """Train all groups together and return them in their order.

    Args:
        features: ``Tensor[L, W, D]``, pooled windows; its device and type are those of the whole computation.
        layers: which layer each of the L slices is.
        groups: what to train; single layers must be among `layers`, "weighted" sums over all of them.
        question: the task.
        settings: the probe of the protocol.
        on_epochs: called with the number of epochs done: 1 after each, and all that are left when the last member has stopped.
    """
    bank = _Bank(features, layers, groups, question, settings)
    for epoch in range(1, settings.epochs + 1):
        bank.train_epoch()
        bank.judge(epoch)
        if not len(bank.member):
            on_epochs(settings.epochs - epoch + 1)
            break
        on_epochs(1)
    return bank.choose()


def bytes_per_member(width: int, outputs: int, settings: Probe, tracks: int) -> int:
    """Return the memory that one member of a bank needs while it learns, in bytes: five times its weights, and activations."""
    weights = width * settings.hidden + settings.hidden * (outputs + 1) + outputs
    activations = settings.batch_size * (2 * width + 6 * settings.hidden) + tracks * outputs
    return 4 * (5 * weights + activations)


def loss(kind: Kind, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each member, ``Tensor[K]``, from logits ``Tensor[K, B, C]`` and targets [K, B] or [K, B, C]."""
    if kind == "multiclass":
        return -logits.log_softmax(dim=2).gather(2, targets[:, :, None]).mean(dim=(1, 2))
    if kind == "multilabel":
        both = torch.stack([torch.zeros_like(logits), logits], dim=3).log_softmax(dim=3)
        return -torch.lerp(both[..., 0], both[..., 1], targets).mean(dim=(1, 2))
    if kind == "ordinal":
        targets = (torch.arange(logits.shape[2], device=logits.device) <= targets[:, :, None]).to(logits)
    return (logits - targets).square().mean(dim=(1, 2))


def _padded(values: Tensor, *, rows: bool = False) -> Tensor:
    """Return ``Tensor[..., R, C]`` with zero columns (and rows) up to a multiple of 16.

    Such units learn nothing. They put every member on a boundary of the vector registers, so that the last bits of its
    arithmetic do not depend on how many members stand before it.
    """
    height, width = values.shape[-2:]
    return functional.pad(values, (0, -width % 16, 0, -height % 16 if rows else 0))


class _FirstLayer(torch.autograd.Function):
    """``inputs @ weight + bias`` of all members, with the weight's gradient written to a tensor that is made once.

    This gradient is nearly all the memory that a step touches; fresh pages for it would cost as much as the product itself.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor) -> Tensor:
        """Return ``Tensor[K, B, H]`` from [K, B, D], [K, D, H] and [K, 1, H]."""
        ctx.save_for_backward(inputs, weight)
        ctx.gradient = gradient
        return torch.baddbmm(bias, inputs, weight)

    @staticmethod
    def backward(ctx: Any, *upper: Tensor) -> tuple[Tensor | None, None, Tensor, None]:
        """Write the weight's gradient; return those of the inputs (where a weighted sum learns from them) and the bias."""
        inputs, weight = ctx.saved_tensors
        torch.bmm(inputs.transpose(1, 2), upper[0], out=ctx.gradient)
        lower = torch.bmm(upper[0], weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return lower, None, upper[0].sum(dim=1, keepdim=True), None


class _Bank:
    """The stacked members, sorted by learning rate and then by group."""

    def __init__(self, features: Tensor, layers: Sequence[int], groups: Sequence[Group], question: Question, settings: Probe):
        self.features, self.groups, self.question, self.settings = features, list(groups), question, settings
        device, dtype = features.device, features.dtype
        self.seeds = sorted({group.seed for group in groups})
        position = {layer: number for number, layer in enumerate(layers)}
        self.slice_of_group = torch.tensor([position.get(group.layer, -1) for group in groups], device=device)
        self.sums = any(group.layer == "weighted" for group in groups)
        self.seed_of_group = torch.tensor([self.seeds.index(group.seed) for group in groups], device=device)
        count = len(groups) * len(settings.learning_rates)
        self.member = torch.arange(count, device=device)
        sizes = (features.shape[2], settings.hidden, question.outputs)
        drawn = {seed: [*initial_weights(question.task, seed, *sizes), torch.zeros(1, len(layers))] for seed in self.seeds}
        stacked = [
            _padded(torch.stack([drawn[group.seed][number] for group in groups]), rows=number == 2) for number in range(5)
        ]
        self.weights = [values.to(device, dtype).repeat(len(settings.learning_rates), 1, 1) for values in stacked]
        self._learn()
        self.gradient = torch.empty_like(self.weights[0])
        self.moments = [[torch.zeros_like(values) for values in self.weights] for _ in range(2)]
        self.step_counters = [[torch.zeros((), device=device) for _ in self.weights] for _ in settings.learning_rates]
        self.parts = self._rate_parts()
        self.kept = [values.detach().clone() for values in self.weights]
        self.best = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
        self.best_epoch = torch.zeros(count, dtype=torch.int64, device=device)
        self.orders = [order_generator(question.task, seed) for seed in self.seeds]
        self.dropouts = [dropout_generator(question.task, seed, device) for seed in self.seeds]
        self.train_targets, self.target_mean, self.target_scale = self._training_targets()

    def train_epoch(self) -> None:
        """Let every member see every training window once."""
        rows, size = self.question.train.rows, self.settings.batch_size
        order = torch.stack([torch.randperm(len(rows), generator=generator) for generator in self.orders]).to(rows.device)
        group = self.member % len(self.groups)
        seed = self.seed_of_group[group]
        for begin in range(0, len(rows), size):
            chosen = order[:, begin : begin + size]
            logits = self._logits(self.weights, group, rows[chosen], self._dropout_masks(chosen.shape[1]))
            loss(self.question.kind, logits, self.train_targets[chosen][seed]).sum().backward()
            self._step()

    @torch.no_grad()
    def judge(self, epoch: int) -> None:
        """Score all members on the validation split, keep what improved, and drop what has stopped improving."""
        logits = self._answers(self.weights, self.member % len(self.groups), self.question.valid)
        metric = METRICS[self.question.metric]
        score = metric(logits, self.question.valid.targets).to(self.best) * (1 if metric.higher_is_better else -1)
        improved = score.nan_to_num(nan=-torch.inf) > self.best[self.member]
        members = self.member[improved]
        self.best[members], self.best_epoch[members] = score[improved], epoch
        for kept, values in zip(self.kept, self.weights, strict=True):
            kept[members] = values[improved]
        learning = epoch - self.best_epoch[self.member] < self.settings.patience
        if not learning.all():
            self._compact(learning)

    @torch.no_grad()
    def choose(self) -> list[Trained]:
        """Choose the learning rate of each group on validation, and only then look at the test split."""
        scores = self.best.view(-1, len(self.groups)).T
        chosen = scores.argmax(dim=1)
        group = torch.arange(len(self.groups), device=chosen.device)
        winners = chosen * len(self.groups) + group
        weights = [values[winners] for values in self.kept]
        splits = (self.question.valid, self.question.test)
        validation, test = (self._answers(weights, group, split) for split in splits)
        windows = [
            self._answers(weights, group, split.windows()) if self.question.windows else test.new_empty(len(group), 0)
            for split in splits
        ]
        epochs = self.best_epoch.view(-1, len(self.groups)).T
        sign = 1 if METRICS[self.question.metric].higher_is_better else -1
        return [
            Trained(
                learning_rate=self.settings.learning_rates[chosen[number]],
                epoch=int(epochs[number, chosen[number]]),
                grid_scores=sign * scores[number].cpu(),
                grid_epochs=epochs[number].cpu(),
                validation=validation[number].cpu(),
                test=test[number].cpu(),
                layer_weights=weights[4][number, 0, : len(self.features)].softmax(dim=0).cpu()
                if self.groups[number].layer == "weighted"
                else torch.empty(0),
                validation_windows=windows[0][number].cpu(),
                test_windows=windows[1][number].cpu(),
            )
            for number in range(len(self.groups))
        ]

    def _training_targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the targets of the training windows, and the mean and scale that regression targets were stripped of."""
        targets, track = self.question.train.targets, self.question.train.track
        if self.question.kind in ("multilabel", "regression"):
            targets = targets.to(self.features)
        if self.question.kind != "regression":
            return targets[track], targets.new_zeros(1), targets.new_ones(1)
        mean, scale = targets.mean(dim=0), targets.std(dim=0, correction=0)
        scale[scale == 0] = 1.0
        return ((targets - mean) / scale)[track], mean, scale

    def _dropout_masks(self, size: int) -> Tensor | None:
        """Return for each seed the factors of its hidden units, ``Tensor[S, B, H]``; None without dropout."""
        rate, hidden = self.settings.dropout, self.settings.hidden
        if not rate:
            return None
        device = self.features.device
        drawn = [torch.rand(size, hidden, generator=generator, device=device) for generator in self.dropouts]
        return _padded((torch.stack(drawn) >= rate).to(self.features.dtype) / (1 - rate))

    def _logits(self, weights: list[Tensor], group: Tensor, rows: Tensor, masks: Tensor | None) -> Tensor:
        """Return the logits ``Tensor[K, B, C]`` of members of the given groups for windows ``int64[S, B]`` of each seed."""
        first, first_bias, second, second_bias, layer_logits = weights
        inputs = self._inputs(layer_logits, group, rows)
        hidden = _FirstLayer.apply(inputs, first, first_bias, self.gradient).relu()
        if masks is not None:
            hidden = hidden * masks[self.seed_of_group[group]]
        return torch.baddbmm(second_bias, hidden, second)[:, :, : self.question.outputs]

    def _inputs(self, layer_logits: Tensor, group: Tensor, rows: Tensor) -> Tensor:
        """Return what each member reads, ``Tensor[K, B, D]``: its layer, or its weighted sum of all layers."""
        part, seed = self.slice_of_group[group], self.seed_of_group[group]
        inputs = self.features[part.clamp(min=0)[:, None], rows[seed]]
        for number in range(len(self.seeds)) if self.sums else ():
            summed = ((part < 0) & (seed == number)).nonzero()[:, 0]
            layers = self.features[:, rows[number]].flatten(start_dim=1)
            mixed = layer_logits[summed, 0, : len(layers)].softmax(dim=1) @ layers
            inputs = inputs.index_copy(0, summed, mixed.view(len(summed), *inputs.shape[1:]))
        return inputs

    def _answers(self, weights: list[Tensor], group: Tensor, tracks: Tracks) -> Tensor:
        """Return the logits of tracks, ``Tensor[K, M, C]``: the mean over their windows, in the targets' own units."""
        size = max(
            1,
            _EVALUATION_ELEMENTS[self.features.device.type] // (len(group) * max(self.features.shape[2], self.settings.hidden)),
        )
        total = self.features.new_zeros(len(group), len(tracks.targets), self.question.outputs)
        for rows, track in zip(tracks.rows.split(size), tracks.track.split(size), strict=True):
            total.index_add_(1, track, self._logits(weights, group, rows.expand(len(self.seeds), -1), None))
        windows = tracks.track.bincount(minlength=len(tracks.targets)).to(total)
        return total / windows[:, None] * self.target_scale + self.target_mean

    def _step(self) -> None:
        """Take one step of Adam: members of one learning rate lie side by side, so each rate is one fused call."""
        small = [torch.zeros_like(values) if values.grad is None else values.grad for values in self.weights[1:]]
        gradients = [self.gradient, *small]
        with torch.no_grad():
            for rate, part, steps in self.parts:
                stacks = (self.weights, gradients, *self.moments)
                weights, slopes, means, squares = ([values[part] for values in stack] for stack in stacks)
                adam(
                    weights, slopes, means, squares, [], steps, lr=rate, beta1=0.9, beta2=0.999, eps=1e-8,
                    weight_decay=0.0, fused=True, amsgrad=False, maximize=False,
                )  # fmt: skip
        for values in self.weights:
            values.grad = None

    def _learn(self) -> None:
        """Let autograd follow all weights but the first, whose gradient `_FirstLayer` writes."""
        for values in self.weights[1:]:
            values.requires_grad_()

    def _rate_parts(self) -> list[tuple[float, slice, list[Tensor]]]:
        """Return each learning rate that has members, where they lie, and the step counters of its optimiser."""
        counts = (self.member // len(self.groups)).bincount(minlength=len(self.settings.learning_rates))
        ends = counts.cumsum(dim=0).tolist()
        parts = zip(self.settings.learning_rates, [0, *ends], ends, self.step_counters, strict=False)
        return [(rate, slice(begin, end), steps) for rate, begin, end, steps in parts if end > begin]

    def _compact(self, keep: Tensor) -> None:
        """Drop the members that have finished."""
        self.member = self.member[keep]
        self.weights = [values.detach()[keep] for values in self.weights]
        self.gradient = self.gradient[: len(self.member)]
        self._learn()
        self.moments = [[values[keep] for values in moment] for moment in self.moments]
        self.parts = self._rate_parts()
