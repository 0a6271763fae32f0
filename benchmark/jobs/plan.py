"""The size and cost of a run, estimated in advance: clips, hours, gigabytes, minutes.

Time and memory are measured, not guessed, in some seconds: a worker is started; a few windows are decoded and encoded (and
thrown away), of clips from the shortest to the longest that the cache lacks; and the first stack of probes of each kind takes
some epochs on random rows for a part of the clips. The machine is taken to stay as busy as it is. No features and no results
are written, only the prerequisites of any run: weights, the rendered clips of a synthetic task, the hashes of files, the
description of the cache space.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple, cast

import numpy as np
import torch

from marble.audio import decode as audio
from marble.audio.decode import BadAudioError
from marble.audio.workers import WAITING_BYTES, Request, WorkerPool, cores_of_job, spare_cores
from marble.features.cache import Space
from marble.features.encode import SHARD_CLIPS, Excerpt, batch_size, reduced_layers
from marble.features.frames import SHARD_TRACKS
from marble.features.space import shortest_input, windows_of
from marble.jobs.job import Job
from marble.jobs.overview import refuse_useless_splits
from marble.jobs.plan_frames import groups_of_layers, probing_seconds, share_of_passes
from marble.probe.answers import Group
from marble.probe.inputs import Inputs
from marble.probe.settings import Probe
from marble.probe.training.bank import epochs_of, train_probes
from marble.probe.training.batches import Batches
from marble.probe.training.train import stacks
from marble.system.machine import memory_now, memory_peak, reset_memory_peak
from marble.task import SPLITS

_SAMPLES = 8  # windows to encode, fewer where they take longer than `_SECONDS`
_SECONDS = 5.0
_BATCHES = 8  # of an epoch of probes
_EPOCHS = 20  # to take at most, in a fifth of `_SECONDS` for each kind of stack
# Of any run; rendering and hashing, which follow, are done once.
_START_SECONDS = time.process_time()


def make_plan(job: Job) -> dict[str, object]:
    """Return the size and cost of a job, as one row of plain data.

    Its `clips` are the distinct excerpts of the task, `cached` those whose features are in the cache already; `audio_hours` and
    `feature_gigabytes` are of those that are not, `passes` how often the audio is encoded, `layers_of_passes` the layers of
    each pass (`marble.jobs.plan_frames`), `bad_headers` files whose length cannot be read (the run reports the reason).

    Times and memory are estimates. Probes stop early: they are taken to train for the geometric mean of the fewest and the
    most epochs that they can, in the default protocol 46, no further than a factor of 2.2 from either. Probes that are trained
    already are counted as well. Where the budget is far beyond the patience, as that of jukemir, times are "at most".
    `total_minutes` adds the time in which the program is imported. `memory_gigabytes` is the peak of the GPU if one is used,
    and else that of the main process; each decoding worker takes another 0.1 GB.
    """
    refuse_useless_splits(job.task, job.data.clips, job.data.bad, "the audio, and the upstream")
    job.space.refresh()
    excerpts = list({excerpt.key: excerpt for excerpt in job.excerpts}.values())
    absent = set(job.space.missing([excerpt.key for excerpt in excerpts], job.needed))
    extents = {excerpt.key: _extent(job, excerpt) for excerpt in excerpts}
    new = [excerpt for excerpt in excerpts if excerpt.key in absent and extents[excerpt.key].seconds]
    encoding = _plan_encoding(job, new, extents)
    value_bytes = 2 if job.task.frames else 4
    probing = (
        _plan_frames(job, extents) if job.task.frames else _plan_probing(job, [extents[key].rows for key in job.data.keys])
    )
    groups = [job.needed]
    if job.task.frames:
        groups = groups_of_layers(job, sum(extents[key].rows for key in absent))
        encoding = encoding._replace(seconds=encoding.seconds * share_of_passes(job, groups))
    return {
        "upstream": job.upstream.info.name,
        "task": job.task.name,
        "layers": len(job.layers) + job.weighted,
        "probes": len(job.groups) * _probes_of_group(job.protocol.probe),
        "clips": len(excerpts),
        "cached": len(excerpts) - len(absent),
        "audio_hours": sum(extents[key].seconds for key in absent) / 3600,
        "feature_gigabytes": value_bytes * sum(job.widths.values()) * sum(extents[key].rows for key in absent) / 1e9,
        "passes": len(groups),
        "layers_of_passes": " ".join(f"{group[0]}..{group[-1]}" for group in groups) if len(groups) > 1 else "all",
        "bad_headers": sum(not extents[key].seconds for key in absent),
        "encode_minutes": encoding.seconds / 60,
        "probe_minutes": probing.seconds / 60,
        "total_minutes": (_START_SECONDS + encoding.seconds + probing.seconds) / 60,
        "memory_gigabytes": max(encoding.peak, probing.peak) / 1e9,
    }


def _probes_of_group(probe: Probe) -> int:
    points = [len(point.learning_rates) for _, point in probe.points()]
    return sum(points[: probe.grid_points])


class _Extent(NamedTuple):
    """Seconds of an excerpt (0 where its file does not state them), number of its windows and rows, seconds of its windows."""

    seconds: float
    windows: int
    rows: int
    encoded: float


class _Cost(NamedTuple):
    """Seconds of work, and the peak of the memory in bytes."""

    seconds: float
    peak: int


def _extent(job: Job, excerpt: Excerpt) -> _Extent:
    info = job.upstream.info
    try:
        seconds = (audio.seconds(excerpt.path) if excerpt.stop is None else excerpt.stop) - excerpt.start
    except BadAudioError:
        seconds = 0.0
    samples = max(round(seconds * info.sample_rate), shortest_input(info))
    windows = windows_of(samples, job.windows, info, job.reduction)
    encoded = sum(window.samples.stop - window.samples.start for window in windows) / info.sample_rate
    return _Extent(max(0.0, seconds), len(windows), sum(len(window.frames) for window in windows), encoded)


def _plan_encoding(job: Job, excerpts: list[Excerpt], extents: dict[str, _Extent]) -> _Cost:
    """Return the cost of encoding excerpts, from the first windows of some of them."""
    before = memory_now()
    if not excerpts:
        return _Cost(0.0, before)
    excerpts = sorted(excerpts, key=lambda excerpt: extents[excerpt.key].seconds)
    chosen = sorted(set(np.linspace(0, len(excerpts) - 1, _SAMPLES).round().astype(int).tolist()))
    requests = [_first_window(job, excerpts[number], extents) for number in chosen]
    reset_memory_peak()
    samples = _measure(job, requests)
    longest = extents[excerpts[-1].key]
    windows, encoded, seconds = (sum(column) for column in zip(*(
        (extent.windows, extent.encoded, extent.seconds) for extent in (extents[excerpt.key] for excerpt in excerpts)
    ), strict=True))  # fmt: skip
    on_cpu = job.upstream.device.type == "cpu"
    batch = batch_size(job.upstream.device, longest.seconds, longest.encoded / longest.windows)
    peak = before + (memory_peak() - before) * min(batch, longest.windows if on_cpu else windows)
    if on_cpu:  # the waveform in work and those that wait for it, and the rows of a shard
        rate, mean = job.upstream.info.sample_rate, seconds / len(excerpts)
        peak += int(5 * rate * longest.seconds + min(WAITING_BYTES, 12 * spare_cores() * rate * mean))
        rows = sum(extents[excerpt.key].rows for excerpt in excerpts) // len(excerpts)
        if job.task.frames:
            peak += 2 * SHARD_TRACKS * rows * (sum(job.widths.values()) + max(job.widths.values()))
        else:
            peak += 8 * SHARD_CLIPS * rows * sum(job.widths.values())
    decoding, encoding = (_extrapolated(samples, column, windows, encoded) for column in (1, 2))
    return _Cost(_worker_start(requests[-1]) + _together(decoding, encoding, on_cpu), peak)


def _first_window(job: Job, excerpt: Excerpt, extents: dict[str, _Extent]) -> Request:
    length = job.windows.seconds or math.inf
    stop = excerpt.start + length if extents[excerpt.key].seconds > length else excerpt.stop
    return Request(excerpt.path, job.upstream.info.sample_rate, excerpt.start, stop, excerpt.channels)


def _measure(job: Job, requests: Sequence[Request]) -> list[tuple[float, float, float]]:
    """Return length, seconds of decoding and seconds of encoding of some windows; the longest comes first, and once before."""
    samples = []
    began = time.perf_counter()
    for request in [requests[-1], *reversed(requests)]:
        times = [time.perf_counter()]
        try:
            waveform = np.concatenate(list(audio.blocks(*request)))
        except BadAudioError:
            continue
        times.append(time.perf_counter())
        padded = np.pad(waveform, (0, max(0, shortest_input(job.upstream.info) - len(waveform))))
        window = windows_of(len(padded), job.windows, job.upstream.info, job.reduction)[0]
        reduced_layers(job.upstream, torch.from_numpy(padded)[None], job.needed, job.reduction, [request.path], [window])
        times.append(time.perf_counter())
        samples.append((len(padded) / request.sample_rate, times[1] - times[0], times[2] - times[1]))
        if len(samples) > 2 and times[2] - began > _SECONDS:
            break
    return samples[1:] or samples  # the first is slower


def _extrapolated(samples: Sequence[tuple[float, ...]], column: int, windows: int, seconds: float) -> float:
    """Return the seconds of work for windows of these seconds in all: a time for each window and for each second of it."""
    if not samples:
        return 0.0
    lengths, spent = np.array([sample[0] for sample in samples]), np.array([sample[column] for sample in samples])
    of_second, of_window = np.polyfit(lengths, spent, 1) if lengths.max() > 1.5 * lengths.min() else (-1.0, 0.0)
    if min(of_second, of_window) < 0:
        of_second, of_window = spent.sum() / lengths.sum(), 0.0
    return float(of_window * windows + of_second * seconds)


def _together(decoding: float, encoding: float, on_cpu: bool) -> float:
    """Return the seconds of decoding by workers beside encoding, which share the cores of a CPU."""
    cores = cores_of_job()
    shared = (decoding + encoding * (min(torch.get_num_threads(), cores) if on_cpu else 1)) / cores
    return max(encoding, decoding / spare_cores(), shared)


def _worker_start(request: Request) -> float:
    """Return the seconds that a worker needs to start."""
    begin = time.perf_counter()
    with WorkerPool(1) as pool:
        next(pool.map([request]))
    return time.perf_counter() - begin


class _Unread:
    """A space of the cache that knows the rows of clips and not their values."""

    def __init__(self, job: Job, windows: Sequence[int]):
        self.widths, self.rows = job.widths, dict(zip(job.data.keys, windows, strict=True))

    def read(self, keys: Sequence[str], layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros and the number of rows of each clip, as `marble.features.cache.Space.read`."""
        counts = np.array([self.rows[key] for key in keys], dtype=np.int64)
        return np.zeros((counts.sum(), self.widths[layer]), dtype=np.float32), counts


