"""From trained probes of frames to answers: constants of decoders, statistics of tracks, and what every frame was answered.

A decoder with several constants takes the one with the best value, on validation, of the first metric that it serves; each
probe has its own. Only then, and only with it, is the test split decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from marble.probe.answers import Answers, FrameAnswers
from marble.probe.frames.bank import FrameBank
from marble.probe.frames.inputs import FrameInputs
from marble.probe.scoring.frame_decoding import DECODERS, Decoder
from marble.probe.scoring.frame_metrics import FRAME_METRICS
from marble.task import Split

_HIGHEST = 255


def answers_of(bank: FrameBank, inputs: FrameInputs) -> list[Answers]:
    """Return the answers of the best member of each group of a trained bank, in the order of the groups."""
    _, weights, statistics = bank.chosen()
    makers = [_Answering(inputs) for _ in bank.groups]
    for split in ("valid", "test"):
        groups = torch.arange(len(bank.groups))
        for track, members, outputs in bank.answers(split, weights, statistics, groups):
            for member, logits in zip(members, outputs, strict=True):
                makers[member].add(split, track, logits.float().numpy(force=True))
        for maker in makers:
            maker.choose()
    return [maker.answers(bank, number) for number, maker in enumerate(makers)]


class _Answering:
    """Gathers the answers of one group."""

    def __init__(self, inputs: FrameInputs):
        self.inputs, self.task = inputs, inputs.task
        kind = DECODERS[self.task.kind]
        names = dict.fromkeys(FRAME_METRICS[name].decoder for name in self.task.metrics)
        self.decoders: dict[str, Decoder] = {name: kind[name] for name in names}
        self.constants: dict[str, float] = {}
        # For each decoder, constant and metric the statistics of the tracks.
        self.of_valid: dict[tuple[str, float, str], list[np.ndarray]] = {}
        self.of_test: dict[tuple[str, float, str], list[np.ndarray]] = {}
        self.logits: list[tuple[int, np.ndarray]] = []
        self.decoded: list[np.ndarray] = []
        self.probability: list[np.ndarray] = []

    def add(self, split: Split, track: int, logits: np.ndarray) -> None:
        """Take the logits of a track, ``float32[T, C]``."""
        inputs, main = self.inputs, FRAME_METRICS[self.task.main_metric].decoder
        gathered = self.of_valid if split == "valid" else self.of_test
        for name, decoder in self.decoders.items():
            constants = decoder.constants if split == "valid" else (self.constants[name],)
            answers = {constant: decoder.decode(logits, inputs.grid, constant) for constant in constants}
            for constant, answer in answers.items():
                for metric in self._metrics(name):
                    statistics = FRAME_METRICS[metric].statistics(
                        answer, inputs.grid, inputs.spans[track], self.task.labels, inputs.seconds[track]
                    )
                    gathered.setdefault((name, constant, metric), []).append(statistics)
            if name == main:
                self._note(logits, answers, constants)

    def _note(self, logits: np.ndarray, answers: dict[float, np.ndarray], constants: Sequence[float]) -> None:
        """Keep the answer of each frame, packed, and its probability; the first constant serves until one is chosen."""
        answer = answers[constants[0]]
        if answer.ndim == 1:
            shares = torch.from_numpy(logits).softmax(1).gather(1, torch.from_numpy(answer)[:, None])[:, 0]
            self.decoded.append(answer.astype(np.int16))
        else:
            shares = torch.from_numpy(logits).sigmoid().amax(1)
            self.decoded.append(np.packbits(answer, axis=1))
        self.probability.append((shares.nan_to_num() * _HIGHEST).round().to(torch.uint8).numpy())

    def choose(self) -> None:
        """Choose the constants that are still open."""
        for name, decoder in self.decoders.items():
            if name in self.constants:
                continue
            metric = FRAME_METRICS[self._metrics(name)[0]]
            sign = 1 if metric.higher_is_better else -1
            with np.errstate(divide="ignore", invalid="ignore"):
                values = [
                    float(sign * metric.value(np.sum(self.of_valid[name, constant, metric.name], axis=0)))
                    for constant in decoder.constants
                ]
            self.constants[name] = decoder.constants[int(np.argmax(np.nan_to_num(values, nan=-np.inf)))]

    def answers(self, bank: FrameBank, group: int) -> Answers:
        """Return what was gathered."""
        frames = FrameAnswers(
            constants={name: constant for name, constant in self.constants.items() if len(self.decoders[name].constants) > 1},
            decoded=torch.from_numpy(np.concatenate(self.decoded)),
            probability=torch.from_numpy(np.concatenate(self.probability)),
        )
        return Answers(self._table(self.of_valid), self._table(self.of_test), bank.training(group), frames=frames)

    def _table(self, gathered: dict[tuple[str, float, str], list[np.ndarray]]) -> Tensor:
        """Return the statistics of all metrics side by side, ``float64[tracks, S]``."""
        decoders = [FRAME_METRICS[metric].decoder for metric in self.task.metrics]
        parts = [
            np.stack(gathered[decoder, self.constants[decoder], metric])
            for decoder, metric in zip(decoders, self.task.metrics, strict=True)
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float64))

    def _metrics(self, decoder: str) -> list[str]:
        return [name for name in self.task.metrics if FRAME_METRICS[name].decoder == decoder]


def unpacked(answers: Answers, inputs: FrameInputs) -> Iterator[tuple[Split, int, np.ndarray, np.ndarray]]:
    """Yield each validation and test track: its split and number, its decoded frames, and their probability ``float[T]``."""
    assert answers.frames
    begin = 0
    for split in ("valid", "test"):
        for track in inputs.numbers[split]:
            own = slice(begin, begin := begin + len(inputs.targets[track]))
            decoded = answers.frames.decoded[own].numpy()
            if inputs.targets[track].ndim == 2:
                decoded = np.unpackbits(decoded, axis=1, count=len(inputs.task.labels)).astype(bool)
            yield split, track, decoded, answers.frames.probability[own].numpy() / _HIGHEST
