"""The main job: one upstream on one task, from audio files to a result.

Data moves one way: clips -> content hashes -> features in the cache -> answers -> result. Each step keeps its finished work,
so the same command continues a run that was stopped anywhere, and a run that is already done is read back, unless clips were
left out: bad clips may be readable now.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from marble.errors import MarbleError
from marble.features.encode import Extraction, extract
from marble.jobs.job import Job, prepare, refuse_undefined_metric
from marble.jobs.summary import build_result, write_predictions
from marble.machine import memory_peak, reset_memory_peak
from marble.probe.answers import Maker
from marble.probe.inputs import Inputs
from marble.probe.train import BankMaker
from marble.progress import Reporter
from marble.results.schema import Cost, Result
from marble.results.store import find, read
from marble.task import SPLITS, Task
from marble.upstream import Upstream


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
    upstream: str | Upstream,
    task: str | Task,
    *,
    results: Path | str = "results",
    skip_bad: bool = False,
    workers: int | None = None,
    reporter: Reporter | None = None,
    **options: object,
) -> Result:
    """Probe the layers of an upstream on a task and write the result.

    Args:
        upstream: a spec such as ``muq``, ``muq:PATH`` or ``module:Class``, or a loaded upstream, which is prepared in place
            (see `Upstream.prepare`) and must not be changed afterwards.
        task: a spec such as ``gtzan`` or ``folder:PATH``, or a task.
        results: the folder of all results.
        skip_bad: accept that bad clips are left out.
        workers: decoding processes; None chooses.
        reporter: shows progress; None is silent.
        options: fields of `marble.jobs.job.JobOptions`.

    Raises:
        MarbleError: a name, an option or the data is wrong, or the disk is full.
        BadClipsError: the result is written, but clips were left out and `skip_bad` is not set.
    """
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
    extraction = encode(job, workers, reporter)
    clips_cached = len(set(job.data.keys)) - extraction.clips - len(extraction.bad)
    # From here on the job is one of the clips that are used: the result's identity tells them from those of another day.
    job = replace(job, data=job.data.without(extraction.bad))
    refuse_empty_splits(job)
    refuse_undefined_metric(job.task, job.data.clips)
    begin = time.perf_counter()
    inputs = Inputs(job.task, job.data.clips, job.data.keys, job.space, job.widths, job.upstream.device)
    maker = maker or BankMaker(job.protocol.probe, job.cache_root, f"{job.title}: probing")
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
    result = build_result(job, inputs, answers, cost)
    result.predictions_sha256 = write_predictions(result, inputs, answers, results)
    path = result.save(results)
    result = read(path)
    reporter.say(f"{job.title}: wrote {path}")
    if result.bad_clips and not skip_bad:
        raise BadClipsError(result)
    return result


def encode(job: Job, workers: int | None, reporter: Reporter) -> Extraction:
    """Bring the features of a job into the cache."""
    job.space.refresh()
    wanted = set(job.space.missing(job.data.keys, job.needed))
    with reporter.stage(f"{job.title}: encoding", len(wanted), "clips") as advance:
        return extract(
            job.upstream, job.space, job.excerpts, job.needed, job.windows, job.reduction, workers=workers,
            on_clip=lambda key: advance(key in wanted),
        )  # fmt: skip


def refuse_empty_splits(job: Job) -> None:
    """Raise a `MarbleError` where a split has no clip, with the reason of the first bad one."""
    bad = job.data.bad
    for split in SPLITS:
        if not any(clip.split == split for clip in job.data.clips):
            example = f" ({bad[0].path} {bad[0].reason})" if bad else ""
            raise MarbleError(
                f"No clip of the {split} split of {job.task.name} could be used{example}: check the audio, and the upstream."
            )