def _plan_frames(job: Job, extents: dict[str, _Extent]) -> _Cost:
    """Return the cost of training all probes of frames, within the memory that they are given; a grid counts as its first."""
    (_, settings), *others = job.protocol.probe.points()
    points = job.protocol.probe.grid_points or 1 + len(others)
    pairs = zip(job.data.clips, job.data.keys, strict=True)
    rate = job.task.frames.grid(job.upstream.info.grid).rate if job.task.frames else 1.0
    frames = {clip.id: round(extents[key].seconds * rate) for clip, key in pairs}
    before = memory_now()
    return _Cost(points * probing_seconds(job, settings, frames), before + job.memory)


def _plan_probing(job: Job, windows: Sequence[int]) -> _Cost:
    """Return the cost of training all probes, from some epochs of a stack of each kind on a part of the clips.

    All points of a grid count as the first.
    """
    (_, settings), *others_of_grid = job.protocol.probe.points()
    points, space = job.protocol.probe.grid_points or 1 + len(others_of_grid), _Unread(job, windows)

    def inputs(step: int) -> Inputs:
        """Return every n-th clip of each split."""
        chosen = [n for split in SPLITS for n in [n for n, clip in enumerate(job.data.clips) if clip.split == split][::step]]
        clips, keys = [job.data.clips[n] for n in chosen], [job.data.keys[n] for n in chosen]
        return Inputs(job.task, clips, keys, cast(Space, space), job.widths, job.upstream.device, settings)

    everything = inputs(1)
    rows, train_rows = int(everything.rows.sum()), len(everything.data.train.rows)
    step = math.ceil(train_rows / (_BATCHES * settings.batch_size))
    part = inputs(step)
    epochs = points * _expected_epochs(settings, everything)
    seconds, peak = 0.0, 0
    for _, alike in groupby(stacks(settings, everything, job.groups), lambda stack: _slices(job, stack)[1:]):
        first, *others = alike
        layers, width, _ = _slices(job, first)
        groups = len(first) + sum(map(len, others))
        before = memory_now()
        reset_memory_peak()
        spent = _epoch_seconds(job, part, first, layers, width)
        seconds += spent * step * epochs * groups / len(first)
        # What grows with the clips: the rows of all layers, those that are read and those that are standardised.
        more = 4 * width * (len(layers) * (rows - int(part.rows.sum())) + rows + 6 * train_rows)
        peak = max(peak, memory_peak() + more, before)
    return _Cost(seconds, peak)


