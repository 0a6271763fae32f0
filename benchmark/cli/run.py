"""``marble run``: probe upstreams on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marble.cli.console import CacheDir, Group, Json, ResultsDir, print_json, reporter, stdout, tell
from marble.cli.figures import draw_heatmaps
from marble.errors import MarbleError, named_once

if TYPE_CHECKING:
    from marble.jobs.many import Outcome


def run(
    upstream: Annotated[str, typer.Option(help="NAME[,NAME…], NAME:PATH, module:Class, or all.")],
    task: Annotated[str, typer.Option(help="NAME[,NAME…], suite:NAME, folder:PATH, table:FILE, module:TASK, or all.")],
    manifest: Annotated[
        str | None, typer.Option(help="Clips of the task from a MARBLE v2 JSONL file or folder, a dataset folder, or hf:NAME.")
    ] = None,
    layers: Annotated[str, typer.Option(help="all, weighted, or a list such as 0,3,6..12 (joined by commas).")] = "all",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds. [default: 5, and 3 for tasks of frames]")] = None,
    protocol: Annotated[str, typer.Option(help="How probes are trained and chosen.")] = "marble",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change the protocol, e.g. probe.hidden=256.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the datasets. [default: $MARBLE_HOME/data]")] = None,
    cache_dir: CacheDir = None,
    results: ResultsDir = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (fp32), fp32 or bf16.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many tracks of each split, for a quick look.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU. [default: what the process may use]")] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.01, help="Gigabytes to probe frames in. [default: half of what is free]")
    ] = None,
    group: Group = None,
    name: Annotated[str | None, typer.Option(help="Name of a folder: or table: task, in place of that of its file.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print clips, hours, minutes and memory, encode nothing.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Accept that bad clips are left out.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    as_json: Json = False,
) -> None:
    """Probe the layers of upstreams on tasks. The same command continues a run that was stopped."""
    options: dict[str, Any] = {
        "layers": layers, "seeds": seeds, "protocol": protocol, "settings": settings or (), "data_root": data_root,
        "cache_dir": cache_dir, "device": device, "precision": precision, "threads": threads, "memory": memory, "limit": limit,
        "offline": offline, "group": group, "name": name, "manifest": manifest, "plan": plan, "workers": workers,
        "skip_bad": skip_bad, "results": results,
    }  # fmt: skip
    try:
        from marble import registry

        upstreams = registry.split_specs(upstream, registry.complete_upstream_names(), "upstream")
        tasks = registry.split_specs(task, registry.complete_task_names(), "task")
        _run_all(upstreams, tasks, options, as_json)
    except KeyboardInterrupt:
        tell("stopped: the same command continues where this one was")
        raise typer.Exit(130) from None


def _run_all(upstreams: list[str], tasks: list[str], options: dict[str, Any], as_json: bool) -> None:
    from marble.cli.tables import outcome_table, plan_table, result_table
    from marble.jobs.many import run_all

    outcomes: list[Outcome] = []
    for outcome in run_all(upstreams, tasks, reporter=reporter(), **options):
        outcomes.append(outcome)
        if outcome.result and not as_json:
            stdout().print(result_table(outcome.result))
        for line in named_once((clip.path, clip.reason) for clip in outcome.result.bad_clips) if outcome.result else []:
            tell(f"bad clip: {line}")
        if outcome.complaint:
            word = "error" if outcome.failed else "left out"
            tell(f"{word}: {outcome.upstream} on {outcome.task}: {outcome.complaint}")
    plans = [outcome.plan for outcome in outcomes if outcome.plan]
    if options["plan"]:
        if as_json:
            print_json(plans)
        elif plans:
            stdout().print(plan_table(plans))
    elif as_json:
        print_json([outcome.result.document() for outcome in outcomes if outcome.result])
    elif len(outcomes) > 1:
        stdout().print(outcome_table(outcomes))
    if identities := {outcome.result.identity for outcome in outcomes if outcome.result}:
        try:
            draw_heatmaps(options["results"], identities)
        except MarbleError as error:  # the runs themselves are done
            tell(f"warning: no heatmap is drawn, since {error}")
    failed, runs = sum(outcome.failed for outcome in outcomes), sum(outcome.in_marble for outcome in outcomes)
    if failed:
        if runs > 1:
            tell(f"error: {failed} of {runs} runs failed.")
        raise typer.Exit(1)
