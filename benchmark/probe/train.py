"""The maker of answers that trains a bank: as many groups at once as memory allows, each trained only once.

Conventions
-----------
- The answers of a trained group are kept beside the feature cache, one checked file each (`marble.features.checked`), named
  after the sha256 of what decides them (features, splits, targets, probe, layer, seed). The same command
  continues a killed run with the finished groups; more seeds or layers train only the new ones. A damaged file counts as
  missing.
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
from marble.files import digest, locked
from marble.machine import free_memory
from marble.probe import bank
from marble.probe.answers import Answers, Group, Training
from marble.probe.bank import bytes_per_member, train_probes
from marble.probe.inputs import Inputs
from marble.probe.protocol import Probe
from marble.progress import Reporter

# On a CPU larger stacks are not faster, and a killed run loses the stack that it was training.
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
        paths = {group: self._path(inputs, group) for group in groups}
        answers = {group: kept for group, path in paths.items() if (kept := _load(path))}
        missing = [group for group in groups if group not in answers]
        epochs = len(self.probe.learning_rates) * self.probe.epochs
        with reporter.stage(self.title, len(missing) * epochs, "probe epochs") as advance:
            waiting = deque(self._stacks(inputs, missing))
            busy = 0
            while waiting:
                stack = waiting.popleft()
                ready = self._claim(inputs, stack, paths, advance, wait=busy > len(waiting))
                answers |= ready
                busy = 0 if ready else busy + 1
                if others := [group for group in stack if group not in ready]:
                    waiting.append(others)
        return {group: answers[group] for group in groups}

    def _claim(
        self, inputs: Inputs, stack: list[Group], paths: dict[Group, Path], advance: Callable[[float], None], *, wait: bool
    ) -> dict[Group, Answers]:
        """Return the answers of those groups of a stack that no other process trains, trained now unless another was faster.

        With `wait` the first of them is waited for.
        """
        with ExitStack() as locks:
            mine = [group for group in stack if locks.enter_context(locked(paths[group], wait=wait and group == stack[0]))]
            ready = {group: kept for group in mine if (kept := _load(paths[group]))}
            rates = len(self.probe.learning_rates)
            advance(len(ready) * rates * self.probe.epochs)
            new = [group for group in mine if group not in ready]
            if new:
                trained = self._train(inputs, new, lambda epochs: advance(epochs * len(new) * rates))
                for group, answer in zip(new, trained, strict=True):
                    _save(paths[group], answer)
                    ready[group] = answer
        return ready

    def _train(self, inputs: Inputs, groups: list[Group], on_epochs: Callable[[int], object]) -> list[Answers]:
        """Train groups together and return their answers in their order."""
        layers = inputs.layers if groups[0].layer == "weighted" else sorted({int(group.layer) for group in groups})
        try:
            features = inputs.features(layers)
            if self.probe.standardise:
                standardise(features, inputs.data.train.rows)
            return train_probes(features, layers, groups, inputs.data, self.probe, on_epochs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MarbleError(
                f"Training the probes of {len(layers)} layers needs more memory than there is: lower probe.hidden, "
                "train fewer learning rates (probe.learning_rates), or fewer --layers at a time."
            ) from error

    def _stacks(self, inputs: Inputs, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """Yield groups that are trained together: layers of one width, as many as fit into half of the free memory."""

        def alike(group: Group) -> tuple[bool, int]:
            """Return the common traits of one stack: whether they are weighted sums, and the width of their rows."""
            weighted = group.layer == "weighted"
            return weighted, inputs.widths[inputs.layers[0] if weighted else int(group.layer)]

        for (weighted, width), members in groupby(groups, alike):
            waiting = list(members)
            seeds = len({group.seed for group in waiting})
            while waiting:
                free = free_memory(inputs.device)
                budget = min(free // 2, _CPU_STACK_BYTES) if inputs.device.type == "cpu" else free // 2
                group_bytes = bytes_per_member(width, inputs.data, self.probe) * len(self.probe.learning_rates)
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

    def _path(self, inputs: Inputs, group: Group) -> Path:
        """Return the path of the answers of a group."""
        task = inputs.task
        key = digest(
            {
                "space": inputs.space.description,
                "layers": inputs.layers if group.layer == "weighted" else group.layer,
                "seed": group.seed,
                "clips": [
                    [key, clip.split, clip.track, clip.target] for clip, key in zip(inputs.clips, inputs.keys, strict=True)
                ],
                "task": [task.name, task.kind, task.labels, task.main_metric],
                "probe": self.probe.model_dump(mode="json"),
                "version": bank.VERSION,
            }
        )
        return self.root / "probes" / key[:2] / f"{key[:40]}.safetensors"


def _load(path: Path) -> Answers | None:
    """Return the answers in a file, or None if it is missing or damaged."""
    try:
        metadata, arrays = read_checked(path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        about = json.loads(metadata["about"])
        training = Training(about["learning_rate"], about["epoch"], tensors["grid_scores"], tensors["grid_epochs"])
        return Answers(tensors["validation"], tensors["test"], training, tensors["layer_weights"])
    except FileNotFoundError:
        return None
    except DAMAGE:
        with suppress(OSError):  # in a read-only folder
            path.unlink()
        return None
    except OSError as error:
        raise MarbleError(f"Cannot read {path} of the cache ({reason(error)}): make it readable or remove it.") from error


def _save(path: Path, answers: Answers) -> None:
    training = answers.training
    assert training is not None
    about = {"format": FORMAT, "learning_rate": training.learning_rate, "epoch": training.epoch}
    tensors = {
        "validation": answers.validation,
        "test": answers.test,
        "layer_weights": answers.layer_weights,
        "grid_scores": training.grid_scores,
        "grid_epochs": training.grid_epochs,
    }
    write_checked(path, json.dumps(about), {name: tensor.numpy(force=True) for name, tensor in tensors.items()})


def standardise(features: Tensor, rows: Tensor) -> Tensor:
    """Shift and scale each dimension of ``Tensor[L, R, D]`` to mean 0 and deviation 1 over the given rows, in place.

    A dimension that is constant there (deviation below 1e-6 of its size) becomes 0 on those rows and is not scaled.
    """
    for layer in features:
        chosen = layer[rows].double()
        mean, deviation = chosen.mean(dim=0), chosen.std(dim=0, correction=0)
        deviation[deviation <= 1e-6 * chosen.abs().amax(dim=0)] = 1.0
        layer.sub_(mean.to(layer)).div_(deviation.to(layer))
    return features
