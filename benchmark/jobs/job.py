"""A job: one upstream on one task, resolved and ready, nothing encoded yet.

It is made in three steps, the cheap ones first: names and settings; the clips of the task and the content of their files
(`read_data`); the upstream, which may take minutes to load (`make_job`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from marble import registry
from marble.audio.decode import promised_formats
from marble.data.excerpts import represent
from marble.errors import MarbleError, reason
from marble.features.cache import FeatureCache, Space, clip_key
from marble.features.encode import Excerpt
from marble.features.frames import FrameReduction
from marble.features.reduction import REDUCTIONS, Reduction
from marble.features.space import DEFAULT_SECONDS, Windows, describe_space, overlapping, resolve_windows
from marble.jobs.options import JobOptions
from marble.jobs.overview import (
    contradictions,
    counts,
    crossing_caution,
    label_cautions,
    limited,
    refuse_useless_splits,
)
from marble.probe.answers import Group
from marble.probe.frames import bank as frame_bank
from marble.probe.protocol import Protocol, load_protocol
from marble.probe.scoring.metrics import METRICS
from marble.probe.settings import Probe
from marble.probe.training import bank
from marble.results.schema import BadClip
from marble.system.files import digest, file_hashes, home, readable
from marble.system.machine import choose_device, computes_bfloat16, free_memory
from marble.system.progress import Reporter
from marble.system.threads import usable_cores
from marble.task import Clip, Split, Task
from marble.upstream import Upstream

if TYPE_CHECKING:
    import pandas

_RANGE = re.compile("[0-9]+([.][.][0-9]+)?")


@dataclass(frozen=True)
class TaskData:
    """A task and its clips, as far as their files can be read.

    Attributes:
        task: with its declared metadata.
        protocol: with its settings for this task.
        clips: of the task, those whose file could be read.
        keys: their keys in the cache.
        bad: clips whose file could not be read.
        limit: tracks of each split at most; None if no track was left out.
        crossing: a sentence about recordings that stand in two splits, if there are any.
    """

    task: Task
    protocol: Protocol
    clips: list[Clip]
    keys: list[str]
    bad: list[BadClip]
    limit: int | None
    crossing: list[str]

    @property
    def cautions(self) -> list[str]:
        """A sentence for each reason that lies in the clips to trust the scores less."""
        return self.crossing + contradictions(self.clips, self.keys) + label_cautions(self.task, self.clips)

    @property
    def content(self) -> str:
        """The hash of all clips with their audio, splits and targets."""
        table = [[clip.id, clip.split, clip.track, clip.target, key] for clip, key in zip(self.clips, self.keys, strict=True)]
        return digest(table + [clip.id for clip in self.bad])

    def dealt(self, splits: Mapping[str, Split]) -> TaskData:
        """Return the same data with the tracks in other splits."""
        return replace(self, clips=[replace(clip, split=splits[clip.track]) for clip in self.clips])

    def without(self, reasons: dict[str, str]) -> TaskData:
        """Return the same data without the clips whose keys have a reason, which join the bad ones."""
        pairs = list(zip(self.clips, self.keys, strict=True))
        used = [(clip, key) for clip, key in pairs if key not in reasons]
        bad = [*self.bad, *(_bad_clip(clip, reasons[key]) for clip, key in pairs if key in reasons)]
        return replace(self, clips=[clip for clip, _ in used], keys=[key for _, key in used], bad=bad)


@dataclass(frozen=True)
class Job:
    """One upstream on one task, resolved and ready: nothing has been encoded yet.

    Attributes:
        upstream: prepared.
        data: the task and its clips.
        windows: resolved.
        reduction: from the hidden states of a window to its rows.
        layers: single layers to probe; `weighted` adds the weighted sum of all layers.
        seeds: of the probes.
        space: the cache space of the features.
        cache_root: folder of the cache.
        memory: bytes that probing frames may use.
    """

    upstream: Upstream
    data: TaskData
    windows: Windows
    reduction: Reduction | FrameReduction
    layers: list[int]
    weighted: bool
    seeds: list[int]
    space: Space
    cache_root: Path
    memory: int

    @property
    def task(self) -> Task:
        """The task."""
        return self.data.task

    @property
    def protocol(self) -> Protocol:
        """The protocol."""
        return self.data.protocol

    @property
    def title(self) -> str:
        """Upstream and task: the beginning of a line of progress."""
        return f"{self.upstream.info.name} on {self.task.name}"

    @property
    def needed(self) -> list[int]:
        """The layers whose features are needed."""
        return list(range(len(self.upstream.info.layers))) if self.weighted else self.layers

    @property
    def widths(self) -> dict[int, int]:
        """The width of the rows of each needed layer."""
        return {layer: self.upstream.info.layers[layer].width * self.reduction.widening for layer in self.needed}

    @property
    def groups(self) -> list[Group]:
        """All layers × seeds of the job, single layers first."""
        layers = [*self.layers, *(["weighted"] if self.weighted else [])]
        return [Group(layer, seed) for layer in layers for seed in self.seeds]

    @property
    def excerpts(self) -> list[Excerpt]:
        """The excerpts whose features are needed."""
        return [
            Excerpt(key, clip.path, clip.start, clip.stop, self.protocol.audio.channels)
            for clip, key in zip(self.data.clips, self.data.keys, strict=True)
        ]

    @property
    def identity(self) -> str:
        """The hash of everything that decides the numbers."""
        frames = self.task.frames
        of_frames = {"frames": [frames.grid(self.upstream.info.grid), frame_bank.VERSION]} if frames else {}
        return digest(
            of_frames
            | {
                "space": self.space.description,
                "task": [self.task.name, self.task.version, self.task.kind, self.task.labels, self.task.metrics],
                "clips": self.data.content,
                "protocol": self.protocol.identity(),
                "layers": [self.layers, self.weighted],
                "seeds": self.seeds,
                "probes": bank.VERSION,
            }
        )


def prepare(
    upstream: str | Path | Upstream,
    task: str | Path | pandas.DataFrame | Task,
    *,
    reporter: Reporter | None = None,
    **options: object,
) -> Job:
    """Resolve names, read the task, hash its files and make the upstream ready.

    Args:
        upstream: a spec, the folder of a saved upstream, or a loaded upstream.
        task: a task, or what `marble.load_task` takes.
        reporter: shows progress; None is silent.
        options: fields of `JobOptions`.

    Raises:
        MarbleError: a name, an option or the data is wrong, the weights were changed, or the cache cannot be written.
    """
    reporter = reporter or Reporter()
    job_options = JobOptions.of(options)
    upstream = str(upstream) if isinstance(upstream, Path) else upstream
    if isinstance(upstream, str):
        registry.refuse_unknown_upstream(upstream)
    elif not isinstance(upstream, Upstream):
        raise MarbleError(
            f"{upstream!r:.60} is no upstream: give the name of one, the path of its folder, or a loaded Upstream."
        )
    data = read_data(task, job_options, reporter)
    if isinstance(upstream, str):
        return make_job(registry.load_upstream(upstream, offline=job_options.offline), data, job_options, reporter)
    job = make_job(upstream, data, job_options, reporter)
    upstream.refuse_changed_weights()
    return job


def read_data(
    task: str | Path | pandas.DataFrame | Task, options: JobOptions, reporter: Reporter, manifest: str | None = None
) -> TaskData:
    """Read the clips of a task and hash their files.

    Args:
        task: a task, or what `marble.load_task` takes.
        options: of the job.
        reporter: shows progress.
        manifest: as for `marble.load_task`.

    Raises:
        MarbleError: a name, an option or the data is wrong.
    """
    if not isinstance(task, Task):
        task = registry.load_task(task, manifest, offline=options.offline, rule=options.rule, name=options.name)
    elif options.rule or options.name:
        raise MarbleError(f"The task {task.name} is loaded already: give its name and its splits to marble.load_task.")
    _refuse_impossible_metrics(task)
    of_protocol = [setting for setting in options.settings if not setting.startswith("split.")]
    protocol = load_protocol(options.protocol, of_protocol, task.name.partition("@")[0], of_frames=task.frames is not None)
    _refuse_other_kinds(task, protocol)
    reporter.say(f"{task.name}: looking for its clips{' (rendered on first use)' if task.synthetic else ''}")
    everything = task.read(Path(options.data_root or home() / "data"))
    kept = limited(task, everything, options.limit)
    most = "all" if task.frames else protocol.windows.most or task.most_windows or "all"
    protocol = protocol.model_copy(update={"windows": protocol.windows.model_copy(update={"most": most})})
    clips = represent(kept, most, task.window or protocol.windows.seconds or DEFAULT_SECONDS, protocol.windows.until)
    refuse_undefined_metric(task, clips)
    with reporter.stage(f"{task.name}: reading files", len({clip.path for clip in clips}), "files") as advance:
        contents = file_hashes([clip.path for clip in clips], lambda: advance(1))
    good, keys, bad = [], [], []
    for clip in clips:
        content = contents[clip.path]
        if isinstance(content, OSError):
            bad.append(_bad_clip(clip, f"cannot be read ({reason(content)})"))
        else:
            good.append(clip)
            keys.append(clip_key(content, clip.start, clip.stop, promised_formats(clip.path)))
    refuse_useless_splits(task, good, bad, "its files")
    reporter.say(f"{task.name}: {counts(task, good)}")
    limit = options.limit if len(kept) < len(everything) else None
    crossing = crossing_caution(good, contents)
    data = TaskData(task=task, protocol=protocol, clips=good, keys=keys, bad=bad, limit=limit, crossing=crossing)
    for caution in data.cautions:
        reporter.say(f"{task.name}: {caution}")
    return data


def make_job(upstream: Upstream, data: TaskData, options: JobOptions, reporter: Reporter) -> Job:
    """Make an upstream ready for the clips of a task; `data` was read with the same options.

    Raises:
        MarbleError: an option does not fit the upstream, or the cache cannot be written.
    """
    info, protocol = upstream.info, data.protocol
    layers, weighted = parse_layers(options.layers, len(info.layers))
    if weighted and data.task.frames:
        raise MarbleError(f"{data.task.name} is a task of frames, which are probed layer by layer: leave out 'weighted'.")
    if weighted and len({layer.width for layer in info.layers}) > 1:
        widths = ", ".join(str(layer.width) for layer in info.layers)
        raise MarbleError(
            f"A weighted sum needs layers of one width, but those of {info.name} have {widths}: leave out 'weighted'."
        )
    if weighted and protocol.probe.first_layer >= len(info.layers):
        raise MarbleError(f"probe.first_layer={protocol.probe.first_layer} leaves no layer of {info.name} to sum: lower it.")
    _make_ready(upstream, options, reporter)
    windows = resolve_windows(protocol.windows, data.task.window, upstream)
    reduction: Reduction | FrameReduction = REDUCTIONS[protocol.pooling]
    frames = data.task.frames
    if frames:
        windows = overlapping(windows, protocol.windows.hop)
        reduction = FrameReduction.of(info.grid, frames.grid(info.grid))
    cache = FeatureCache(Path(options.cache_dir or home() / "cache"))
    space = cache.space(describe_space(upstream, windows, reduction, protocol.audio.channels))
    if not space.size()[0] and cache.older(info.name):
        reporter.say(
            f"The cache holds features of {info.name} that an older marble wrote and this one does not read: "
            "marble cache gc removes them."
        )
    return Job(
        upstream=upstream,
        data=data,
        windows=windows,
        reduction=reduction,
        layers=layers,
        weighted=weighted,
        seeds=list(options.seeds or range(3 if frames else 5)),
        space=space,
        cache_root=cache.root,
        memory=round(options.memory * 1e9) if options.memory else free_memory(torch.device("cpu")) // 2,
    )


def _make_ready(upstream: Upstream, options: JobOptions, reporter: Reporter) -> None:
    """Prepare an upstream, or check that it was prepared as the options ask."""
    torch.set_num_threads(options.threads or min(torch.get_num_threads(), usable_cores()))
    device, precision = options.device, options.precision
    if upstream.precision is None:
        upstream.prepare(choose_device(device), "fp32" if precision == "auto" else precision)
        if upstream.precision == "bf16" and not computes_bfloat16(upstream.device):
            reporter.say("This CPU computes bfloat16 in software, many times slower than float32: leave out --precision bf16.")
    elif precision not in ("auto", upstream.precision) or device not in ("auto", str(upstream.device)):
        raise MarbleError(
            f"{upstream.info.name} is prepared for {upstream.device} in {upstream.precision}, not {device} in {precision}: "
            "load it again."
        )


def parse_layers(text: str, count: int) -> tuple[list[int], bool]:
    """Return the layers of a list such as ``all``, ``weighted``, ``0,3,6..12``, and whether it names the weighted sum.

    Args:
        text: parts joined by commas: ``all``, ``weighted``, a number, or a range ``first..last`` with both ends.
        count: number of layers of the upstream.

    Raises:
        MarbleError: a part is no layer of this upstream.
    """
    layers: set[int] = set()
    weighted = False
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        if first == "weighted" and not dots:
            weighted = True
        elif first == "all" and not dots:
            layers |= set(range(count))
        elif _RANGE.fullmatch(part.strip()) and int(first) <= int(last or first) < count:
            layers |= set(range(int(first), int(last or first) + 1))
        else:
            raise MarbleError(
                f"'{part}' names no layer: there are 0..{count - 1}; write all, weighted, or a list such as 0,3,6..12."
            )
    return sorted(layers), weighted


def _bad_clip(clip: Clip, why: str) -> BadClip:
    """Return a clip that is left out, with the reason."""
    return BadClip(id=clip.id, path=readable(clip.path), split=clip.split, reason=why)


def refuse_undefined_metric(task: Task, clips: list[Clip]) -> None:
    """Raise a `MarbleError` where the validation tracks are too alike for the metric that chooses by them."""
    tracks = {clip.track: clip for clip in clips if clip.split == "valid"}
    if task.frames:
        return
    targets = torch.from_numpy(task.encode(list(tracks.values())))
    if targets.is_floating_point() and METRICS[task.main_metric](torch.zeros_like(targets), targets).isnan():
        raise MarbleError(
            f"{task.main_metric} does not exist on the {len(tracks)} validation tracks of {task.name}, which are too few or "
            "too alike: nothing can be chosen by it; give the split more tracks, or a higher --limit."
        )


def _refuse_impossible_metrics(task: Task) -> None:
    unknown = [f"the metric '{name}'" for name in task.metrics if name not in METRICS]
    if unknown or not task.metrics:
        has = unknown[0] if unknown else "no metric"
        raise MarbleError(f"The task {task.name} has {has}: name some of {', '.join(METRICS)}.")
    for name in task.metrics:
        if task.kind not in METRICS[name].kinds:
            known = ", ".join(metric.name for metric in METRICS.values() if task.kind in metric.kinds)
            raise MarbleError(f"{name} does not score {task.kind} tasks such as {task.name}: name some of {known}.")
    if METRICS[task.main_metric].of_windows:
        raise MarbleError(f"{task.main_metric} scores windows, so it cannot choose tracks of {task.name}: name it second.")


# Settings that mean nothing where every frame has an answer.
_OF_CLIPS = (
    "weight", "average_windows", "train_windows", "test_windows", "track_answer", "batch_of", "order", "validate_by",
    "validate_unit", "find_rate", "loss", "metric",
)  # fmt: skip


def _refuse_settings_of_clips(task: Task, protocol: Protocol) -> None:
    for _, probe in protocol.probe.points():
        for name in _OF_CLIPS:
            if getattr(probe, name) != Probe.model_fields[name].default:
                raise MarbleError(
                    f"probe.{name}={getattr(probe, name)} is for tasks of clips, and {task.name} answers frames: leave it out, "
                    "or use another protocol."
                )
    if protocol.pooling != "mean":
        raise MarbleError(f"pooling={protocol.pooling} is for tasks of clips, and {task.name} answers frames: leave it out.")


def _refuse_other_kinds(task: Task, protocol: Protocol) -> None:
    if task.frames:
        _refuse_settings_of_clips(task, protocol)
    choosing = [name for name in task.metrics if not METRICS[name].of_windows]
    if protocol.probe.metric not in (None, *choosing):
        raise MarbleError(
            f"probe.metric={protocol.probe.metric} cannot choose probes of {task.name}: name one of {', '.join(choosing)}."
        )
    for _, probe in protocol.probe.points() if task.kind != "multiclass" else ():
        for name in ("loss", "track_answer"):
            if getattr(probe, name) != Probe.model_fields[name].default:
                raise MarbleError(
                    f"probe.{name}={getattr(probe, name)} is for tasks with one class a clip, and {task.name} is {task.kind}: "
                    f"leave it out."
                )
