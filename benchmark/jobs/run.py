"""The main job: one upstream on one task, from audio files to a result.

Data moves one way: clips -> content hashes -> features in the cache -> probes -> result. Each step keeps what it finishes, so
the same command continues a run that was stopped anywhere, and a run that is already done is read back, unless clips were left
out: what could not be decoded may be readable now.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from pyarrow import ArrowInvalid
from pyarrow.parquet import read_metadata

from marble import registry
from marble.audio.decode import promised_formats
from marble.data.leakage import crossing_recordings
from marble.errors import MarbleError, reason
from marble.features.cache import FeatureCache, Space, clip_key
from marble.features.encode import Excerpt, Extraction, extract
from marble.features.space import Windows, describe_space, resolve_windows
from marble.files import digest, file_hashes, home, readable
from marble.jobs.summary import build_result, write_predictions
from marble.machine import choose_device, computes_bfloat16, memory_peak, reset_memory_peak
from marble.probe import bank as probes
from marble.probe.metrics import METRICS
from marble.probe.protocol import Protocol, load_protocol, parse_layers
from marble.probe.train import Probing
from marble.progress import Reporter
from marble.results.schema import BadClip, Cost, Result, read
from marble.task import SPLITS, Clip, Task
from marble.upstream import Upstream


class BadClipsError(MarbleError):
    """The run is done and its result written, but clips were left out and nobody said that this is fine."""

    def __init__(self, result: Result):
        first, count = result.bad_clips[0], len(result.bad_clips)
        super().__init__(
            f"{count} bad clip{'s were' if count > 1 else ' was'} left out, first {first.path}, which {first.reason}: "
            "repair or remove the bad files, or accept it with --skip-bad."
        )
        self.result = result


@dataclass(frozen=True)
class Job:
    """One upstream on one task, resolved and ready: nothing has been encoded yet.

    Attributes:
        clips: of the task, those whose file could be read.
        keys: their keys in the cache.
        bad: clips whose file could not be read.
        layers: single layers to probe; `weighted` adds the weighted sum of all layers.
    """

    upstream: Upstream
    task: Task
    protocol: Protocol
    windows: Windows
    clips: list[Clip]
    keys: list[str]
    bad: list[BadClip]
    layers: list[int]
    weighted: bool
    seeds: list[int]
    space: Space
    limit: int | None
    cache_root: Path

    @property
    def needed(self) -> list[int]:
        """The layers whose features are needed."""
        return list(range(len(self.upstream.info.layers))) if self.weighted else self.layers

    @property
    def excerpts(self) -> list[Excerpt]:
        """What has to be in the cache."""
        return [Excerpt(key, clip.path, clip.start, clip.stop) for clip, key in zip(self.clips, self.keys, strict=True)]

    @property
    def data(self) -> str:
        """The hash of all clips with their audio, splits and targets."""
        table = [[clip.id, clip.split, clip.track, clip.target, key] for clip, key in zip(self.clips, self.keys, strict=True)]
        return digest(table + [clip.id for clip in self.bad])

    @property
    def identity(self) -> str:
        """The hash of everything that decides the numbers."""
        return digest(
            {
                "space": self.space.description,
                "task": [self.task.name, self.task.version, self.task.kind, self.task.labels, self.task.metrics],
                "clips": self.data,
                "protocol": self.protocol.model_dump(mode="json"),
                "layers": [self.layers, self.weighted],
                "seeds": self.seeds,
                "probes": probes.VERSION,
            }
        )


class JobOptions(TypedDict, total=False):
    """What may be asked beside upstream and task; each has a default.

    Attributes:
        layers: ``all``, ``weighted``, a list such as ``0,3,6..12``, or several of these joined by commas (default ``all``).
        seeds: how many; they are 0, 1, 2, … (default 5).
        protocol: its name (default ``marble``).
        settings: changes to it, ``KEY=VALUE``.
        data_root: where the folders of the datasets lie; ``$MARBLE_HOME/data``.
        cache_dir: where features and trained probes are kept; ``$MARBLE_HOME/cache``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` (fp32), ``fp32`` or ``bf16``.
        limit: use at most this many tracks of each split, for a quick look.
        offline: never reach for the network.
    """

    layers: str
    seeds: int
    protocol: str
    settings: Sequence[str]
    data_root: Path | str | None
    cache_dir: Path | str | None
    device: str
    precision: str
    limit: int | None
    offline: bool


def prepare(
    upstream: str | Upstream, task: str | Task, *, reporter: Reporter | None = None, **options: Unpack[JobOptions]
) -> Job:
    """Resolve names, read the task, hash its files and make the upstream ready; arguments as in `run`.

    Raises:
        MarbleError: a name, an option or the data is wrong, the weights were changed, or the cache cannot be written.
    """
    reporter = reporter or Reporter()
    loaded_task = registry.load_task(task) if isinstance(task, str) else task
    chosen = load_protocol(options.get("protocol", "marble"), options.get("settings", ()), loaded_task.name.partition("@")[0])
    model = registry.load_upstream(upstream, offline=options.get("offline", False)) if isinstance(upstream, str) else upstream
    numbers, weighted = parse_layers(options.get("layers", "all"), len(model.info.layers))
    if weighted and len({layer.width for layer in model.info.layers}) > 1:
        widths = ", ".join(str(layer.width) for layer in model.info.layers)
        raise MarbleError(
            f"A weighted sum needs layers of one width, but those of {model.info.name} have {widths}: leave out 'weighted'."
        )
    seeds = options.get("seeds", 5)
    if seeds < 1:
        raise MarbleError(f"--seeds {seeds} trains nothing: ask for at least one seed.")
    precision, device = options.get("precision", "auto"), options.get("device", "auto")
    if model.precision is not None and (
        precision not in ("auto", model.precision) or device not in ("auto", str(model.device))
    ):
        raise MarbleError(
            f"{model.info.name} is prepared for {model.device} in {model.precision}, not {device} in {precision}: load it anew."
        )
    if model.precision is None:
        model.prepare(choose_device(device), "fp32" if precision == "auto" else precision)
        if model.precision == "bf16" and not computes_bfloat16(model.device):
            reporter.say("This CPU computes bfloat16 in software, many times slower than float32: leave out --precision bf16.")
    if isinstance(upstream, Upstream):
        upstream.refuse_changed_weights()
    windows = resolve_windows(chosen.windows, loaded_task.window, model)
    cache = FeatureCache(Path(options.get("cache_dir") or home() / "cache"))
    reporter.say(f"{loaded_task.name}: looking for its clips{' (rendered on first use)' if loaded_task.synthetic else ''}")
    everything = loaded_task.read(Path(options.get("data_root") or home() / "data"))
    clips = _limited(everything, options.get("limit"))
    _refuse_undefined_metric(loaded_task, clips)
    with reporter.stage(f"{loaded_task.name}: reading files", len({clip.path for clip in clips}), "files") as advance:
        contents = file_hashes([clip.path for clip in clips], lambda: advance(1))
    good, keys, bad = [], [], []
    for clip in clips:
        content = contents[clip.path]
        if isinstance(content, OSError):
            bad.append(_bad_clip(clip, f"cannot be read ({reason(content)})"))
        else:
            good.append(clip)
            keys.append(clip_key(content, clip.start, clip.stop, promised_formats(clip.path)))
    for doubt in _doubts(loaded_task, good, contents):
        reporter.say(f"{loaded_task.name}: {doubt}")
    return Job(
        upstream=model,
        task=loaded_task,
        protocol=chosen,
        windows=windows,
        clips=good,
        keys=keys,
        bad=bad,
        layers=numbers,
        weighted=weighted,
        seeds=list(range(seeds)),
        space=cache.space(describe_space(model, windows)),
        limit=options.get("limit") if len(clips) < len(everything) else None,
        cache_root=cache.root,
    )


def run(
    upstream: str | Upstream,
    task: str | Task,
    *,
    results: Path | str = "results",
    skip_bad: bool = False,
    workers: int | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[JobOptions],
) -> Result:
    """Probe the layers of an upstream on a task and write the result.

    Args:
        upstream: a spec such as ``muq``, ``muq:PATH`` or ``module:Class``, or a loaded upstream, which is prepared in place
            (see `Upstream.prepare`) and must not be changed afterwards.
        task: a spec such as ``gtzan`` or ``folder:PATH``, or a task.
        results: the folder of all results.
        skip_bad: accept that bad clips are left out.
        workers: decoding processes; None chooses.
        reporter: says what happens; None is silent.
        options: see `JobOptions`.

    Raises:
        MarbleError: a name, an option or the data is wrong, or the disk is full.
        BadClipsError: the result is written, but clips were left out and `skip_bad` is not set.
    """
    reporter = reporter or Reporter()
    reset_memory_peak()
    job = prepare(upstream, task, reporter=reporter, **options)
    done = find_result(job, Path(results))
    if done and not done.bad_clips:
        reporter.say(f"{job.upstream.info.name} on {job.task.name}: already done, {Path(results) / done.path}")
        return done
    extraction = encode(job, workers, reporter)
    bad, clips, keys = list(job.bad), [], []
    for clip, key in zip(job.clips, job.keys, strict=True):
        if key in extraction.bad:
            bad.append(_bad_clip(clip, extraction.bad[key]))
        else:
            clips.append(clip)
            keys.append(key)
    _refuse_empty_splits(job, clips, bad)
    _refuse_undefined_metric(job.task, clips)
    begin = time.perf_counter()
    probing = Probing(job, clips, keys)
    trained = probing.train(reporter)
    cost = Cost(
        encoder_seconds=extraction.encoder_seconds,
        probe_seconds=time.perf_counter() - begin,
        audio_hours=extraction.audio_seconds / 3600,
        clips_encoded=extraction.clips,
        clips_cached=len(set(job.keys)) - extraction.clips - len(extraction.bad),
        peak_memory_bytes=memory_peak(),
        cache_bytes=job.space.size()[2],
    )
    result = build_result(job, probing, trained, bad, cost)
    write_predictions(result, job, probing, trained, Path(results))
    path = result.save(Path(results))
    result = read(path)
    reporter.say(f"{job.upstream.info.name} on {job.task.name}: wrote {path}")
    if bad and not skip_bad:
        raise BadClipsError(result)
    return result


def find_result(job: Job, results: Path) -> Result | None:
    """Return the result of a job if it is already there, whole, with its predictions."""
    for path in results.glob(f"*/*/*-{job.identity[:12]}.json"):
        with suppress(MarbleError, OSError, ArrowInvalid):
            read_metadata(path.with_suffix(".parquet"))
            return read(path)
    return None


def encode(job: Job, workers: int | None, reporter: Reporter) -> Extraction:
    """Bring the features of a job into the cache."""
    job.space.refresh()
    wanted = set(job.space.missing(job.keys, job.needed))
    with reporter.stage(f"{job.upstream.info.name} on {job.task.name}: encoding", len(wanted), "clips") as advance:
        return extract(
            job.upstream, job.space, job.excerpts, job.needed, job.windows, workers=workers,
            on_clip=lambda key: advance(key in wanted),
        )  # fmt: skip


def _bad_clip(clip: Clip, reason: str) -> BadClip:
    return BadClip(id=clip.id, path=readable(clip.path), split=clip.split, reason=reason)


def _refuse_empty_splits(job: Job, kept: list[Clip], bad: list[BadClip]) -> None:
    for split in SPLITS:
        if not any(clip.split == split for clip in kept):
            example = f" ({bad[0].path} {bad[0].reason})" if bad else ""
            raise MarbleError(
                f"No clip of the {split} split of {job.task.name} could be used{example}: check the audio, and the upstream."
            )


def _refuse_undefined_metric(task: Task, clips: list[Clip]) -> None:
    """Raise a `MarbleError` where the validation tracks are too alike for the metric that chooses by them."""
    tracks = {clip.track: clip for clip in clips if clip.split == "valid"}
    targets = torch.from_numpy(task.encode(list(tracks.values())))
    if targets.is_floating_point() and METRICS[task.main_metric](torch.zeros_like(targets), targets).isnan():
        raise MarbleError(
            f"{task.main_metric} does not exist on the {len(tracks)} validation tracks of {task.name}, which are too few or "
            "too alike: nothing can be chosen by it; give the split more tracks, or a higher --limit."
        )


def _doubts(task: Task, clips: list[Clip], contents: dict[Path, str | OSError]) -> Iterator[str]:
    """Yield what makes the scores of a task worth less than they look."""
    crossing = [clip.path for group in crossing_recordings(clips, contents).values() for clip in group]
    if crossing:
        yield (
            f"{len(crossing)} clips are of recordings that stand in another split as well, first {crossing[0]}: "
            "their scores tell what was remembered."
        )
    if task.kind in ("multiclass", "ordinal"):
        trained = {clip.target for clip in clips if clip.split == "train"}
        unknown = [label for label in task.labels if label not in trained]
        if unknown:
            yield f"{len(unknown)} labels have no clip to train on, first '{unknown[0]}': nothing can find them."


def _limited(clips: list[Clip], limit: int | None) -> list[Clip]:
    """Return the clips of at most `limit` tracks of each split, drawn by a hash of the track."""
    if limit is None:
        return clips
    if limit < 1:
        raise MarbleError(f"--limit {limit} leaves nothing: allow at least one track a split.")
    kept: set[str] = set()
    for split in SPLITS:
        tracks = {clip.track for clip in clips if clip.split == split}
        kept |= set(sorted(tracks, key=lambda track: hashlib.sha256(track.encode()).digest())[:limit])
    return [clip for clip in clips if clip.track in kept]
