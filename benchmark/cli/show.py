"""``marble ls``, ``marble info`` and ``marble check``: list and describe what marble has, and check an upstream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marble.cli.console import Json, ResultsDir, plain, print_json, print_rows, write
from marble.errors import MarbleError


def ls(
    kind: Annotated[str, typer.Argument(help="upstreams, tasks, suites, recipes, protocols or results.")],
    results: ResultsDir = Path("results"),
    as_json: Json = False,
) -> None:
    """List upstreams, tasks, suites, recipes, protocols or results."""
    from marble.cli import listing

    kinds = {
        "upstreams": listing.upstreams,
        "tasks": listing.tasks,
        "suites": listing.suites,
        "recipes": listing.recipes,
        "protocols": listing.protocols,
        "results": lambda: listing.results(results),
    }
    if kind not in kinds:
        raise MarbleError(f"There is no list of '{kind}': write marble ls {'|'.join(kinds)}.")
    print_rows(kinds[kind](), as_json)


def info(
    kind: Annotated[str, typer.Argument(help="upstream, task, suite, recipe or protocol.")],
    name: Annotated[str, typer.Argument()],
    as_json: Json = False,
) -> None:
    """Describe an upstream, a task, a suite or a recipe; of a protocol, all that its sources state."""
    from marble.cli import listing

    kinds = {"upstream": listing.upstream, "task": listing.task, "suite": listing.suite, "recipe": listing.recipe}
    if kind == "protocol":
        print_rows(listing.protocol(name), as_json)
        return
    if kind not in kinds:
        raise MarbleError(f"There is no info about a '{kind}': write marble info {'|'.join([*kinds, 'protocol'])} NAME.")
    document = kinds[kind](name)
    if as_json:
        print_json([document])
        return
    for key, value in document.items():
        write(f"{key.replace('_', ' ')}: {plain(value)}")


def check(
    upstream: Annotated[str, typer.Option(help="NAME, NAME:PATH or module:Class.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    as_json: Json = False,
) -> None:
    """Run an upstream on noise and explain every promise that it breaks."""
    from marble import registry
    from marble.jobs.check import check_upstream
    from marble.system.machine import choose_device

    model = registry.load_upstream(upstream, offline=offline).prepare(choose_device(device), precision)
    checks = []
    for outcome in check_upstream(model):
        checks.append(vars(outcome))
        if not as_json:
            write(f"{'ok    ' if outcome.holds else 'BROKEN'}  {outcome.promise}: {outcome.seen}")
    if as_json:
        print_json(checks)
    broken = sum(not outcome["holds"] for outcome in checks)
    if broken:
        raise MarbleError(
            f"{upstream} breaks {broken} of {len(checks)} promises: see above, and the contract in marble.upstream."
        )
