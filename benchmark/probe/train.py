"""From cached features to trained probes: what the task asks as tensors, and as many groups at once as memory allows.

Trained groups are kept beside the feature cache, one checked file each, named after the sha256 of what decides it (features,
splits, targets, probe, layer, seed): a group is trained once, and its test answers are computed once. A killed run finds here
what it had finished; more seeds or layers train only what is new. A damaged file counts as none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from marble.errors import MarbleError
from marble.features.checked import DAMAGE, read_checked, write_checked
from marble.files import digest
from marble.machine import free_memory
from marble.probe import bank as probes
from marble.probe.bank import Group, Question, Tracks, Trained, bytes_per_member, train_probes
from marble.probe.metrics import METRICS
from marble.progress import Reporter
from marble.task import Clip, Split

if TYPE_CHECKING:
    from marble.jobs.run import Job

# On a CPU larger stacks are not faster, and a killed run loses the stack that it was training.
_CPU_STACK_BYTES = 2**29
_TENSORS = ("grid_scores", "grid_epochs", "validation", "test", "layer_weights", "validation_windows", "test_windows")


class Probing:
    """The probes of one job.

    Args:
        job: what is asked.
        clips: the usable clips.
        keys: their keys in the cache.
    """

    def __init__(self, job: Job, clips: list[Clip], keys: list[str]):
        self.job, self.clips, self.keys = job, clips, keys
        self.device = job.upstream.device
        _, self.windows = job.space.read(keys, job.needed[0])
        self.tracks: dict[Split, list[str]] = {}
        self.question = Question(
            task=job.task.name,
            kind=job.task.kind,
            outputs=len(job.task.labels),
            metric=job.task.main_metric,
            train=self._tracks("train"),
            valid=self._tracks("valid"),
            test=self._tracks("test"),
            windows=any(METRICS[name].of_windows for name in job.task.metrics),
        )

    @property
    def groups(self) -> list[Group]:
        """All layers × seeds that are asked for, single layers first."""
        layers = [*self.job.layers, *(["weighted"] if self.job.weighted else [])]
        return [Group(layer, seed) for layer in layers for seed in self.job.seeds]

    def train(self, reporter: Reporter) -> dict[Group, Trained]:
        """Return every group, trained now or found among those that are kept.

        Raises:
            MarbleError: a group does not fit into memory, or a file of the cache cannot be read or written.
        """
        paths = {group: self._path(group) for group in self.groups}
        trained = {group: found for group, path in paths.items() if (found := _load(path))}
        missing = [group for group in self.groups if group not in trained]
        settings = self.job.protocol.probe
        rates = len(settings.learning_rates)
        title = f"{self.job.upstream.info.name} on {self.job.task.name}: probing"
        with reporter.stage(title, len(missing) * rates * settings.epochs, "probe epochs") as advance:
            for chunk in self._chunks(missing):
                layers = self.job.needed if chunk[0].layer == "weighted" else sorted({int(group.layer) for group in chunk})
                members = len(chunk) * rates
                results = train_probes(
                    self._features(layers), layers, chunk, self.question, settings,
                    lambda epochs, members=members: advance(epochs * members),
                )  # fmt: skip
                for group, result in zip(chunk, results, strict=True):
                    _save(paths[group], result)
                    trained[group] = result
        return {group: trained[group] for group in self.groups}

    def _tracks(self, split: Split) -> Tracks:
        """Return the windows and targets of a split and note the names of its tracks, in the order of the clips."""
        own = np.array([clip.split == split for clip in self.clips])
        clips = [clip for clip in self.clips if clip.split == split]
        first = {clip.track: clip for clip in reversed(clips)}
        self.tracks[split] = names = list(dict.fromkeys(clip.track for clip in clips))
        number = {name: place for place, name in enumerate(names)}
        rows = np.flatnonzero(np.repeat(own, self.windows))
        track = np.repeat([number[clip.track] for clip in clips], self.windows[own])
        targets = self.job.task.encode([first[name] for name in names])
        return Tracks(*(torch.from_numpy(values).to(self.device) for values in (rows, track, targets)))

    def _features(self, layers: list[int]) -> Tensor:
        """Return ``Tensor[L, W, D]`` of some layers on the device, standardised where the protocol says so."""
        width = self.job.upstream.info.layers[layers[0]].width
        features = torch.empty(len(layers), int(self.windows.sum()), width, device=self.device)
        for held, layer in zip(features, layers, strict=True):
            held.copy_(torch.from_numpy(self.job.space.read(self.keys, layer)[0]))
        return standardise(features, self.question.train.rows) if self.job.protocol.probe.standardise else features

    def _chunks(self, groups: list[Group]) -> Iterator[list[Group]]:
        """Yield groups that are trained together: layers of one width, as many as fit into half of the free memory."""
        infos = self.job.upstream.info.layers
        settings = self.job.protocol.probe

        def kind(group: Group) -> tuple[bool, int]:
            """Return what groups of one stack share: whether they are weighted sums, and their width."""
            return group.layer == "weighted", infos[self.job.needed[0] if group.layer == "weighted" else int(group.layer)].width

        for (weighted, width), alike in groupby(groups, kind):
            waiting = list(alike)
            while waiting:
                free = free_memory(self.device)
                budget = min(free // 2, _CPU_STACK_BYTES) if self.device.type == "cpu" else free // 2
                tracks = max(len(self.question.valid.targets), len(self.question.test.targets))
                each = bytes_per_member(width, self.question.outputs, settings, tracks) * len(settings.learning_rates)
                if each > 2 * free:
                    raise MarbleError(
                        f"The probes of one layer and seed need {each / 1e9:.0f} GB, but {free / 1e9:.0f} GB are free: "
                        "lower probe.hidden, or train fewer learning rates."
                    )
                if not weighted:
                    each += 4 * width * int(self.windows.sum()) // len(self.job.seeds)
                size = max(1, int(budget // each))
                yield waiting[:size]
                waiting = waiting[size:]

    def _path(self, group: Group) -> Path:
        """Return where a trained group is kept."""
        job = self.job
        key = digest(
            {
                "space": job.space.description,
                "layers": job.needed if group.layer == "weighted" else group.layer,
                "seed": group.seed,
                "clips": [[key, clip.split, clip.track, clip.target] for clip, key in zip(self.clips, self.keys, strict=True)],
                "task": [job.task.name, job.task.kind, job.task.labels, job.task.main_metric, self.question.windows],
                "probe": job.protocol.probe.model_dump(mode="json"),
                "version": probes.VERSION,
            }
        )
        return job.cache_root / "probes" / key[:2] / f"{key[:40]}.safetensors"


def _load(path: Path) -> Trained | None:
    """Return a trained group, or None where it is not there or its file is damaged."""
    try:
        metadata, tensors = read_checked(path, *_TENSORS)
        return Trained(**json.loads(metadata["about"]), **{name: torch.from_numpy(tensors[name]) for name in _TENSORS})
    except (OSError, *DAMAGE):
        with suppress(OSError):  # not there, or in a folder that may only be read
            path.unlink()
        return None


def _save(path: Path, trained: Trained) -> None:
    choice = json.dumps({"learning_rate": trained.learning_rate, "epoch": trained.epoch})
    write_checked(path, choice, {name: getattr(trained, name).numpy(force=True) for name in _TENSORS})


def standardise(features: Tensor, rows: Tensor) -> Tensor:
    """Shift and scale each dimension of ``Tensor[L, W, D]`` to mean 0 and deviation 1 over the given rows, in place.

    A dimension that is constant there (deviation below 1e-6 of its size) becomes 0 on those rows and is not scaled.
    """
    for layer in features:
        chosen = layer[rows].double()
        mean, deviation = chosen.mean(dim=0), chosen.std(dim=0, correction=0)
        deviation[deviation <= 1e-6 * chosen.abs().amax(dim=0)] = 1.0
        layer.sub_(mean.to(layer)).div_(deviation.to(layer))
    return features
