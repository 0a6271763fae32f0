"""The bank of frames against a plain trainer: chunks, masks, standardisation, selection; in float64 to 1e-10."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from marble.probe.answers import Group
from marble.probe.frames.bank import FrameBank, FrameData
from marble.probe.settings import Probe
from marble.probe.training.heads import make_head
from marble.probe.training.members import train
from marble.random_streams import generator

WIDTH, LABELS, CHUNK = 7, 3, 20
LENGTHS = (55, 12, 18, 31, 44, 20, 15, 33, 47, 25)
SPLITS = {"train": [0, 3, 5, 8, 2, 6, 1], "valid": [4, 7], "test": [9]}
SETTINGS = Probe(hidden=16, dropout=0.25, learning_rates=(5e-3, 5e-2), batch_size=4, epochs=15, patience=6)
GROUPS = [Group(0, 0), Group(0, 5), Group(1, 5)]


def changed(**values):
    return Probe.model_validate(SETTINGS.model_dump() | values)


def features_and_targets(kind):
    """Frames of two layers that tell something of the targets, which hold at times only."""
    random = np.random.default_rng(0)
    features = [random.normal(size=(2, length, WIDTH)) for length in LENGTHS]
    targets = []
    for track, length in enumerate(LENGTHS):
        if kind == "frame_classes":
            target = random.integers(0, LABELS, length)
            target[: track % 4] = -1
            target[length - track % 3 :] = -1
            target[random.random(length) < 0.2] = -1
            features[track][1, :, 0] += target
        else:
            target = (random.random((length, LABELS)) < 0.4).astype(np.float64)
            target[: track % 4] = np.nan
            features[track][1, :, 0] += 3 * np.nan_to_num(target[:, 0])
        targets.append(target)
    return features, targets


def data_of(features, targets, kind):
    return FrameData(
        "toy", kind, LABELS, CHUNK, SPLITS, targets, lambda track, layer, begin, end: features[track][layer, begin:end]
    )


class Plain:
    """One probe, trained chunk by chunk with the modules of torch."""

    def __init__(self, features, targets, kind, group, rate, probe):
        self.kind, self.probe, self.group = kind, probe, group
        scored = [target >= 0 if target.ndim == 1 else ~np.isnan(target).any(1) for target in targets]
        train_rows = np.concatenate([features[track][group.layer][scored[track]] for track in SPLITS["train"]])
        mean, deviation = train_rows.mean(0), train_rows.std(0)
        if not probe.standardise:
            mean, deviation = 0.0, 1.0
        self.features = [torch.from_numpy((track[group.layer] - mean) / deviation) for track in features]
        self.targets, self.scored = [torch.from_numpy(target) for target in targets], scored
        sizes = [WIDTH, *([probe.hidden] if probe.kind == "mlp" else []), LABELS]
        drawn = iter(make_head(probe, LABELS).initial("toy", group.seed, WIDTH))
        self.linears = nn.ModuleList(nn.Linear(a, b, dtype=torch.float64) for a, b in pairwise(sizes))
        with torch.no_grad():
            for linear in self.linears:
                linear.weight.copy_(next(drawn)[: linear.in_features, : linear.out_features].T)
                linear.bias.copy_(next(drawn)[0, : linear.out_features])
        optimiser = torch.optim.AdamW if probe.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = optimiser(self.linears.parameters(), lr=rate, weight_decay=probe.weight_decay, foreach=False)
        self.streams = {name: generator("toy", group.seed, name) for name in ("order", "chunks", "dropout", "input dropout")}
        self.best, self.idle, self.epoch, self.logits = -1.0, 0, 0, {}

    def forward(self, rows, masks=()):
        for number, linear in enumerate(self.linears):
            rows = linear(rows * masks[number] if masks else rows)
            rows = rows.relu() if number < len(self.linears) - 1 else rows
        return rows

    def loss(self, outputs, targets):
        """The sum over scored frames."""
        if self.kind == "frame_classes":
            return nn.functional.cross_entropy(outputs, targets, reduction="sum")
        return nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1).sum()

    def start(self, track, luck):
        length = min(CHUNK, LENGTHS[track])
        starts = [first for first in range(LENGTHS[track] - length + 1) if self.scored[track][first : first + length].any()]
        return starts[int(luck * len(starts))]

    def train_epoch(self):
        order = torch.randperm(len(SPLITS["train"]), generator=self.streams["order"]).tolist()
        luck = torch.rand(len(order), generator=self.streams["chunks"], dtype=torch.float64).tolist()
        for first in range(0, len(order), self.probe.batch_size):
            chunks = order[first : first + self.probe.batch_size]
            length = min(CHUNK, max(LENGTHS[SPLITS["train"][number]] for number in chunks))
            sizes = [linear.in_features for linear in self.linears]
            rates = [self.probe.input_dropout, *[self.probe.dropout] * (len(sizes) - 1)]
            names = ["input dropout", *["dropout"] * (len(sizes) - 1)]
            masks = [
                (torch.rand(length * len(chunks), size, generator=self.streams[name]) >= rate).double() / (1 - rate)
                if rate else torch.ones(length * len(chunks), 1)
                for size, rate, name in zip(sizes, rates, names, strict=True)
            ]  # fmt: skip
            total, count = 0.0, 0
            for place, number in enumerate(chunks):
                track = SPLITS["train"][number]
                begin = self.start(track, luck[number])
                frames = [n for n in range(begin, min(begin + CHUNK, LENGTHS[track])) if self.scored[track][n]]
                own = [mask[[place * length + n - begin for n in frames]] for mask in masks]
                total = total + self.loss(self.forward(self.features[track][frames], own), self.targets[track][frames])
                count += len(frames)
            self.optimiser.zero_grad()
            (total / count).backward()
            if self.probe.clip:
                nn.utils.clip_grad_norm_(self.linears.parameters(), self.probe.clip)
            self.optimiser.step()

    @torch.no_grad()
    def score(self):
        right = every = 0
        for track in SPLITS["valid"]:
            logits, targets = self.forward(self.features[track])[self.scored[track]], self.targets[track][self.scored[track]]
            if self.kind == "frame_classes":
                right, every = right + int((logits.argmax(1) == targets).sum()), every + len(targets)
            else:
                right += 2 * int(((logits > 0) & (targets > 0)).sum())
                every += int((logits > 0).sum() + (targets > 0).sum())
        return right / every

    def train(self):
        for epoch in range(1, self.probe.epochs + 1):
            self.train_epoch()
            if epoch <= 10 or epoch % 5 == 0:
                score = self.score()
                self.idle += 1
                if score > self.best:
                    self.best, self.idle, self.epoch = score, 0, epoch
                    with torch.no_grad():
                        self.logits = {track: self.forward(self.features[track]) for track in range(len(LENGTHS))}
                if self.idle == self.probe.patience:
                    break
        return self


def trained(features, targets, kind, probe, groups=GROUPS):
    bank = FrameBank(data_of(features, targets, kind), WIDTH, groups, probe, torch.empty(0, dtype=torch.float64))
    train(bank, probe.epochs, lambda epochs: None)
    return bank


def logits_of(bank):
    """The logits of the best member of each group for each validation and test track."""
    _, weights, statistics = bank.chosen()
    everyone = torch.arange(len(bank.groups))
    return {
        (bank.groups[member], track): logits
        for split in ("valid", "test")
        for track, members, outputs in bank.answers(split, weights, statistics, everyone)
        for member, logits in zip(members, outputs, strict=True)
    }


OPTIONS = [
    {},
    {"kind": "linear"},
    {"input_dropout": 0.3, "dropout": 0.0},
    {"optimiser": "adamw", "weight_decay": 0.05, "clip": 0.5},
    {"standardise": False, "batch_size": 1},
]


@pytest.mark.parametrize(
    ("kind", "settings"), [("frame_tags", {}), *(("frame_classes", option) for option in OPTIONS)], ids=str
)
def test_the_bank_trains_what_a_plain_trainer_trains(kind, settings):
    probe = changed(**settings)
    features, targets = features_and_targets(kind)
    bank = trained(features, targets, kind, probe)
    answers = logits_of(bank)
    for number, group in enumerate(GROUPS):
        runs = [Plain(features, targets, kind, group, rate, probe).train() for rate in probe.learning_rates]
        training = bank.training(number)
        assert training.grid_epochs.tolist() == [run.epoch for run in runs]
        assert training.grid_scores.tolist() == pytest.approx([run.best for run in runs], abs=1e-12)
        best = max(runs, key=lambda run: run.best)
        for track in (*SPLITS["valid"], *SPLITS["test"]):
            torch.testing.assert_close(answers[group, track], best.logits[track], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["frame_classes", "frame_tags"])
def test_frames_that_are_not_scored_change_no_number(kind):
    features, targets = features_and_targets(kind)
    before = trained(features, targets, kind, SETTINGS)
    for track, target in enumerate(targets):
        unscored = target < 0 if target.ndim == 1 else np.isnan(target).any(1)
        features[track][:, unscored] = 1e6
    after = trained(features, targets, kind, SETTINGS)
    for mine, other in zip(before.kept, after.kept, strict=True):
        assert torch.equal(mine, other)


def test_a_probe_does_not_depend_on_the_others_nor_on_tracks_of_no_use():
    features, targets = features_and_targets("frame_classes")
    together = logits_of(trained(features, targets, "frame_classes", SETTINGS))
    alone = logits_of(trained(features, targets, "frame_classes", SETTINGS, GROUPS[2:]))
    assert all(torch.equal(together[key], logits) for key, logits in alone.items())


def test_a_stopped_bank_goes_on_with_the_same_bytes():
    features, targets = features_and_targets("frame_classes")
    whole = trained(features, targets, "frame_classes", SETTINGS)
    data, like = data_of(features, targets, "frame_classes"), torch.empty(0, dtype=torch.float64)
    first, second = (FrameBank(data, WIDTH, GROUPS, SETTINGS, like) for _ in range(2))
    for epoch in range(1, 5):
        first.train_epoch(epoch)
    second.restore({name: values.detach().clone() for name, values in first.state().items()})
    for epoch in range(5, SETTINGS.epochs + 1):
        second.train_epoch(epoch)
    for mine, other in zip(whole.kept, second.kept, strict=True):
        assert torch.equal(mine, other)


def test_diverged_probes_are_never_chosen():
    features, targets = features_and_targets("frame_classes")
    bank = trained(features, targets, "frame_classes", changed(learning_rates=(1e-3, 1e300), epochs=2))
    assert {bank.training(number).learning_rate for number in range(len(GROUPS))} == {1e-3}
