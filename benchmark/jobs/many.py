"""Many upstreams on many tasks: each upstream and each task is read once, and one failure does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marble import registry
from marble.errors import NO_MEMORY, MarbleError, is_out_of_memory, one_line
from marble.jobs.job import Job, TaskData, make_job, read_data
from marble.jobs.options import JobOptions
from marble.jobs.plan import make_plan
from marble.jobs.run import BadClipsError, run_job
from marble.results.schema import Result
from marble.system.progress import Reporter
from marble.upstream import Upstream


@dataclass(frozen=True)
class Outcome:
    """The outcome of one pair: a result, a complaint, or both (a result without its bad clips); or a plan.

    `in_marble` is False where a suite names a task that marble does not have; that is no failure.
    """

    upstream: str
    task: str
    result: Result | None
    complaint: str | None
    in_marble: bool = True
    plan: dict[str, object] | None = None

    @property
    def failed(self) -> bool:
        """Tell whether a task of marble has a complaint."""
        return self.in_marble and self.complaint is not None


def run_all(
    upstreams: Sequence[str],
    tasks: Sequence[str],
    *,
    results: Path | str = "results",
    skip_bad: bool = False,
    workers: int | None = None,
    manifest: str | None = None,
    plan: bool = False,
    reporter: Reporter | None = None,
    **options: object,
) -> Iterator[Outcome]:
    """Yield the outcome of every upstream on every task, in turn.

    Args:
        upstreams: specs.
        tasks: specs, or suites such as ``suite:muq``.
        results, skip_bad, workers, reporter: as for `marble.run`.
        manifest: replaces the clips of the tasks; see `marble.load_task`.
        plan: report what each run would do and cost, and encode nothing.
        options: fields of `JobOptions`.

    Raises:
        MarbleError: there is no such suite, an option is impossible, or one name is given for several tasks.
    """
    job_options, reporter = JobOptions.of(options), reporter or Reporter()
    for suite in (registry.load_suite(task) for task in tasks if task.startswith("suite:")):
        reporter.say(
            f"{suite.paper}, {suite.tables}: its protocol is {suite.protocol}, that of this run is {job_options.protocol}"
        )
    opened = registry.open_suites(tasks)
    if job_options.name and len(opened) > 1:
        raise MarbleError(f"--name {job_options.name} names one task, but there are {len(opened)}: run each on its own.")
    read: dict[str, tuple[TaskData | None, str | None]] = {}

    def data_of(task: str) -> TaskData:
        """Return the clips of a task."""
        return read_data(task, job_options, reporter, manifest)

    def work(job: Job) -> Any:
        """Return the plan or the result of a job."""
        if plan:
            return make_plan(job)
        return run_job(job, results=Path(results), skip_bad=skip_bad, workers=workers, reporter=reporter)

    for upstream in upstreams:
        model: Upstream | None = None  # frees the previous one
        _, broken = _attempt(registry.refuse_unknown_upstream, upstream)
        for task, absent in opened.items():
            if absent:
                yield Outcome(upstream, task, None, absent, in_marble=False)
                continue
            if broken:
                yield Outcome(upstream, task, None, broken)
                continue
            if task not in read:
                read[task] = _attempt(data_of, task)
            data, complaint = read[task]
            if data and not model:
                model, broken = _attempt(registry.load_upstream, upstream, offline=job_options.offline)
            if not data or not model:
                yield Outcome(upstream, task, None, complaint or broken)
                continue
            job, complaint = _attempt(make_job, model, data, job_options, reporter)
            done = None
            if job:
                done, complaint = _attempt(work, job)
            yield Outcome(upstream, task, None if plan else done, complaint, plan=done if plan else None)


def _attempt(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, str | None]:
    """Return the value of a call and the complaint about it; an unexpected error is printed, so that the others go on."""
    try:
        return work(*arguments, **options), None
    except BadClipsError as error:
        return error.result, str(error)
    except MarbleError as error:
        return None, str(error)
    except Exception as error:
        if is_out_of_memory(error):
            return None, NO_MEMORY
        traceback.print_exc()
        return None, one_line(error)
