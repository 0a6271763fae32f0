"""The probe bank: probes of all layers, seeds and learning rates trained in one loop.

Conventions
-----------
- A *group* is (layer, seed); its *members* are the learning rates. A group whose layer is ``"weighted"`` reads a learned sum of
  all layers (`marble.probe.training.layer_sums`), by default with softmax weights that begin equal.
- A probe is a head (`marble.probe.training.heads`) on the rows of its layer, trained by the loss of the task's kind
  (`marble.kinds`) with an optimiser (`marble.probe.training.optimiser`) on batches (`marble.probe.training.batches`), all as
  the settings of the probe say (`marble.probe.settings`). The answer for a track is the mean over its rows, by default of
  their logits.
- All members of a seed see the same minibatches and the same dropout masks; initial weights depend on (task, seed) and the
  width only. So a probe does not change when other layers, seeds or rates are added or removed.
- Each step takes the number of threads that is fastest at the time (`marble.probe.training.thread_choice`), which changes no
  number.
- Arithmetic: one batched matrix product over all members and a fused Adam for each learning rate. In float64 it agrees with one
  `torch.optim` optimiser for each probe to 1e-10, whatever the settings (tests/probe).
- After each epoch (or as the settings say) the main metric is computed over all validation tracks; the best epoch of each
  member is kept, a member stops `patience` validations after it, and finished members leave the stack.
- The learning rate of a group is the one with the best validation metric. Only then, and only for this rate, is the
  test split evaluated.

`VERSION` is part of the identity of a trained probe: raise it whenever a change here changes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marble.kinds import KINDS, kind_of
from marble.probe.answers import COMBINATIONS, Answers, Group, combined
from marble.probe.inputs import Examples, ProbeData
from marble.probe.scoring.metrics import METRICS
from marble.probe.settings import Probe
from marble.probe.training.batches import Batches, largest_batch
from marble.probe.training.checkpoint import Checkpoint
from marble.probe.training.heads import make_head, padded
from marble.probe.training.layer_sums import LayerSum
from marble.probe.training.members import Members, train
from marble.probe.training.rate_search import rates_of_test, steepest_rates
from marble.probe.training.thread_choice import ThreadChoice
from marble.random_streams import generator

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
    checkpoint: Checkpoint | None = None,
) -> list[Answers]:
    """Train all groups together and return their answers in their order.

    Args:
        features: ``Tensor[L, R, D]``, the rows; its device and type are those of the whole computation.
        layers: the layer of each of the L slices, ascending.
        groups: to train; single layers must be among `layers`, "weighted" sums over all of them. Of one seed where batches are
            of whole tracks.
        data: the task and its splits.
        settings: the probe of the protocol, without a grid.
        on_epochs: called with the number of epochs done: 1 after each, and all that are left when the last member has stopped.
        checkpoint: of the same groups, data and settings, to go on from and to write.
    """
    bank = Bank(features, layers, groups, data, settings)
    if settings.find_rate:
        rates = steepest_rates(bank.losses_at(rates_of_test()), settings.learning_rates[0])
        bank = Bank(features, layers, groups, data, settings, rates)
    train(bank, epochs_of(settings, data.train), on_epochs, checkpoint)
    return bank.choose()


def epochs_of(settings: Probe, train: Examples) -> int:
    """Return the epochs that a probe trains at most, the last of them perhaps in part."""
    by_steps = -(-settings.steps // Batches("", [], train, settings).steps) if settings.steps else None
    return min(limit for limit in (settings.epochs, by_steps) if limit is not None)


def bytes_per_member(width: int, data: ProbeData, settings: Probe, summed: Sequence[int] = ()) -> int:
    """Return the memory that one member of a bank needs while it learns, in bytes; `summed` are the layers of its sum."""
    rows = max(len(data.valid.rows), len(data.test.rows))
    batch = largest_batch(data.train.track.bincount(), settings)
    size = make_head(settings, data.outputs).bytes_per_member(width, batch) + 4 * rows * data.outputs
    size += 8 * batch * width if settings.input_dropout else 0
    size += LayerSum(settings, summed, width).bytes_per_member(batch) if summed else 0
    return size if settings.arithmetic == "float32" else 2 * size


class Bank(Members):
    """The members and the rows that they learn from; arguments as in `train_probes`."""

    def __init__(
        self, features: Tensor, layers: Sequence[int], groups: Sequence[Group], data: ProbeData, settings: Probe,
        rates: Tensor | None = None,
    ):  # fmt: skip
        self.features, self.data = features, data
        self.head = make_head(settings, data.outputs)
        self.kind = KINDS["multilabel"] if settings.loss == "binary" else kind_of(data.kind)
        device, width = features.device, features.shape[2]
        seeds = sorted({group.seed for group in groups})
        position = {layer: number for number, layer in enumerate(layers)}
        self.slice_of_group = torch.tensor([position.get(group.layer, -1) for group in groups], device=device)
        self.sum = LayerSum(settings, layers, width) if any(group.layer == "weighted" for group in groups) else None
        own = {seed: self.head.initial(data.task, seed, width) for seed in seeds}
        sums = {seed: self.sum.initial(data.task, seed) if self.sum else [] for seed in seeds}
        self.own = len(own[seeds[0]])
        super().__init__(
            groups, settings, METRICS[data.metric].higher_is_better, {seed: own[seed] + sums[seed] for seed in seeds},
            self.head.statistics(), features.new_empty(0), rates,
        )  # fmt: skip
        self.batches = Batches(data.task, self.seeds, data.train, settings)
        self.dropouts = [generator(data.task, seed, "dropout", device) for seed in self.seeds]
        self.input_dropouts = [generator(data.task, seed, "input dropout", device) for seed in self.seeds]
        self.streams = [*self.batches.orders, *self.batches.windows, *self.dropouts, *self.input_dropouts]
        self.threads = ThreadChoice(torch.get_num_threads() if device.type == "cpu" else 1)
        self.train_targets, self.target_mean, self.target_scale = self._training_targets()

    def train_epoch(self, epoch: int) -> None:
        """Let every member see every batch of an epoch, and validate as often as the settings say."""
        every, by_steps = self.settings.validate_every, self.settings.validate_unit == "steps"
        for number, rows in enumerate(self.batches.epoch(), 1):
            with self.threads.step():
                self.train_step(rows).sum().backward()
                self.step()
            due = self.optimiser.done % every == 0 if by_steps else number == self.batches.steps and epoch % every == 0
            if due:
                self.validate(epoch)
            if self.optimiser.done == self.settings.steps or not len(self.member):
                break

    def losses_at(self, rates: Sequence[float]) -> Tensor:
        """Take one step at each of some rates and return the losses before it, ``float64[steps, K]``."""
        losses = []
        epochs = chain.from_iterable(self.batches.epoch() for _ in repeat(None))
        for rate, rows in zip(rates, epochs, strict=False):
            self.optimiser.set_rates(torch.full_like(self.rates, rate))
            loss = self.train_step(rows)
            loss.sum().backward()
            self.step()
            losses.append(loss.detach().double().cpu())
        return torch.stack(losses)

    def train_step(self, chosen: Tensor) -> Tensor:
        """Return the loss of each member, ``Tensor[K]``, on training rows ``int64[S, B]`` of each seed."""
        group = self.member % len(self.groups)
        seed = self.seed_of_group[group]
        masks = self._dropout_masks(chosen.shape[1])
        outputs = self._outputs(self.weights, self.statistics, group, self.data.train.rows[chosen], masks, learning=True)
        weights = self.batches.weights
        row_weights = [] if weights is None else [weights[chosen][seed].to(outputs)]
        return self.kind.loss(outputs, self.train_targets[chosen][seed], *row_weights)

    @torch.no_grad()
    def validate(self, epoch: int) -> None:
        """Score all members on the validation split, keep the weights that are wanted, and drop finished members."""
        self.keep(epoch, *self._validation_scores())

    @torch.no_grad()
    def choose(self) -> list[Answers]:
        """Choose the learning rate of each group on validation, and only then evaluate the test split."""
        member, weights, statistics = self.chosen()
        group = torch.arange(len(self.groups), device=member.device)
        validation, test = (
            torch.cat([answers.cpu() for _, answers in self._answers(weights, statistics, group, split)], dim=1)
            for split in (self.data.valid, self.data.test)
        )
        combinations = [COMBINATIONS[number] for number in self.kept_combination[member].tolist()]
        shares = self.sum.shares(weights[self.own :]).cpu() if self.sum else None
        return [
            Answers(
                validation=self._combined(validation[number], self.data.valid, combinations[number]),
                test=self._combined(test[number], self.data.test, combinations[number]),
                training=self.training(number),
                layer_weights=shares[number]
                if shares is not None and self.groups[number].layer == "weighted"
                else torch.empty(0),
            )
            for number in range(len(self.groups))
        ]

    def _validation_scores(self) -> tuple[Tensor, Tensor]:
        """Return the score of each member, ``float64[K]``, higher when better, and the number of its combination of rows."""
        valid, metric = self.data.valid, METRICS[self.data.metric]
        sign = 1 if metric.higher_is_better else -1
        parts = self._answers(self.weights, self.statistics, self.member % len(self.groups), valid)
        wanted = self.settings.track_answer
        only = torch.full_like(self.member, COMBINATIONS.index("logits" if wanted == "best" else wanted))
        if self.settings.validate_by == "window":
            answers, targets = torch.cat([answers for _, answers in parts], dim=1), valid.targets[valid.track]
            size = self.settings.validation_batch or len(targets)
            batches = zip(answers.split(size, dim=1), targets.split(size), strict=True)
            parts_of_score = (metric(rows, of_rows) * (len(of_rows) / len(targets)) for rows, of_rows in batches)
            score = sum(parts_of_score, answers.new_zeros((), dtype=torch.float64))
            return sign * score.to(self.best), only
        if wanted == "logits":
            total = self.features.new_zeros(len(self.member), len(valid.targets), self.data.outputs)
            for part, answers in parts:
                total.index_add_(1, valid.track[part], answers)
            return sign * metric(total / valid.rows_of_tracks(total), valid.targets).to(self.best), only
        answers = torch.cat([answers for _, answers in parts], dim=1)
        best, combination = torch.full_like(self.best[self.member], -torch.inf), only
        for number, name in enumerate(COMBINATIONS):
            if wanted in (name, "best"):
                tracks = valid.by_track(combined(answers, valid, name))
                score = sign * metric(tracks, valid.targets).to(best)
                better = score > best
                best, combination = torch.where(better, score, best), torch.where(better, number, combination)
        return best, combination

    @staticmethod
    def _combined(answers: Tensor, examples: Examples, combination: str) -> Tensor:
        examples = Examples(examples.rows, examples.track.cpu(), examples.targets.cpu())
        return combined(answers[None], examples, combination)[0]

    def _training_targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the standardised targets of the training rows, and the mean and scale that restore answers."""
        targets, track = self.data.train.targets, self.data.train.track
        if self.settings.loss == "binary":
            targets = one_hot(targets, self.data.outputs).to(self.features)
        if not targets.is_floating_point():
            return targets[track], targets.new_zeros(1), targets.new_ones(1)
        targets = targets.to(self.features)
        mean, scale = self.kind.scale(targets)
        return ((targets - mean) / scale)[track], mean, scale

    def _dropout_masks(self, size: int) -> list[Tensor]:
        """Return the factors of the units of each hidden layer for each seed, ``Tensor[S, B, H]``; none without dropout."""
        rate = self.settings.dropout
        return [padded(self._mask(self.dropouts, rate, size, units)) for units in self.head.hidden] if rate else []

    def _mask(self, streams: list[torch.Generator], rate: float, size: int, units: int) -> Tensor:
        """Return for each seed 0 for what is silenced and more than 1 for the rest, ``Tensor[S, B, H]``."""
        device = self.features.device
        drawn = [torch.rand(size, units, generator=stream, device=device) for stream in streams]
        return (torch.stack(drawn) >= rate).to(self.features.dtype) / (1 - rate)

    def _outputs(
        self, weights: list[Tensor], statistics: list[Tensor], group: Tensor, rows: Tensor, masks: list[Tensor],
        *, learning: bool,
    ) -> Tensor:  # fmt: skip
        """Return the outputs ``Tensor[K, B, C]`` of members of the given groups for rows ``int64[S, B]`` of each seed."""
        seed = self.seed_of_group[group]
        inputs = self._inputs(weights[self.own :], group, rows)
        if learning and self.settings.input_dropout:
            inputs = inputs * self._mask(self.input_dropouts, self.settings.input_dropout, *inputs.shape[1:])[seed]
        masks = [mask[seed] for mask in masks]
        return self.head.outputs(weights[: self.own], statistics, inputs, masks, self.gradient, learning=learning)

    def _inputs(self, sums: list[Tensor], group: Tensor, rows: Tensor) -> Tensor:
        """Return the inputs of each member, ``Tensor[K, B, D]``: its layer, or its weighted sum of all layers."""
        part, seed = self.slice_of_group[group], self.seed_of_group[group]
        inputs = self.features[part.clamp(min=0)[:, None], rows[seed]]
        if self.sum is None:
            return inputs
        for number in range(len(self.seeds)):
            summed = ((part < 0) & (seed == number)).nonzero()[:, 0]
            mixed = self.sum.mix([values[summed] for values in sums], self.features[:, rows[number]])
            inputs = inputs.index_copy(0, summed, mixed)
        return inputs

    def _answers(
        self, weights: list[Tensor], statistics: list[Tensor], group: Tensor, split: Examples
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield stretches of the rows of a split and the answers to them, ``Tensor[K, B, C]``, in the targets' own units."""
        width = max(self.features.shape[2], *self.head.hidden, 0)
        size = max(1, _EVALUATION_ELEMENTS[self.features.device.type] // (len(group) * width))
        for begin in range(0, len(split.rows), size):
            part = slice(begin, begin + size)
            rows = split.rows[part].expand(len(self.seeds), -1)
            yield (
                part,
                self._outputs(weights, statistics, group, rows, [], learning=False) * self.target_scale + self.target_mean,
            )
