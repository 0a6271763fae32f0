"""``marble cca``: the layers of an upstream beside the input, each other, or the layers of another upstream.

Conventions
-----------
- The *input* is a log-mel spectrogram of the same audio: layer 0 of ``fbank-chroma``, 80 bands. So every upstream is compared
  with the same input, whatever its own front end is; the layer-wise paper does not say which input its Figure 3 takes.
- Rows are *frames* or *clips*. Frames are encoded anew and not stored; both sides hear the same windows, those of the
  protocol, or shorter ones where an upstream takes no longer. Frames of two rates are brought to the lower one: each slow
  frame is the mean of the fast ones, weighted by how long they overlap it; a frame that is covered by less than half, or
  lies behind the end of the clip, is left out. Rows of clips are the means over the windows of each clip of what the
  protocol pools, from the feature cache.
- Clips come in a random order that the seed decides. The null pairs each frame with one that lies as far away in this order
  as the longest clip lasts (at most `_FAR` seconds), and each clip with another.
- Similarities are those of `marble.analysis.similarity`. Clips that cannot be read are left out and counted in a warning.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas
import torch

from marble import registry
from marble.analysis.moments import Moments
from marble.analysis.similarity import BY_CCA, MEASURES, refuse_unknown, similarity_of
from marble.audio.decode import BadAudioError, seconds
from marble.audio.workers import Request, WorkerPool
from marble.errors import MarbleError
from marble.features.encode import Excerpt, reduced_layers
from marble.features.reduction import Reduction
from marble.features.space import Windows, cut_windows, shortest_input
from marble.jobs.job import Job, TaskData, make_job, read_data
from marble.jobs.options import JobOptions
from marble.jobs.run import encode
from marble.system.machine import free_memory
from marble.system.progress import Reporter
from marble.task import Task
from marble.upstream import Upstream

INPUT = "fbank-chroma"
Rows = Literal["frames", "clips"]
_FAR = 60.0
_FRAMES = Reduction("frames", lambda hidden: hidden)


def cca(
    upstream: str | Path | Upstream,
    task: str | Path | pandas.DataFrame | Task,
    against: str | Path | Upstream = "input",
    *,
    rows: Rows = "frames",
    measures: Sequence[str] = MEASURES,
    seed: int = 0,
    workers: int | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> pandas.DataFrame:
    """Return the similarity of the layers of an upstream to the input, to each other or to those of another upstream.

    Args:
        upstream: a spec, the folder of a saved upstream, or a loaded upstream.
        task: whose clips are heard; a task, or what `marble.load_task` takes.
        against: ``input``, ``layers``, or another upstream.
        rows: ``frames`` or ``clips``.
        measures: some of `marble.analysis.similarity.MEASURES`.
        seed: of the order of clips, which decides the null.
        workers: decoding processes; None chooses.
        reporter: shows progress; None is silent.
        options: fields of `marble.jobs.options.JobOptions`; `layers` are those of `upstream`.

    Returns:
        A row for each pair of layers and measure: task, rows ("frames" or "clips"), count (of rows), first, first_layer,
        first_name, second, second_layer, second_name, measure, value, null, first_directions, second_directions, note.

    Raises:
        MarbleError: a name, an option or the data is wrong, or the memory does not hold the sums.
    """
    reporter = reporter or Reporter()
    refuse_unknown(measures)
    if rows not in ("frames", "clips"):
        raise MarbleError(f"There are no rows '{rows}': write frames or clips.")
    job_options = JobOptions.of(options)
    if "weighted" in job_options.layers:
        raise MarbleError("A weighted sum is learned by probes and has no similarity: leave 'weighted' out of the layers.")
    data = read_data(task, job_options, reporter)
    first = _job(upstream, data, job_options, reporter)
    everything = job_options.model_copy(update={"layers": "0" if against == "input" else "all"})
    second = first if against == "layers" else _job(INPUT if against == "input" else against, data, everything, reporter)
    layers = _layers(first), _layers(second, "the input" if against == "input" else None)
    if against not in ("input", "layers") and first.upstream.info.name == second.upstream.info.name:
        layers = layers[0], [layer._replace(key=f"{layer.key}, again") for layer in layers[1]]
    pairs = [(a, b) for i, a in enumerate(layers[0]) for j, b in enumerate(layers[1]) if against != "layers" or i <= j]
    _refuse_memory([*layers[0], *layers[1]], pairs)
    sides = [(first, layers[0])] if against == "layers" else [(first, layers[0]), (second, layers[1])]
    moments = (_of_frames if rows == "frames" else _of_clips)(sides, pairs, seed, workers, reporter)
    about = {"task": data.task.name, "rows": rows}
    table = []
    with reporter.stage(f"{first.title}: comparing", len(pairs), "pairs") as advance:
        for pair in pairs:
            table += [about | row for row in _similarities(moments, *pair, measures)]
            advance(1)
    notes = list(dict.fromkeys(note for layer in layers[0] + layers[1] if (note := moments.sums[layer.key].note)))
    if notes and BY_CCA & set(measures):
        more = f" The same is said of {len(notes) - 1} more layers." if len(notes) > 1 else ""
        warnings.warn(notes[0] + more, stacklevel=2)
    return pandas.DataFrame(table)


def _similarities(moments: Moments, first: _Layer, second: _Layer, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each measure of a pair."""
    seen = similarity_of(moments, first.key, second.key, measures)
    pair: dict[str, Any] = {"count": seen.rows}
    pair |= {"first": first.upstream, "first_layer": first.number, "first_name": first.name}
    pair |= {"second": second.upstream, "second_layer": second.number, "second_name": second.name}
    kept = {"first_directions": seen.directions[0], "second_directions": seen.directions[1], "note": " ".join(seen.notes)}
    return [pair | {"measure": name, "value": seen.values[name], "null": seen.null[name]} | kept for name in measures]


