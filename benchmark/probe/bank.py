"""The probe bank: probes of all layers, seeds and learning rates trained in one loop.

Conventions
-----------
- A *group* is (layer, seed); its *members* are the learning rates. A group whose layer is ``"weighted"`` reads the sum of
  all layers with softmax weights, zero-initialised and learned with the probe.
- A probe is a head (`marble.probe.heads`) on the rows of its layer, trained by the loss of the task's kind
  (`marble.kinds`); the answer for a track is the mean over its rows.
- All members of a seed see the same minibatches and the same dropout masks; initial weights depend on (task, seed) and the
  width only. So a probe does not change when other layers, seeds or rates are added or removed.
- Arithmetic: one batched matrix product over all members and a fused Adam (Kingma & Ba 2015, betas .9 and .999, eps 1e-8)
  for each learning rate. In float64 it agrees with one `torch.optim.Adam` for each probe to 1e-10 (tests/probe).
- After each epoch the main metric is computed over all validation tracks; the best epoch of each member is kept, a member
  stops `patience` epochs after it, and finished members leave the stack.
- The learning rate of a group is the one with the best validation metric. Only then, and only for this rate, is the
  test split evaluated.

`VERSION` is part of the identity of a trained probe: raise it whenever a change here changes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

from marble.kinds import kind_of
from marble.probe.answers import Answers, Group, Training
from marble.probe.heads import make_head, padded
from marble.probe.inputs import Examples, ProbeData
from marble.probe.metrics import METRICS
from marble.probe.protocol import Probe
from marble.random_streams import dropout_generator, order_generator

VERSION = 2
# Numbers that an evaluation holds at once; a CPU is fastest while they stay in its caches and need no fresh pages.
_EVALUATION_ELEMENTS = {"cpu": 2**22, "cuda": 2**28}


def train_probes(
    features: Tensor,
    layers: Sequence[int],
    groups: Sequence[Group],
    data: ProbeData,
    settings: Probe,
    on_epochs: Callable[[int], object] = lambda epochs: None,
) -> list[Answers]:
    """Train all groups together and return their answers in their order.

    Args:
        features: ``Tensor[L, R, D]``, the rows; its device and type are those of the whole computation.
        layers: the layer of each of the L slices.
        groups: to train; single layers must be among `layers`, "weighted" sums over all of them.
        data: the task and its splits.
        settings: the probe of the protocol.
        on_epochs: called with the number of epochs done: 1 after each, and all that are left when the last member has stopped.
    """
    bank = _Bank(features, layers, groups, data, settings)
    for epoch in range(1, settings.epochs + 1):
        bank.train_epoch()
        bank.validate(epoch)
        if not len(bank.member):
            on_epochs(settings.epochs - epoch + 1)
            break
        on_epochs(1)
    return bank.choose()


def bytes_per_member(width: int, data: ProbeData, settings: Probe) -> int:
    """Return the memory that one member of a bank needs while it learns, in bytes."""
    rows = max(len(data.valid.rows), len(data.test.rows))
    return make_head(settings, data.outputs).bytes_per_member(width, settings.batch_size) + 4 * rows * data.outputs


class _Bank:
    """The stacked members, sorted by learning rate and then by group."""

    def __init__(self, features: Tensor, layers: Sequence[int], groups: Sequence[Group], data: ProbeData, settings: Probe):
        self.features, self.groups, self.data, self.settings = features, list(groups), data, settings
        self.kind, self.head = kind_of(data.kind), make_head(settings, data.outputs)
        device, dtype = features.device, features.dtype
        self.seeds = sorted({group.seed for group in groups})
        position = {layer: number for number, layer in enumerate(layers)}
        self.slice_of_group = torch.tensor([position.get(group.layer, -1) for group in groups], device=device)
        self.sums = any(group.layer == "weighted" for group in groups)
        self.seed_of_group = torch.tensor([self.seeds.index(group.seed) for group in groups], device=device)
        count = len(groups) * len(settings.learning_rates)
        self.member = torch.arange(count, device=device)
        layer_logits = padded(torch.zeros(1, len(layers)))
        drawn = {seed: [*self.head.initial(data.task, seed, features.shape[2]), layer_logits] for seed in self.seeds}
        stacked = [torch.stack(weights) for weights in zip(*(drawn[group.seed] for group in groups), strict=True)]
        self.weights = [values.to(device, dtype).repeat(len(settings.learning_rates), 1, 1) for values in stacked]
        self._learn()
        self.gradient = torch.empty_like(self.weights[0])
        self.moments = [[torch.zeros_like(values) for values in self.weights] for _ in range(2)]
        self.step_counters = [[torch.zeros((), device=device) for _ in self.weights] for _ in settings.learning_rates]
        self.parts = self._rate_parts()
        self.kept = [values.detach().clone() for values in self.weights]
        self.best = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
        self.best_epoch = torch.zeros(count, dtype=torch.int64, device=device)
        self.orders = [order_generator(data.task, seed) for seed in self.seeds]
        self.dropouts = [dropout_generator(data.task, seed, device) for seed in self.seeds]
        self.train_targets, self.target_mean, self.target_scale = self._training_targets()

    def train_epoch(self) -> None:
        """Let every member see every training row once."""
        rows, size = self.data.train.rows, self.settings.batch_size
        order = torch.stack([torch.randperm(len(rows), generator=generator) for generator in self.orders]).to(rows.device)
        group = self.member % len(self.groups)
        seed = self.seed_of_group[group]
        for begin in range(0, len(rows), size):
            chosen = order[:, begin : begin + size]
            outputs = self._outputs(self.weights, group, rows[chosen], self._dropout_masks(chosen.shape[1]))
            self.kind.loss(outputs, self.train_targets[chosen][seed]).sum().backward()
            self._step()

    @torch.no_grad()
    def validate(self, epoch: int) -> None:
        """Score all members on the validation split, keep the weights that improved, and drop finished members."""
        valid = self.data.valid
        total = self.features.new_zeros(len(self.member), len(valid.targets), self.data.outputs)
        for part, answers in self._answers(self.weights, self.member % len(self.groups), valid):
            total.index_add_(1, valid.track[part], answers)
        metric = METRICS[self.data.metric]
        score = metric(total / valid.rows_of_tracks(total), valid.targets).to(self.best)
        score *= 1 if metric.higher_is_better else -1
        improved = score.nan_to_num(nan=-torch.inf) > self.best[self.member]
        members = self.member[improved]
        self.best[members], self.best_epoch[members] = score[improved], epoch
        for kept, values in zip(self.kept, self.weights, strict=True):
            kept[members] = values[improved]
        learning = epoch - self.best_epoch[self.member] < self.settings.patience
        if not learning.all():
            self._compact(learning)

    @torch.no_grad()
    def choose(self) -> list[Answers]:
        """Choose the learning rate of each group on validation, and only then evaluate the test split."""
        scores = self.best.view(-1, len(self.groups)).T
        chosen = scores.argmax(dim=1)
        group = torch.arange(len(self.groups), device=chosen.device)
        weights = [values[chosen * len(self.groups) + group] for values in self.kept]
        validation, test = (
            torch.cat([answers.cpu() for _, answers in self._answers(weights, group, split)], dim=1)
            for split in (self.data.valid, self.data.test)
        )
        epochs = self.best_epoch.view(-1, len(self.groups)).T
        sign = 1 if METRICS[self.data.metric].higher_is_better else -1
        return [
            Answers(
                validation=validation[number],
                test=test[number],
                training=Training(
                    learning_rate=self.settings.learning_rates[chosen[number]],
                    epoch=int(epochs[number, chosen[number]]),
                    grid_scores=sign * scores[number].cpu(),
                    grid_epochs=epochs[number].cpu(),
                ),
                layer_weights=weights[-1][number, 0, : len(self.features)].softmax(dim=0).cpu()
                if self.groups[number].layer == "weighted"
                else torch.empty(0),
            )
            for number in range(len(self.groups))
        ]

    def _training_targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the standardised targets of the training rows, and the mean and scale that restore answers."""
        targets, track = self.data.train.targets, self.data.train.track
        if not targets.is_floating_point():
            return targets[track], targets.new_zeros(1), targets.new_ones(1)
        targets = targets.to(self.features)
        mean, scale = self.kind.scale(targets)
        return ((targets - mean) / scale)[track], mean, scale

    def _dropout_masks(self, size: int) -> Tensor | None:
        """Return for each seed the factors of its hidden units, ``Tensor[S, B, H]``; None without dropout."""
        rate, hidden = self.settings.dropout, self.head.hidden
        if not rate or not hidden:
            return None
        device = self.features.device
        drawn = [torch.rand(size, hidden, generator=generator, device=device) for generator in self.dropouts]
        return padded((torch.stack(drawn) >= rate).to(self.features.dtype) / (1 - rate))

    def _outputs(self, weights: list[Tensor], group: Tensor, rows: Tensor, masks: Tensor | None) -> Tensor:
        """Return the outputs ``Tensor[K, B, C]`` of members of the given groups for rows ``int64[S, B]`` of each seed."""
        *own, layer_logits = weights
        inputs = self._inputs(layer_logits, group, rows)
        return self.head.outputs(own, inputs, None if masks is None else masks[self.seed_of_group[group]], self.gradient)

    def _inputs(self, layer_logits: Tensor, group: Tensor, rows: Tensor) -> Tensor:
        """Return the inputs of each member, ``Tensor[K, B, D]``: its layer, or its weighted sum of all layers."""
        part, seed = self.slice_of_group[group], self.seed_of_group[group]
        inputs = self.features[part.clamp(min=0)[:, None], rows[seed]]
        for number in range(len(self.seeds)) if self.sums else ():
            summed = ((part < 0) & (seed == number)).nonzero()[:, 0]
            layers = self.features[:, rows[number]].flatten(start_dim=1)
            mixed = layer_logits[summed, 0, : len(layers)].softmax(dim=1) @ layers
            inputs = inputs.index_copy(0, summed, mixed.view(len(summed), *inputs.shape[1:]))
        return inputs

    def _answers(self, weights: list[Tensor], group: Tensor, split: Examples) -> Iterator[tuple[slice, Tensor]]:
        """Yield stretches of the rows of a split and the answers to them, ``Tensor[K, B, C]``, in the targets' own units."""
        width = max(self.features.shape[2], self.head.hidden)
        size = max(1, _EVALUATION_ELEMENTS[self.features.device.type] // (len(group) * width))
        for begin in range(0, len(split.rows), size):
            part = slice(begin, begin + size)
            outputs = self._outputs(weights, group, split.rows[part].expand(len(self.seeds), -1), None)
            yield part, outputs * self.target_scale + self.target_mean

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
        """Let autograd follow all weights but the first, whose gradient `marble.probe.heads.first_layer` writes."""
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
