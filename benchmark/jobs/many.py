"""Many upstreams on many tasks: each upstream is loaded once, and one failure does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from marble import registry
from marble.errors import MarbleError, one_line
from marble.jobs.plan import make_plan
from marble.jobs.run import BadClipsError, prepare, run
from marble.progress import Reporter
from marble.results.schema import Result
from marble.upstream import Upstream


@dataclass(frozen=True)
class Outcome:
    """What became of one pair: a result, a complaint, or both (a result that left bad clips out); a plan where that was asked.

    `here` is False where a suite names a task that marble does not have; that is no failure.
    """

    upstream: str
    task: str
    result: Result | None
    complaint: str | None
    here: bool = True
    plan: dict[str, object] | None = None

    @property
    def failed(self) -> bool:
        """Whether somebody has to do something about it."""
        return self.here and self.complaint is not None


def run_all(
    upstreams: Sequence[str],
    tasks: Sequence[str],
    *,
    reporter: Reporter | None = None,
    manifest: str | None = None,
    plan: bool = False,
    **options: Any,
) -> Iterator[Outcome]:
    """Yield the outcome of every upstream on every task, in turn.

    Args:
        upstreams: specs.
        tasks: specs, or suites such as ``suite:muq``.
        reporter: says what happens; None is silent.
        manifest: where the clips of the tasks come from instead; see `marble.load_task`.
        plan: tell what each run would do and cost, and encode nothing.
        options: as for `marble.run`, or as for `marble.jobs.run.prepare` where `plan` is set.

    Raises:
        MarbleError: there is no such suite.
    """
    reporter, offline = reporter or Reporter(), options.get("offline", False)
    protocol = options.get("protocol", "marble")
    for suite in (registry.load_suite(task) for task in tasks if task.startswith("suite:")):
        reporter.say(f"{suite.paper}, {suite.tables}: its protocol is {suite.protocol}, that of this run is {protocol}")
    opened = registry.open_suites(tasks)

    def work(model: Upstream, task: str) -> Any:
        """Return the result of an upstream on a task, or its plan."""
        loaded = registry.load_task(task, manifest, offline=offline)
        if plan:
            return make_plan(prepare(model, loaded, reporter=reporter, **options))
        return run(model, loaded, reporter=reporter, **options)

    for upstream in upstreams:
        model = None  # lets go of the one before
        model, broken = _attempt(registry.load_upstream, upstream, offline=offline)
        for task, absent in opened.items():
            if absent or broken:
                yield Outcome(upstream, task, None, absent or broken, here=not absent)
            else:
                done, complaint = _attempt(work, model, task)
                yield Outcome(upstream, task, None if plan else done, complaint, plan=done if plan else None)


def _attempt(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, str | None]:
    """Return what some work gives, and what there is to complain about: no unexpected error stops the others."""
    try:
        return work(*arguments, **options), None
    except BadClipsError as error:
        return error.result, str(error)
    except MarbleError as error:
        return None, str(error)
    except Exception as error:
        traceback.print_exc()
        return None, one_line(error)