class _Layer(NamedTuple):
    """A layer of one side: the key of its rows, the upstream, and number, name and width of the layer."""

    key: str
    upstream: str
    number: int
    name: str
    width: int


def _layers(job: Job, name: str | None = None) -> list[_Layer]:
    info = job.upstream.info
    return [
        _Layer(
            name or f"layer {number} of {info.name}", "input" if name else info.name, number, info.layers[number].name, width
        )
        for number, width in job.widths.items()
    ]


def _job(upstream: str | Path | Upstream, data: TaskData, options: JobOptions, reporter: Reporter) -> Job:
    if isinstance(upstream, Upstream):
        return make_job(upstream, data, options, reporter)
    registry.refuse_unknown_upstream(str(upstream))
    return make_job(registry.load_upstream(str(upstream), offline=options.offline), data, options, reporter)


def _refuse_memory(layers: Iterable[_Layer], pairs: Sequence[tuple[_Layer, _Layer]]) -> None:
    squares = {layer.key: layer.width**2 for layer in layers}
    needed = 8 * (2 * sum(squares.values()) + 2 * sum(a.width * b.width for a, b in pairs))
    if needed > free_memory(torch.device("cpu")):
        raise MarbleError(
            f"The sums of {len(pairs)} pairs of layers need {needed / 1e9:.1f} GB of memory, more than is free: "
            "compare fewer layers with --layers."
        )


def _unique(job: Job, seed: int) -> list[Excerpt]:
    """Return the clips of a job, each once, in a random order."""
    excerpts = list({excerpt.key: excerpt for excerpt in job.excerpts}.values())
    return [excerpts[number] for number in np.random.default_rng(seed).permutation(len(excerpts))]


def _warn_of_bad(bad: dict[str, str], count: int) -> None:
    if bad:
        warnings.warn(f"{len(bad)} of {count} clips were left out; the first {next(iter(bad.values()))}.", stacklevel=4)


def _of_clips(
    sides: Sequence[tuple[Job, list[_Layer]]],
    pairs: Sequence[tuple[_Layer, _Layer]],
    seed: int,
    workers: int | None,
    reporter: Reporter,
) -> Moments:
    """Return the sums over clips, each a mean over its windows, from the feature cache."""
    bad: dict[str, str] = {}
    for job, _ in sides:
        bad |= encode(job, workers, reporter).bad
    excerpts = _unique(sides[0][0], seed)
    keys = [excerpt.key for excerpt in excerpts if excerpt.key not in bad]
    _warn_of_bad(bad, len(excerpts))
    moments = Moments([(a.key, b.key) for a, b in pairs], lag=1)
    means = {}
    for job, layers in sides:
        for layer in layers if keys else ():
            values, counts = job.space.read(keys, layer.number)
            means[layer.key] = np.add.reduceat(values, np.cumsum(counts) - counts) / counts[:, None].astype(np.float32)
    if means:
        moments.add(means)
    return moments.finish()


def _of_frames(
    sides: Sequence[tuple[Job, list[_Layer]]],
    pairs: Sequence[tuple[_Layer, _Layer]],
    seed: int,
    workers: int | None,
    reporter: Reporter,
) -> Moments:
    """Return the sums over the frames of all clips."""
    job = sides[0][0]
    excerpts = _unique(job, seed)
    rate = min(side.upstream.info.frame_rate for side, _ in sides)
    moments = Moments([(a.key, b.key) for a, b in pairs], lag=max(1, round(_longest(excerpts) * rate)))
    windows = _shared_windows([side for side, _ in sides])
    rates = list(dict.fromkeys(side.upstream.info.sample_rate for side, _ in sides))
    requests = (
        Request(excerpt.path, rate, excerpt.start, excerpt.stop, excerpt.channels) for excerpt in excerpts for rate in rates
    )
    bad: dict[str, str] = {}
    title = " and ".join(dict.fromkeys(side.upstream.info.name for side, _ in sides))
    with (
        reporter.stage(f"{title} on {job.task.name}: encoding", len(excerpts), "clips") as advance,
        WorkerPool(workers) as pool,
    ):
        answers = pool.map(requests)
        for excerpt in excerpts:
            decoded = {rate: next(answers) for rate in rates}
            advance(1)
            waveforms = {rate: part for rate, part in decoded.items() if isinstance(part, np.ndarray)}
            if len(waveforms) < len(rates):
                bad[excerpt.key] = next(str(part) for part in decoded.values() if isinstance(part, BadAudioError))
                continue
            for parts in zip(
                *(_encoded(side, layers, waveforms, windows, excerpt.path) for side, layers in sides), strict=False
            ):
                moments.add(_aligned(parts))
    _warn_of_bad(bad, len(excerpts))
    return moments.finish()