def _expected_epochs(settings: Probe, inputs: Inputs) -> float:
    """Return the geometric mean of the fewest and the most epochs of a probe."""
    train = inputs.data.train
    most = epochs_of(settings, train)
    if settings.patience is None:
        return most
    steps = Batches("", [], train, settings).steps if settings.validate_unit == "steps" else 1
    fewest = (settings.patience + 1) * settings.validate_every / steps
    return math.sqrt(min(fewest, most) * most)


def _slices(job: Job, stack: Sequence[Group]) -> tuple[list[int], int, bool]:
    """Return the layers of a stack, their width, and whether it is of weighted sums."""
    weighted = stack[0].layer == "weighted"
    layers = job.needed if weighted else sorted({int(group.layer) for group in stack})
    return layers, job.widths[layers[0]], weighted


def _epoch_seconds(job: Job, part: Inputs, stack: list[Group], layers: list[int], width: int) -> float:
    """Return the seconds of one epoch of a stack on random rows."""
    once = {"epochs": _EPOCHS, "steps": None, "patience": None, "schedule": "constant", "find_rate": False}
    settings = job.protocol.probe.points()[0][1].model_copy(update=once)
    features = torch.randn(len(layers), int(part.rows.sum()), width, device=job.upstream.device)
    times: list[float] = []

    def stop(_: int) -> None:
        """Note the end of an epoch, the first of which is slower."""
        times.append(time.perf_counter())
        if len(times) > 1 and times[-1] - times[0] > _SECONDS / 5:
            raise StopIteration

    with suppress(StopIteration):
        train_probes(features, layers, stack, part.data, settings, stop)
    return (times[-1] - times[0]) / (len(times) - 1)
