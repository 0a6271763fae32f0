"""The part of a plan that is about frames: passes over the audio where the disk is short, and the time of probing.

Conventions
-----------
- Where the features of all layers do not fit into nine tenths of the free disk, layers are taken in groups that do, one pass of
  the encoder for each: run one with ``--layers``, and remove its features before the next. A pass ends with its last layer.
- One batch of chunks and the validation of some frames are timed with the rates of one group on random numbers. Reading is not
  counted, since it goes on beside the computation. Probes stop early: see `marble.jobs.plan.make_plan`.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from marble.jobs.job import Job
from marble.probe.answers import Group
from marble.probe.frames.bank import FrameBank, FrameData, validations_of
from marble.probe.settings import Probe
from marble.task import SPLITS, Split

_SHARE_OF_DISK = 0.9
_LONGEST = 3000  # frames of a track that is timed


def groups_of_layers(job: Job, rows: int) -> list[list[int]]:
    """Return the needed layers in groups whose features fit on the disk, as many in each as do; a layer at least."""
    folder = next(folder for folder in (job.cache_root, *job.cache_root.absolute().parents) if folder.exists())
    free = _SHARE_OF_DISK * shutil.disk_usage(folder).free
    groups: list[list[int]] = []
    room = 0.0
    for layer, width in job.widths.items():
        size = 2 * width * rows
        if not groups or size > room:
            groups.append([])
            room = free
        groups[-1].append(layer)
        room -= size
    return groups


def share_of_passes(job: Job, groups: Sequence[Sequence[int]]) -> float:
    """Return how much all passes run of the blocks that one pass over all needed layers runs."""
    return sum(group[-1] + 1 for group in groups) / (job.needed[-1] + 1)


def probing_seconds(job: Job, settings: Probe, frames: Mapping[str, int]) -> float:
    """Return the time of all probes with some settings, without their grid, from the number of frames of each clip by id."""
    rate = job.task.frames.grid(job.upstream.info.grid).rate if job.task.frames else 1.0
    chunk = max(1, round(settings.chunk * rate))
    of_split = {split: [frames[clip.id] for clip in job.data.clips if clip.split == split] for split in SPLITS}
    batches = math.ceil(len(of_split["train"]) / settings.batch_size)
    tested = sum(of_split["test"])
    most = settings.epochs or math.ceil((settings.steps or 1) / batches)
    fewest = next(epoch for epoch in range(1, 10**6) if validations_of(epoch, settings) > (settings.patience or 10**4))
    epochs = math.sqrt(min(fewest, most) * most) if settings.patience else most
    seconds = 0.0
    for width in set(job.widths.values()):
        step, per_frame = _times(job, settings, width, chunk, min(settings.batch_size, len(of_split["train"])))
        probes = len(settings.learning_rates) * sum(job.widths[layer] == width for layer in job.layers) * len(job.seeds)
        validated = validations_of(round(epochs), settings) * sum(of_split["valid"])
        seconds += probes * (epochs * batches * step + (validated + tested / len(settings.learning_rates)) * per_frame)
    return seconds


def _times(job: Job, settings: Probe, width: int, chunk: int, tracks: int) -> tuple[float, float]:
    """Return the seconds of a step of one probe, and of one frame of its validation."""
    length = min(max(chunk, 1), _LONGEST)
    splits: dict[Split, Sequence[int]] = {"train": range(tracks), "valid": [0], "test": [0]}
    labels = len(job.task.labels)
    target = np.zeros(length, dtype=np.int16) if job.task.kind == "frame_classes" else np.zeros((length, labels), np.float16)
    values = np.random.default_rng(0).normal(size=(length, width)).astype(np.float16)
    data = FrameData(
        job.task.name, job.task.kind, labels, chunk, splits, [target] * tracks,
        lambda track, layer, begin, end: values[begin:end],
    )  # fmt: skip
    group = [Group(job.layers[0], job.seeds[0])]
    bank = FrameBank(data, width, group, settings, torch.empty(0, device=job.upstream.device))
    times = []
    for work in (bank.train_chunks, bank.train_chunks, bank.validate, bank.validate):
        begin = time.perf_counter()
        work(1)
        times.append((time.perf_counter() - begin) / len(settings.learning_rates))
    return times[1], times[3] / length
