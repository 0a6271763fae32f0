"""Many upstreams on many tasks: each upstream is loaded once, and one failure does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marble import registry
from marble.errors import MarbleError, one_line
from marble.plan import make_plan
from marble.progress import Reporter
from marble.results import Result
from marble.runner import BadClipsError, prepare, run


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
        options: as for `marble.run`, or as for `marble.runner.prepare` where `plan` is set.

    Raises:
        MarbleError: there is no such suite.
    """
    reporter, offline = reporter or Reporter(), options.get("offline", False)
    protocol = options.get("protocol", "marble")
    for suite in (registry.load_suite(task) for task in tasks if task.startswith("suite:")):
        reporter.say(f"{suite.paper}, {suite.tables}: its protocol is {suite.protocol}, that of this run is {protocol}")
    opened = registry.open_suites(tasks)
    for upstream in upstreams:
        model = None  # lets go of the one before
        try:
            model = registry.load_upstream(upstream, offline=offline)
        except Exception as error:
            if not isinstance(error, MarbleError):
                traceback.print_exc()
            yield from (Outcome(upstream, task, None, why or _said(error), here=not why) for task, why in opened.items())
            continue
        for task, absent in opened.items():
            if absent:
                yield Outcome(upstream, task, None, absent, here=False)
                continue
            try:
                loaded = registry.load_task(task, manifest, offline=offline)
                if plan:
                    yield Outcome(
                        upstream, task, None, None, plan=make_plan(prepare(model, loaded, reporter=reporter, **options))
                    )
                else:
                    yield Outcome(upstream, task, run(model, loaded, reporter=reporter, **options), None)
            except BadClipsError as error:
                yield Outcome(upstream, task, error.result, str(error))
            except MarbleError as error:
                yield Outcome(upstream, task, None, str(error))
            except Exception as error:  # what nobody foresaw on one task must not cost the others their night
                traceback.print_exc()
                yield Outcome(upstream, task, None, _said(error))


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, MarbleError) else one_line(error)


def split_specs(text: str, everything: Sequence[str], what: str) -> list[str]:
    """Return the specs in ``NAME[,NAME…]`` or ``all``; a comma inside an existing path does not split.

    Args:
        text: as typed.
        everything: what ``all`` means.
        what: is named, such as "task".

    Raises:
        MarbleError: nothing is named.
    """
    if text == "all":
        return list(everything)
    name, colon, argument = text.partition(":")
    with suppress(OSError):  # longer than a path may be
        if colon and "," not in name and Path(argument).exists():
            return [text]
    specs = [part.strip() for part in text.split(",") if part.strip()]
    if not specs:
        raise MarbleError(f"'{text}' names no {what}: write NAME[,NAME…] or all; marble ls {what}s lists the names.")
    return specs