def _longest(excerpts: Sequence[Excerpt]) -> float:
    """Return the length of the longest clip in seconds, at most `_FAR`."""
    longest = 0.0
    for excerpt in excerpts:
        with suppress(BadAudioError):
            longest = max(longest, (seconds(excerpt.path) if excerpt.stop is None else excerpt.stop) - excerpt.start)
        if longest >= _FAR:
            return _FAR
    return longest


def _shared_windows(jobs: Sequence[Job]) -> Windows:
    """Return the windows that all upstreams hear: the shortest of theirs."""
    windows = min((job.windows for job in jobs), key=lambda windows: windows.seconds or math.inf)
    for job in jobs:
        if (windows.seconds or 0) < job.upstream.info.min_seconds:
            raise MarbleError(
                f"{job.upstream.info.name} needs windows of {job.upstream.info.min_seconds:g} s, and the other upstream takes "
                f"no longer ones than {windows.seconds:g} s: compare clips with --rows clips."
            )
    return windows


class _Window(NamedTuple):
    """The frames of one window: float32[T, D] of each layer by key, their centres in seconds, their rate, and the length."""

    layers: dict[str, np.ndarray]
    times: np.ndarray
    rate: float
    seconds: float


def _encoded(
    job: Job, layers: Sequence[_Layer], waveforms: dict[int, np.ndarray], windows: Windows, path: Path
) -> Iterator[_Window]:
    """Yield the windows of a clip; a clip shorter than the shortest input is extended with zeros, which give no frames."""
    upstream, rate = job.upstream, job.upstream.info.sample_rate
    waveform = waveforms[rate]
    length = len(waveform)
    if length < shortest_input(upstream.info):
        waveform = np.pad(waveform, (0, shortest_input(upstream.info) - length))
    for cut in cut_windows(len(waveform), windows, upstream.info):
        samples = torch.from_numpy(waveform[cut].copy())[None]
        hidden = reduced_layers(upstream, samples, [layer.number for layer in layers], _FRAMES, [path])
        frames = {layer.key: hidden[layer.number][0] for layer in layers}
        most = max(len(values) for values in frames.values())
        if short := [layer.number for layer in layers if len(frames[layer.key]) < most]:
            raise MarbleError(
                f"Layer {short[0]} of {upstream.info.name} is one vector a window and has no frames: "
                "leave it out with --layers, or compare clips with --rows clips."
            )
        times = upstream.info.grid.times(most)
        yield _Window(frames, times, upstream.info.frame_rate, (min(cut.stop, length) - cut.start) / rate)


def _aligned(windows: Sequence[_Window]) -> dict[str, np.ndarray]:
    """Return the frames of all layers of some windows of the same audio, at the lowest of their rates, by key."""
    slow = min(windows, key=lambda window: window.rate)
    end = min(window.seconds for window in windows)
    inside = slow.times < end
    averages = []
    for window in windows:
        weights = overlap_weights(slow.times, slow.rate, window.times, window.rate)
        covered = weights.sum(1)
        inside &= covered > 0.5
        averages.append(weights / np.maximum(covered, 1e-12)[:, None])
    return {
        key: (weights[inside] @ values.astype(np.float64)).astype(np.float32) if window is not slow else values[inside]
        for window, weights in zip(windows, averages, strict=True)
        for key, values in window.layers.items()
    }


def overlap_weights(slow: np.ndarray, slow_rate: float, fast: np.ndarray, fast_rate: float) -> np.ndarray:
    """Return the share of each slow frame that each fast frame overlaps, ``float64[slow, fast]``.

    Args:
        slow, fast: centres of the frames, in seconds.
        slow_rate, fast_rate: frames a second; a frame lasts from half a step before its centre to half a step behind.
    """
    begins = np.maximum(slow[:, None] - 0.5 / slow_rate, fast - 0.5 / fast_rate)
    ends = np.minimum(slow[:, None] + 0.5 / slow_rate, fast + 0.5 / fast_rate)
    return np.maximum(ends - begins, 0) * slow_rate
