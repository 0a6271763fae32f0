"""Many upstreams on many tasks: each upstream is loaded once, and one failure does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marble import registry
from marble.errors import MarbleError
from marble.progress import Reporter
from marble.results import Result
from marble.runner import BadClipsError, run


@dataclass(frozen=True)
class Outcome:
    """What became of one pair: a result, a complaint, or both (a result that left bad clips out)."""

    upstream: str
    task: str
    result: Result | None
    complaint: str | None


def run_all(upstreams: Sequence[str], tasks: Sequence[str], *, reporter: Reporter, **options: Any) -> Iterator[Outcome]:
    """Yield the outcome of every upstream on every task, in turn.

    Args:
        upstreams: specs.
        tasks: specs.
        reporter: says what happens.
        options: as for `marble.run`.
    """
    for upstream in upstreams:
        try:
            model = registry.load_upstream(upstream, offline=options.get("offline", False))
        except MarbleError as error:
            yield from (Outcome(upstream, task, None, str(error)) for task in tasks)
            continue
        for task in tasks:
            try:
                yield Outcome(upstream, task, run(model, task, reporter=reporter, **options), None)
            except BadClipsError as error:
                yield Outcome(upstream, task, error.result, str(error))
            except MarbleError as error:
                yield Outcome(upstream, task, None, str(error))


def split_specs(text: str, everything: Sequence[str]) -> list[str]:
    """Return the specs in ``NAME[,NAME…]`` or ``all``; a comma inside an existing path does not split.

    Args:
        text: as typed.
        everything: what ``all`` means.
    """
    if text == "all":
        return list(everything)
    name, colon, argument = text.partition(":")
    if colon and "," not in name and Path(argument).exists():
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]
