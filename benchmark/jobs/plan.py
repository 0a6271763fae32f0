"""What a run would do and cost, before it does it: clips, hours, gigabytes, minutes.

The time is measured, not guessed: two clips that the cache lacks are decoded and encoded (and thrown away), and a stack of
probes takes a few steps on random numbers. No features and no results are written, only what any run needs first: weights, the
rendered clips of a synthetic task, the hashes of files, the description of the cache space.
"""

from __future__ import annotations

import time

import torch

from marble.audio import decode as audio
from marble.audio.decode import BadAudioError
from marble.features.encode import Excerpt, pooled_layers
from marble.jobs.run import Job
from marble.probe.bank import Group, Question, Tracks, train_probes

_SAMPLES = 2


def make_plan(job: Job) -> dict[str, object]:
    """Return what a job needs, as one row of plain data.

    Its `clips` are the distinct excerpts of the task, `cached` those whose features are in the cache already; `audio_hours` and
    `feature_gigabytes` are of those that are not, `bad_headers` files whose length cannot be read (the run will tell why).
    `encode_minutes` and `probe_minutes` are estimates, the latter for probes that use all epochs.
    """
    job.space.refresh()
    excerpts = list({excerpt.key: excerpt for excerpt in job.excerpts}.values())
    absent = set(job.space.missing([excerpt.key for excerpt in excerpts], job.needed))
    lengths = {excerpt.key: _length(excerpt) for excerpt in excerpts if excerpt.key in absent}
    seconds = sum(length or 0.0 for length in lengths.values())
    width = sum(job.upstream.info.layers[layer].width for layer in job.needed)
    windows = sum(
        max(1, round((length or 0) / job.windows.seconds)) if job.windows.seconds else 1 for length in lengths.values()
    )
    groups = (len(job.layers) + job.weighted) * len(job.seeds)
    readable = [excerpt for excerpt in excerpts if lengths.get(excerpt.key)]
    return {
        "upstream": job.upstream.info.name,
        "task": job.task.name,
        "layers": len(job.layers) + job.weighted,
        "probes": groups * len(job.protocol.probe.learning_rates),
        "clips": len(excerpts),
        "cached": len(excerpts) - len(absent),
        "audio_hours": seconds / 3600,
        "feature_gigabytes": 4 * width * windows / 1e9,
        "bad_headers": sum(length is None for length in lengths.values()),
        "encode_minutes": _encoder_speed(job, readable[:_SAMPLES]) * seconds / 60,
        "probe_minutes": _probe_seconds(job) * groups / 60,
    }


def _length(excerpt: Excerpt) -> float | None:
    """Return the length of an excerpt in seconds, None where its file does not tell."""
    if excerpt.stop is not None:
        return excerpt.stop - excerpt.start
    try:
        return max(0.0, audio.seconds(excerpt.path) - excerpt.start)
    except BadAudioError:
        return None


def _encoder_speed(job: Job, samples: list[Excerpt]) -> float:
    """Return the seconds of work that one second of audio costs."""
    rate = job.upstream.info.sample_rate
    longest, shortest = round((job.windows.seconds or 30.0) * rate), round(job.upstream.info.min_seconds * rate)
    heard, spent = 0.0, 0.0
    for turn, excerpt in enumerate(samples[:1] + samples):
        begin = time.perf_counter()
        try:
            waveform = audio.load(excerpt.path, rate, excerpt.start, excerpt.stop)
        except BadAudioError:
            continue
        piece = torch.from_numpy(waveform[:longest])[None]
        decoded = time.perf_counter() - begin
        padded = torch.nn.functional.pad(piece, (0, max(0, shortest - piece.shape[1])))
        pooled_layers(job.upstream, padded, job.needed)
        if turn:
            share = piece.shape[1] / len(waveform)
            heard += piece.shape[1] / rate
            spent += time.perf_counter() - begin - decoded * (1 - share)
    return spent / heard if heard else 0.0


def _probe_seconds(job: Job) -> float:
    """Return the seconds that one group would take if its probes used all epochs, from one epoch on random numbers."""
    settings = job.protocol.probe
    device, outputs = job.upstream.device, len(job.task.labels)
    sizes = {split: sum(clip.split == split for clip in job.clips) for split in ("train", "valid")}
    sample = min(sizes["train"], 8 * settings.batch_size)
    width = max(job.upstream.info.layers[layer].width for layer in job.needed)
    features = torch.randn(1, sample, width, device=device)
    targets = torch.arange(sample, device=device) % outputs
    if job.task.kind in ("multilabel", "regression"):
        targets = (torch.rand(sample, outputs, device=device) < 0.5).float()
    rows = torch.arange(sample, device=device)
    tracks = Tracks(rows, rows, targets)
    small = Tracks(rows[:64], rows[:64], targets[:64])
    question = Question("plan", job.task.kind, outputs, job.task.main_metric, tracks, small, small)
    once = settings.model_copy(update={"epochs": 1})
    spent = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        train_probes(features, [0], [Group(0, 0)], question, once)
        spent = time.perf_counter() - begin
    return spent * settings.epochs * (sizes["train"] + sizes["valid"] / 3) / sample
