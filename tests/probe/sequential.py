"""One probe as a textbook would train it, with modules, optimisers and schedulers of torch; and small data to train on."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from marble.probe.answers import Group
from marble.probe.inputs import Examples, ProbeData
from marble.probe.scoring.metrics import METRICS
from marble.probe.settings import Probe
from marble.probe.training.heads import make_head
from marble.probe.training.layer_sums import LayerSum
from marble.random_streams import generator

METRIC = {"multiclass": "accuracy", "multilabel": "roc_auc", "regression": "r2", "ordinal": "ordinal_mse"}
COMBINATIONS = {
    "vote": lambda rows: nn.functional.one_hot(rows.argmax(1), rows.shape[1]).double().mean(0),
    "max": lambda rows: rows.max(0).values,
    "logits": lambda rows: rows.mean(0),
    "probabilities": lambda rows: rows.softmax(1).mean(0),
}


def cumulative(outputs: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """The targets of Ramoneda et al. 2025: ones up to the grade, zeros beyond."""
    targets = torch.zeros_like(outputs)
    for row, grade in zip(targets, grades.tolist(), strict=True):
        row[: grade + 1] = 1
    return targets


def tracks(stream: torch.Generator, rows: range, kind: str, outputs: int) -> Examples:
    """Tracks of one to three windows each over some rows, with random targets that the features partly tell."""
    ends, track = [], []
    while len(track) < len(rows):
        windows = min(1 + len(ends) % 3, len(rows) - len(track))
        track += [len(ends)] * windows
        ends.append(len(track))
    count = len(ends)
    if kind in ("multiclass", "ordinal"):
        targets = torch.arange(count) % outputs
    elif kind == "multilabel":
        targets = (torch.rand(count, outputs, generator=stream) < 0.4).double()
    else:
        targets = 50 + 20 * torch.randn(count, outputs, generator=stream, dtype=torch.float64)
    return Examples(torch.tensor(rows), torch.tensor(track), targets)


def asked(kind: str, outputs: int = 3) -> tuple[torch.Tensor, ProbeData]:
    """Features [3, 150, 7] in float64 and what is asked of them."""
    stream = torch.Generator().manual_seed(3)
    splits = [tracks(stream, rows, kind, outputs) for rows in (range(90), range(90, 120), range(120, 150))]
    features = torch.randn(3, 150, 7, generator=stream, dtype=torch.float64)
    for split in splits:
        hint = 3 * split.targets[split.track].double()
        features[1, split.rows, 0] += hint if hint.ndim == 1 else hint[:, 0]
    return features, ProbeData("toy", kind, outputs, METRIC[kind], *splits)


class Rounded(torch.autograd.Function):
    """Significant bits, and as many of the gradient."""

    @staticmethod
    def forward(ctx, values, bits):
        """Round half to even."""
        ctx.bits = bits
        mantissa, exponent = np.frexp(values.detach().numpy())
        return torch.from_numpy(np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent))

    @staticmethod
    def backward(ctx, upper):
        """Round the gradient."""
        return Rounded.apply(upper, ctx.bits), None


class Net(nn.Module):
    """A probe on one layer or on a sum of layers, [L, B, D] in float64."""

    def __init__(self, layers: int, width: int, group: Group, data: ProbeData, probe: Probe):
        super().__init__()
        self.group, self.probe = group, probe
        sizes = [width, *([probe.hidden] * probe.hidden_layers if probe.kind == "mlp" else []), data.outputs]
        drawn = iter(make_head(probe, data.outputs).initial(data.task, group.seed, width))
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for number, (before, after) in enumerate(pairwise(sizes)):
            linear = nn.Linear(before, after, dtype=torch.float64)
            self.linears.append(linear)
            with torch.no_grad():
                linear.weight.copy_(next(drawn)[:before, :after].T), linear.bias.copy_(next(drawn)[0, :after])
            if probe.norm and number < len(sizes) - 2:
                self.norms.append(nn.BatchNorm1d(after, dtype=torch.float64))
                next(drawn), next(drawn)
        summed = LayerSum(probe, range(layers), width).initial(data.task, group.seed)
        self.sum = nn.ParameterList(nn.Parameter(values.clone()) for values in summed)

    def rounded(self, values: torch.Tensor) -> torch.Tensor:
        """Values in the arithmetic of the probe."""
        bits = {"float16": 11, "bfloat16": 8}.get(self.probe.arithmetic)
        return Rounded.apply(values, bits) if bits else values

    def linear(self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """A linear map in the arithmetic of the probe."""
        return self.rounded(nn.functional.linear(*map(self.rounded, (inputs, weight, bias))))

    def weights(self) -> torch.Tensor:
        """The weight of each layer of the sum."""
        used = len(self.layers) - self.probe.first_layer
        logits = self.sum[0][0, :used]
        forms = {"softmax": lambda: logits.softmax(0), "positive": logits.exp, "free": lambda: logits}
        return torch.cat([logits.new_zeros(self.probe.first_layer), forms[self.probe.layer_weights]()])

    def inputs(self, layers: torch.Tensor) -> torch.Tensor:
        """One layer, or the sum."""
        self.layers = layers
        if self.group.layer != "weighted":
            return layers[self.group.layer]
        if self.probe.layer_weights == "matrix":
            width = layers.shape[2]
            joined = torch.cat(list(layers[self.probe.first_layer :]), dim=1)
            return self.linear(joined, self.sum[0][:, :width].T, self.sum[1][0, :width])
        mixed = sum(weight * layer for weight, layer in zip(self.weights(), layers, strict=True))
        return mixed + self.sum[1][0, 0] if self.probe.layer_weights == "free" else mixed

    def forward(self, layers: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
        """Logits [B, C]; `masks` of the inputs and of each hidden layer while training."""
        hidden = self.inputs(layers)
        for number, linear in enumerate(self.linears):
            hidden = self.linear(hidden * masks[number] if masks else hidden, linear.weight, linear.bias)
            if number < len(self.linears) - 1:
                hidden = self.norms[number](hidden) if self.norms else hidden
                hidden = hidden.relu() if self.probe.activation else hidden
        return hidden


@dataclass
class Run:
    """What became of one probe."""

    losses: list[float] = field(default_factory=list)
    score: float = -math.inf
    epoch: int = 0
    validation: torch.Tensor | None = None
    test: torch.Tensor | None = None
    layer_weights: torch.Tensor | None = None
    combination: str = "logits"


class Trainer:
    """The sequential trainer of one probe."""

    def __init__(self, features: torch.Tensor, group: Group, rate: float, data: ProbeData, probe: Probe):
        self.features, self.data, self.probe, self.run = features, data, probe, Run()
        self.net = Net(len(features), features.shape[2], group, data, probe)
        kind = torch.optim.AdamW if probe.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = kind(self.net.parameters(), lr=rate, weight_decay=probe.weight_decay, foreach=False)
        self.higher = METRICS[data.metric].higher_is_better
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, mode="max" if self.higher else "min", factor=probe.factor, patience=probe.plateau_patience
        )
        self.rate, self.best, self.idle, self.done, self.validations = rate, -math.inf, 0, 0, 0
        self.order, self.windows = (generator(data.task, group.seed, name) for name in ("order", "windows"))
        self.dropout, self.input_dropout = (generator(data.task, group.seed, name) for name in ("dropout", "input dropout"))
        self.mean, self.scale, self.targets = 0.0, 1.0, data.train.targets
        if data.kind == "regression":
            self.mean, self.scale = self.targets.mean(0), self.targets.std(0, correction=0)
            self.targets = (self.targets - self.mean) / self.scale

    def train(self) -> Run:
        """Train to the end."""
        probe, epoch = self.probe, 0
        if probe.validate_untrained:
            self.validate(0)
        while not self.over(epoch):
            epoch += 1
            batches = self.batches()
            for number, rows in enumerate(batches, 1):
                self.step(rows)
                due = self.done if probe.validate_unit == "steps" else epoch if number == len(batches) else 0.5
                if due % probe.validate_every == 0:
                    self.validate(epoch)
                if self.over(0):
                    break
        if not self.validations:
            self.validate(epoch)
        return self.run

    def over(self, epoch: int) -> bool:
        """Whether training has ended."""
        probe = self.probe
        bored = probe.patience and self.idle >= probe.patience
        return bool(bored) or self.done == probe.steps or epoch == probe.epochs

    def batches(self) -> list[torch.Tensor]:
        """The training rows of each batch of an epoch."""
        probe, track = self.probe, self.data.train.track
        units = [(track == number).nonzero()[:, 0] for number in range(len(self.data.train.targets))]
        if probe.train_windows == "one":
            drawn = torch.rand(len(units), generator=self.windows, dtype=torch.float64)
            units = [rows[int(luck * len(rows))][None] for rows, luck in zip(units, drawn, strict=True)]
        elif probe.batch_of == "rows":
            units = list(torch.arange(len(track))[:, None])
        orders = {
            "shuffled": lambda: [torch.randperm(len(units), generator=self.order)],
            "fixed": lambda: [torch.arange(len(units))],
            "drawn": lambda: [
                torch.randperm(len(units), generator=self.order)[: probe.batch_size]
                for _ in range(math.ceil(len(units) / probe.batch_size))
            ],
        }
        parts = [part for order in orders[probe.order]() for part in order.split(probe.batch_size)]
        return [torch.cat([units[number] for number in part]) for part in parts]

    def step(self, rows: torch.Tensor) -> None:
        """One step on some training rows."""
        probe, track = self.probe, self.data.train.track
        if probe.schedule == "cosine":
            self.optimiser.param_groups[0]["lr"] = self.cosine()
        sizes = [linear.in_features for linear in self.net.linears]
        rates = [probe.input_dropout, *[probe.dropout] * (len(sizes) - 1)]
        streams = [self.input_dropout, *[self.dropout] * (len(sizes) - 1)]
        masks = [
            (torch.rand(len(rows), size, generator=stream) >= rate).double() / (1 - rate) if rate else torch.ones(1)
            for size, rate, stream in zip(sizes, rates, streams, strict=True)
        ]
        self.net.train()
        outputs = self.net(self.features[:, self.data.train.rows[rows]], masks)
        errors = self.errors(outputs, self.targets[track[rows]])
        weights = torch.ones(len(rows)).double()
        if probe.weight == "track":
            weights = 1 / track.bincount()[track[rows]].double()
        loss = (errors * weights).sum() / weights.sum()
        self.optimiser.zero_grad()
        loss.backward()
        if probe.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), probe.clip)
        self.optimiser.step()
        self.run.losses.append(loss.item())
        self.done += 1

    def cosine(self) -> float:
        """The rate of the next step."""
        if self.done < self.probe.warm_up:
            return self.rate * (self.done + 1) / self.probe.warm_up
        share = (self.done - self.probe.warm_up) / (self.probe.steps - self.probe.warm_up)
        return self.probe.final_rate + 0.5 * (self.rate - self.probe.final_rate) * (1 + math.cos(share * math.pi))

    def errors(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The error of each row."""
        kind, functional = self.data.kind, nn.functional
        if self.probe.loss == "binary":
            targets, kind = functional.one_hot(targets, outputs.shape[1]).double(), "multilabel"
        if kind == "multiclass":
            return functional.cross_entropy(outputs, targets, reduction="none")
        if kind == "multilabel":
            return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)
        targets = cumulative(outputs, targets) if kind == "ordinal" else targets
        return (outputs - targets).square().mean(1)

    @torch.no_grad()
    def answers(self, split: Examples) -> torch.Tensor:
        """Answers to the rows of a split."""
        self.net.eval()
        return self.net(self.features[:, split.rows], []) * self.scale + self.mean

    def scores(self, rows: torch.Tensor) -> dict[str, float]:
        """The score of the validation split by each combination of rows that is allowed."""
        split, metric, sign = self.data.valid, METRICS[self.data.metric], 1 if self.higher else -1
        if self.probe.validate_by == "window":
            size, targets = self.probe.validation_batch or len(rows), split.targets[split.track]
            batches = [slice(begin, begin + size) for begin in range(0, len(rows), size)]
            scores = [float(metric(rows[batch], targets[batch])) for batch in batches]
            sizes = [len(rows[batch]) for batch in batches]
            return {self.probe.track_answer: sign * float(np.average(scores, weights=sizes))}
        wanted = COMBINATIONS if self.probe.track_answer == "best" else [self.probe.track_answer]
        return {
            name: sign * float(metric(self.by_track(rows, split, name), split.targets))
            for name in COMBINATIONS
            if name in wanted
        }

    @staticmethod
    def by_track(rows: torch.Tensor, split: Examples, name: str) -> torch.Tensor:
        """Answers to tracks."""
        return torch.stack([COMBINATIONS[name](rows[split.track == track]) for track in range(len(split.targets))])

    def validate(self, epoch: int) -> None:
        """Score, and keep what is wanted."""
        self.validations += 1
        rows = self.answers(self.data.valid)
        scores = self.scores(rows)
        name = max(scores, key=lambda name: scores[name])
        score = scores[name]
        better = score > self.best
        self.best, self.idle = (score, 0) if better else (self.best, self.idle + 1)
        if better or self.probe.selection == "last":
            kept = self.run
            kept.score, kept.epoch, kept.combination = score, epoch, name
            kept.validation, kept.test = rows, self.answers(self.data.test)
            scalar = self.net.group.layer == "weighted" and self.probe.layer_weights != "matrix"
            kept.layer_weights = self.net.weights().detach().clone() if scalar else torch.empty(0)
        if self.probe.schedule == "plateau":
            self.plateau.step(score if self.higher else -score)


def sequential(features: torch.Tensor, group: Group, rate: float, data: ProbeData, probe: Probe) -> Run:
    """One probe, trained."""
    return Trainer(features, group, rate, data, probe).train()


def range_test(features: torch.Tensor, group: Group, data: ProbeData, probe: Probe) -> float:
    """The rate that a range test finds, with NumPy as Lightning does it."""
    trainer = Trainer(features, group, 1.0, data, probe)
    batches: list[torch.Tensor] = []
    while len(batches) < 100:
        batches += trainer.batches()
    rates, losses, mean, lowest = [], [], 0.0, 0.0
    for step, rows in enumerate(batches[:100]):
        rate = 1e-8 * (1e8 ** ((step + 1) / 100) if step else 1)
        trainer.optimiser.param_groups[0]["lr"] = rate
        trainer.step(rows)
        mean = 0.98 * mean + 0.02 * trainer.run.losses[-1]
        smoothed = mean / (1 - 0.98 ** (step + 1))
        if step > 1 and smoothed > 4 * lowest:
            break
        lowest = smoothed if not step else min(lowest, smoothed)
        rates.append(rate), losses.append(smoothed)
    return rates[int(np.gradient(np.array(losses[10:-1])).argmin()) + 10]
