"""The main job: one upstream on one task, from audio files to a result.

Data moves one way: clips -> content hashes -> features in the cache -> answers -> result. Each step keeps its finished work,
so the same command continues a run that was stopped anywhere, and a run that is already done is read back, unless clips were
left out: bad clips may be readable now.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from marble.errors import MarbleError
from marble.features.encode import Extraction, extract
from marble.features.frame_reader import FrameReader
from marble.features.frames import FrameReduction
from marble.frames import Spans
from marble.jobs.job import Job, prepare, refuse_undefined_metric
from marble.jobs.overview import refuse_useless_splits
from marble.jobs.summary import build_result, write_predictions
from marble.probe.answers import Maker
from marble.probe.frames.inputs import FrameInputs
from marble.probe.inputs import Inputs
from marble.probe.near import ROUNDS, audit, joined_tracks, near_pairs
from marble.probe.training.train import BankMaker
from marble.results.schema import Cost, NearPair, Result, folder_of
from marble.results.store import find, read
from marble.system.files import refuse_unwritable
from marble.system.machine import memory_peak, reset_memory_peak
from marble.system.progress import Reporter
from marble.task import Task
from marble.upstream import Upstream

if TYPE_CHECKING:
    import pandas


class BadClipsError(MarbleError):
    """The run is done and its result written, but clips were left out without --skip-bad."""

    def __init__(self, result: Result):
        first, count = result.bad_clips[0], len(result.bad_clips)
        super().__init__(
            f"{count} bad clip{'s were' if count > 1 else ' was'} left out, first {first.path}, which {first.reason}: "
            "repair or remove the bad files, or accept it with --skip-bad."
        )
        self.result = result


def run(
    upstream: str | Path | Upstream,
    task: str | Path | pandas.DataFrame | Task,
    *,
    results: Path | str = "results",
    skip_bad: bool = False,
    workers: int | None = None,
    reporter: Reporter | None = None,
    **options: object,
) -> Result:
    """Probe the layers of an upstream on a task and write the result.

    Args:
        upstream: a spec such as ``muq``, ``muq:PATH`` or ``module:Class``, the folder of a saved upstream, or a loaded
            upstream, which is prepared in place (see `Upstream.prepare`) and must not be changed afterwards.
        task: a spec such as ``gtzan`` or ``folder:PATH``, the path of a folder or table, a DataFrame, or a task.
        results: the folder of all results.
        skip_bad: accept that bad clips are left out.
        workers: decoding processes; None chooses.
        reporter: shows progress; None is silent.
        options: fields of `marble.jobs.options.JobOptions`.

    Raises:
        MarbleError: a name, an option or the data is wrong, or the disk is full.
        BadClipsError: the result is written, but clips were left out and `skip_bad` is not set.
    """
    if not isinstance(results, str | Path):
        raise MarbleError(f"results={results!r} is no folder: give its path.")
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise MarbleError(f"workers={workers!r} is impossible: write how many, from 1, or leave it out.")
    job = prepare(upstream, task, reporter=reporter, **options)
    return run_job(job, results=Path(results), skip_bad=skip_bad, workers=workers, reporter=reporter)


def run_job(
    job: Job,
    *,
    results: Path,
    skip_bad: bool = False,
    workers: int | None = None,
    reporter: Reporter | None = None,
    maker: Maker | None = None,
) -> Result:
    """Encode missing features, make the answers of a job and write its result; as `run`.

    Args:
        job: the prepared job.
        results, skip_bad, workers, reporter: as in `run`.
        maker: makes the answers; None trains a bank of probes.
    """
    reporter = reporter or Reporter()
    reset_memory_peak()
    done = find(results, job.identity)
    if done and not done.bad_clips:
        reporter.say(f"{job.title}: already done, {results / done.path}")
        return done
    refuse_unwritable(results / folder_of(job.upstream.info.name, job.task.name))
    extraction = encode(job, workers, reporter)
    clips_cached = len(set(job.data.keys)) - extraction.clips - len(extraction.bad)
    # From here on the job is one of the clips that are used: the result's identity tells them from those of another day.
    job = replace(job, data=job.data.without(extraction.bad))
    job = replace(job, data=job.data.without(beyond_the_audio(job)))
    refuse_useless_splits(job.task, job.data.clips, job.data.bad, "the audio, and the upstream")
    refuse_undefined_metric(job.task, job.data.clips)
    begin = time.perf_counter()
    probe = job.protocol.probe
    inputs = _inputs(job)
    if job.task.deal:
        job, inputs = _kept_together(job, inputs)
        if (done := find(results, job.identity)) and not done.bad_clips:
            reporter.say(f"{job.title}: already done, {results / done.path}")
            return done
    near = audit(inputs)
    maker = maker or BankMaker(probe, job.cache_root, f"{job.title}: probing")
    answers = maker(inputs, job.groups, reporter)
    cost = Cost(
        encoder_seconds=extraction.encoder_seconds,
        probe_seconds=time.perf_counter() - begin,
        audio_hours=extraction.audio_seconds / 3600,
        clips_encoded=extraction.clips,
        clips_cached=clips_cached,
        peak_memory_bytes=memory_peak(),
        cache_bytes=job.space.size()[2],
    )
    result = build_result(job, inputs, answers, cost, near)
    result.predictions_sha256 = write_predictions(result, inputs, answers, results)
    path = result.save(results)
    result = read(path)
    reporter.say(f"{job.title}: wrote {path}")
    if result.bad_clips and not skip_bad:
        raise BadClipsError(result)
    return result


def beyond_the_audio(job: Job) -> dict[str, str]:
    """Return the tracks of frames, by key, whose annotation goes on more than a second after their audio, with the reason."""
    if not isinstance(job.reduction, FrameReduction):
        return {}
    stored, data = job.reduction.stored, job.data
    reader = FrameReader(job.space, data.keys, [min(job.widths)], stored, stored, 0)
    ends = [
        (clip.target.stop if isinstance(clip.target, Spans) else 0.0, reader.seconds(n)) for n, clip in enumerate(data.clips)
    ]
    return {
        key: f"has an annotation of {stop:.1f} s, and its audio ends after {seconds:.1f} s"
        for key, (stop, seconds) in zip(data.keys, ends, strict=True)
        if stop > seconds + 1 + 1 / stored.rate
    }


def _inputs(job: Job) -> Inputs:
    """Return the features and targets of a job."""
    data = job.data
    if isinstance(job.reduction, FrameReduction):
        return FrameInputs(
            data.task, data.clips, data.keys, job.space, job.widths, job.upstream.device, job.protocol.probe, job.reduction,
            job.memory,
        )  # fmt: skip
    return Inputs(data.task, data.clips, data.keys, job.space, job.widths, job.upstream.device, job.protocol.probe)


def _kept_together(job: Job, inputs: Inputs) -> tuple[Job, Inputs]:
    """Return the job and its inputs with near-duplicates in one split."""
    deal, pairs = job.task.deal, list[NearPair]()
    assert deal
    for _ in range(ROUNDS):
        job = replace(job, data=job.data.dealt(deal(_units(inputs, pairs))))
        inputs = _inputs(job)
        new = near_pairs(inputs)
        if not new:
            break
        pairs += new
    return job, inputs


def _units(inputs: Inputs, pairs: list[NearPair]) -> dict[str, str]:
    """Return what must not be parted: for each track, a name that its recordings decide and that of none other has."""
    clips = list(zip(inputs.clips, inputs.keys, strict=True))
    contents = {clip.track: key for clip, key in clips}
    groups = {clip.track: clip.artist for clip, _ in clips if clip.artist}
    joined = joined_tracks(inputs, [contents, groups], pairs)
    lowest: dict[str, str] = {}
    for track, first in joined.items():
        lowest[first] = min(contents[track], lowest.get(first, contents[track]))
    return {track: lowest[first] for track, first in joined.items()}


def encode(job: Job, workers: int | None, reporter: Reporter) -> Extraction:
    """Bring the features of a job into the cache."""
    job.space.refresh()
    wanted = set(job.space.missing(job.data.keys, job.needed))
    with reporter.stage(f"{job.title}: encoding", len(wanted), "clips") as advance:
        done = extract(
            job.upstream, job.space, job.excerpts, job.needed, job.windows, job.reduction, workers=workers,
            on_clip=lambda key: advance(key in wanted),
        )  # fmt: skip
    if done.wide:
        layers = ", ".join(map(str, sorted(done.wide)))
        reporter.say(f"{job.title}: values of layer {layers} do not fit into float16, so that its frames are stored in float32")
    return done
