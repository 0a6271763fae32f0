"""The maker of answers that trains a bank: as many groups at once as memory allows, each trained only once.

Conventions
-----------
- The answers of a trained group are kept beside the feature cache, one checked file each (`marble.features.checked`), named
  after the sha256 of what decides them (features, splits, targets, probe, layer, seed). The same command continues a killed
  run with the finished groups and a checkpoint of the others (`marble.probe.training.checkpoint`); more seeds or layers train
  only the new ones. A damaged file counts as missing.
- Each point of a grid (`marble.probe.training.grid`) has files of its own. Batches of whole tracks train one seed at a time.
- A lock per group keeps two processes from training the same group: the answers of another process are awaited and read.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from marble.errors import MarbleError, is_out_of_memory, reason
from marble.features.cache import FORMAT
from marble.features.checked import DAMAGE, read_checked, write_checked
from marble.probe.answers import Answers, FrameAnswers, Group, Training
from marble.probe.frames import bank as frame_bank
from marble.probe.frames.inputs import FrameInputs
from marble.probe.frames.train import frame_stacks, train_frames
from marble.probe.inputs import Inputs
from marble.probe.scoring.metrics import METRICS
from marble.probe.settings import Probe
from marble.probe.training import bank
from marble.probe.training.bank import bytes_per_member, epochs_of, train_probes
from marble.probe.training.checkpoint import Checkpoint
from marble.probe.training.grid import better_of, drawn_points
from marble.system.files import digest, locked
from marble.system.machine import free_memory
from marble.system.progress import Reporter

# On a CPU larger stacks are not faster.
_CPU_STACK_BYTES = 2**29
# Each group of a stack holds an open lock file.
_STACK_GROUPS = 64


@dataclass(frozen=True)
class BankMaker:
    """Trains the probes of a protocol.

    Attributes:
        probe: of the protocol.
        root: folder of the cache.
        title: name of the progress bar.
    """

    probe: Probe
    root: Path
    title: str

    def __call__(self, inputs: Inputs, groups: Sequence[Group], reporter: Reporter) -> dict[Group, Answers]:
        """Return the answers of every group, trained now or kept from before.

        Raises:
            MarbleError: a group does not fit into memory, or a file of the cache cannot be read or written.
        """
        drawn = {seed: drawn_points(self.probe, inputs.task.name, seed) for seed in {group.seed for group in groups}}
        points = [
            (settings, _Point(probe, self.root, inputs, [group for group in groups if number in drawn[group.seed]]))
            for number, (settings, probe) in enumerate(self.probe.points())
        ]
        # Frames are chosen by a share of them, whatever the metrics of the task are.
        higher = isinstance(inputs, FrameInputs) or METRICS[inputs.data.metric].higher_is_better
        best: dict[Group, Answers] = {}
        with reporter.stage(self.title, sum(point.work() for _, point in points), "probe epochs") as advance:
            for settings, point in points:
                for group, answers in point.answers(advance).items():
                    best[group] = better_of(best.get(group), answers, settings, higher_is_better=higher)
        return {group: best[group] for group in groups}


class _Point:
    """The probes of some groups with settings that have no grid, or one point of it."""

    def __init__(self, probe: Probe, root: Path, inputs: Inputs, groups: Sequence[Group]):
        self.probe, self.root, self.inputs, self.groups = probe, root, inputs, groups
        self.paths = {group: self._path(group) for group in groups}

    @property
    def epochs(self) -> int:
        """The epochs of all rates of one group."""
        return len(self.probe.learning_rates) * epochs_of(self.probe, self.inputs.data.train)

    def work(self) -> int:
        """Return the epochs of all probes that are not in the cache."""
        return self.epochs * sum(not path.exists() for path in self.paths.values())

    def answers(self, advance: Callable[[float], None]) -> dict[Group, Answers]:
        """Return the answers of every group, trained now or kept from before."""
        answers = {group: kept for group in self.groups if (kept := self._load(group))}
        waiting = deque(self._stacks([group for group in self.groups if group not in answers]))
        busy = 0
        while waiting:
            stack = waiting.popleft()
            ready = self._claim(stack, advance, wait=busy > len(waiting))
            answers |= ready
            busy = 0 if ready else busy + 1
            if others := [group for group in stack if group not in ready]:
                waiting.append(others)
        return answers

    def _stacks(self, groups: list[Group]) -> Iterator[list[Group]]:
        """Return groups that are trained together."""
        inputs = self.inputs
        return (
            frame_stacks(self.probe, inputs, groups) if isinstance(inputs, FrameInputs) else stacks(self.probe, inputs, groups)
        )

    def _claim(self, stack: list[Group], advance: Callable[[float], None], *, wait: bool) -> dict[Group, Answers]:
        """Return the answers of those groups of a stack that no other process trains, trained now unless another was faster.

        With `wait` the first of them is waited for.
        """
        with ExitStack() as locks:
            mine = [group for group in stack if locks.enter_context(locked(self.paths[group], wait=wait and group == stack[0]))]
            ready = {group: kept for group in mine if (kept := self._load(group))}
            advance(len(ready) * self.epochs)
            new = [group for group in mine if group not in ready]
            if new:
                rates = len(self.probe.learning_rates)
                checkpoint = self._checkpoint(new)
                trained = self._train(new, lambda epochs: advance(epochs * len(new) * rates), checkpoint)
                for group, answer in zip(new, trained, strict=True):
                    _save(self.paths[group], answer)
                    ready[group] = answer
                checkpoint.remove()
        return ready

    def _checkpoint(self, groups: list[Group]) -> Checkpoint:
        """Return the checkpoint of groups that are trained together."""
        key = digest(sorted(self.paths[group].name for group in groups))
        return Checkpoint(self.root / "probes" / key[:2] / f"{key[:40]}.stopped")

    def _train(
        self, groups: list[Group], on_epochs: Callable[[int], object], checkpoint: Checkpoint | None = None
    ) -> list[Answers]:
        """Train groups together and return their answers in their order."""
        inputs = self.inputs
        layers = inputs.layers if groups[0].layer == "weighted" else sorted({int(group.layer) for group in groups})
        try:
            if isinstance(inputs, FrameInputs):
                return train_frames(inputs, groups, self.probe, on_epochs, checkpoint)
            features = inputs.features(layers)
            if self.probe.standardise:
                train = inputs.data.train
                standardise(features, train.rows, train.weights() if self.probe.weight == "track" else None)
            return train_probes(features, layers, groups, inputs.data, self.probe, on_epochs, checkpoint)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MarbleError(
                f"Training the probes of {len(layers)} layers needs more memory than there is: lower probe.hidden, "
                "train fewer learning rates (probe.learning_rates), or fewer --layers at a time."
            ) from error

    def _path(self, group: Group) -> Path:
        """Return the path of the answers of a group."""
        inputs, task = self.inputs, self.inputs.task
        of_frames = {}
        if isinstance(inputs, FrameInputs):
            of_frames = {"frames": [inputs.grid, task.version, task.metrics, frame_bank.VERSION]}
        key = digest(
            of_frames
            | {
                "space": inputs.space.description,
                "layers": inputs.layers if group.layer == "weighted" else group.layer,
                "seed": group.seed,
                "clips": [
                    [key, clip.split, clip.track, clip.target] for clip, key in zip(inputs.clips, inputs.keys, strict=True)
                ],
                "task": [task.name, task.kind, task.labels, task.main_metric],
                "probe": self.probe.identity(),
                "version": bank.VERSION,
            }
        )
        return self.root / "probes" / key[:2] / f"{key[:40]}.safetensors"

    def _load(self, group: Group) -> Answers | None:
        """Return the answers in a file, or None if it is missing or damaged."""
        path = self.paths[group]
        try:
            metadata, arrays = read_checked(path)
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            about = json.loads(metadata["about"])
            # Files of the first release, whose rates were those of the protocol always, do not state them.
            rates = tuple(about.get("grid_rates", self.probe.learning_rates))
            training = Training(about["learning_rate"], about["epoch"], tensors["grid_scores"], tensors["grid_epochs"], rates)
            frames = None
            if "constants" in about:
                frames = FrameAnswers(about["constants"], tensors["decoded"], tensors["probability"])
            return Answers(tensors["validation"], tensors["test"], training, tensors["layer_weights"], frames)
        except FileNotFoundError:
            return None
        except DAMAGE:
            with suppress(OSError):  # in a read-only folder
                path.unlink()
            return None
        except OSError as error:
            raise MarbleError(f"Cannot read {path} of the cache ({reason(error)}): make it readable or remove it.") from error


def stacks(probe: Probe, inputs: Inputs, groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield groups that are trained together: layers of one width, as many as fit into half of the free memory."""
    of_seed = probe.batch_of == "tracks"

    def alike(group: Group) -> tuple[int, bool, int]:
        """Return the common traits of one stack: the seed if need be, whether they are weighted sums, and their width."""
        weighted = group.layer == "weighted"
        return group.seed * of_seed, weighted, inputs.widths[inputs.layers[0] if weighted else int(group.layer)]

    groups = sorted(groups, key=lambda group: group.seed * of_seed)
    for (_, weighted, width), members in groupby(groups, alike):
        waiting = list(members)
        seeds = len({group.seed for group in waiting})
        while waiting:
            free = free_memory(inputs.device)
            budget = min(free // 2, _CPU_STACK_BYTES) if inputs.device.type == "cpu" else free // 2
            member_bytes = bytes_per_member(width, inputs.data, probe, inputs.layers if weighted else ())
            group_bytes = member_bytes * len(probe.learning_rates)
            if group_bytes > 2 * free:
                raise MarbleError(
                    f"The probes of one layer and seed need {group_bytes / 1e9:.0f} GB, but {free / 1e9:.0f} GB are free: "
                    "lower probe.hidden, or train fewer learning rates."
                )
            if not weighted:
                group_bytes += 4 * width * int(inputs.rows.sum()) // seeds
            size = min(max(1, int(budget // group_bytes)), _STACK_GROUPS)
            yield waiting[:size]
            waiting = waiting[size:]


def _save(path: Path, answers: Answers) -> None:
    training = answers.training
    assert training is not None
    about: dict[str, object] = {
        "format": FORMAT, "learning_rate": training.learning_rate, "epoch": training.epoch, "grid_rates": training.grid_rates
    }  # fmt: skip
    tensors = {
        "validation": answers.validation,
        "test": answers.test,
        "layer_weights": answers.layer_weights,
        "grid_scores": training.grid_scores,
        "grid_epochs": training.grid_epochs,
    }
    if answers.frames:
        about["constants"] = answers.frames.constants
        tensors |= {"decoded": answers.frames.decoded, "probability": answers.frames.probability}
    write_checked(path, json.dumps(about), {name: tensor.numpy(force=True) for name, tensor in tensors.items()})


def standardise(features: Tensor, rows: Tensor, weights: Tensor | None = None) -> Tensor:
    """Shift and scale each dimension of ``Tensor[L, R, D]`` to mean 0 and deviation 1 over the given rows, in place.

    A dimension that is constant there (deviation below 1e-6 of its size) becomes 0 on those rows and is not scaled. The rows
    may have weights, ``float64`` with sum 1.
    """
    for layer in features:
        chosen = layer[rows].double()
        if weights is None:
            mean, deviation = chosen.mean(dim=0), chosen.std(dim=0, correction=0)
        else:
            mean = weights @ chosen
            deviation = (weights @ (chosen - mean).square()).sqrt()
        deviation[deviation <= 1e-6 * chosen.abs().amax(dim=0)] = 1.0
        layer.sub_(mean.to(layer)).div_(deviation.to(layer))
    return features
