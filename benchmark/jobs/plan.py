"""The size and cost of a run, estimated in advance: clips, hours, gigabytes, minutes.

The time is measured, not guessed: two clips that the cache lacks are decoded and encoded (and thrown away), and a stack of
probes takes a few steps on random numbers. No features and no results are written, only the prerequisites of any run: weights,
the rendered clips of a synthetic task, the hashes of files, the description of the cache space.
"""

from __future__ import annotations

import time

import torch

from marble.audio import decode as audio
from marble.audio.decode import BadAudioError
from marble.features.encode import Excerpt, reduced_layers
from marble.features.space import cut_windows, shortest_input
from marble.jobs.job import Job
from marble.probe.answers import Group
from marble.probe.bank import epochs_of, train_probes
from marble.probe.inputs import Examples, ProbeData
from marble.probe.settings import Probe

_SAMPLES = 2


def make_plan(job: Job) -> dict[str, object]:
    """Return the size and cost of a job, as one row of plain data.

    Its `clips` are the distinct excerpts of the task, `cached` those whose features are in the cache already; `audio_hours` and
    `feature_gigabytes` are of those that are not, `bad_headers` files whose length cannot be read (the run reports the reason).
    `encode_minutes` and `probe_minutes` are estimates, the latter for probes that use all epochs.
    """
    job.space.refresh()
    excerpts = list({excerpt.key: excerpt for excerpt in job.excerpts}.values())
    absent = set(job.space.missing([excerpt.key for excerpt in excerpts], job.needed))
    lengths = {excerpt.key: _length(excerpt) for excerpt in excerpts if excerpt.key in absent}
    seconds = sum(length or 0.0 for length in lengths.values())
    count = sum(_window_count(job, length or 0.0) for length in lengths.values())
    readable = [excerpt for excerpt in excerpts if lengths.get(excerpt.key)]
    return {
        "upstream": job.upstream.info.name,
        "task": job.task.name,
        "layers": len(job.layers) + job.weighted,
        "probes": len(job.groups) * _probes_of_group(job.protocol.probe),
        "clips": len(excerpts),
        "cached": len(excerpts) - len(absent),
        "audio_hours": seconds / 3600,
        "feature_gigabytes": 4 * sum(job.widths.values()) * count / 1e9,
        "bad_headers": sum(length is None for length in lengths.values()),
        "encode_minutes": _encoder_speed(job, readable[:_SAMPLES]) * seconds / 60,
        "probe_minutes": _probe_seconds(job) * len(job.groups) / 60,
    }


def _probes_of_group(probe: Probe) -> int:
    points = [len(point.learning_rates) for _, point in probe.points()]
    return sum(points[: probe.grid_points])


def _length(excerpt: Excerpt) -> float | None:
    """Return the length of an excerpt in seconds, None where its file does not state it."""
    if excerpt.stop is not None:
        return excerpt.stop - excerpt.start
    try:
        return max(0.0, audio.seconds(excerpt.path) - excerpt.start)
    except BadAudioError:
        return None


def _window_count(job: Job, seconds: float) -> int:
    """Return the number of windows of an excerpt of this length."""
    info = job.upstream.info
    samples = max(round(seconds * info.sample_rate), shortest_input(info))
    return len(cut_windows(samples, job.windows, info))


def _encoder_speed(job: Job, samples: list[Excerpt]) -> float:
    """Return the seconds of work for one second of audio."""
    rate = job.upstream.info.sample_rate
    encoded, spent = 0.0, 0.0
    for turn, excerpt in enumerate(samples[:1] + samples):
        begin = time.perf_counter()
        try:
            waveform = audio.load(excerpt.path, rate, excerpt.start, excerpt.stop)
        except BadAudioError:
            continue
        piece = torch.from_numpy(waveform[cut_windows(len(waveform), job.windows, job.upstream.info)[0]])[None]
        decoded = time.perf_counter() - begin
        padded = torch.nn.functional.pad(piece, (0, max(0, shortest_input(job.upstream.info) - piece.shape[1])))
        reduced_layers(job.upstream, padded, job.needed, job.reduction, [excerpt.path])
        if turn:
            share = piece.shape[1] / len(waveform)
            encoded += piece.shape[1] / rate
            spent += time.perf_counter() - begin - decoded * (1 - share)
    return spent / encoded if encoded else 0.0


def _probe_seconds(job: Job) -> float:
    """Return the seconds that one group would take if its probes used all epochs, from one epoch on random features.

    All points of a grid count as the first.
    """
    points = [probe for _, probe in job.protocol.probe.points()]
    settings = points[0]
    clips = {split: [clip for clip in job.data.clips if clip.split == split] for split in ("train", "valid")}
    sample = min(len(clips["train"]), 8 * settings.batch_size)
    features = torch.randn(1, sample, max(job.widths.values()), device=job.upstream.device)
    targets = torch.from_numpy(job.task.encode(clips["train"][:sample])).to(features.device)
    rows = torch.arange(sample, device=features.device)
    train, few = Examples(rows, rows, targets), Examples(rows[:64], rows[:64], targets[:64])
    data = ProbeData("plan", job.task.kind, len(job.task.labels), job.task.main_metric, train, few, few)
    once = settings.model_copy(update={"epochs": 1, "find_rate": False})
    spent = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        train_probes(features, [0], [Group(0, 0)], data, once)
        spent = time.perf_counter() - begin
    rows = torch.arange(len(clips["train"]))
    epochs = epochs_of(settings, Examples(rows, rows, rows)) * (job.protocol.probe.grid_points or len(points))
    return spent * epochs * (len(clips["train"]) + len(clips["valid"]) / 3) / sample
