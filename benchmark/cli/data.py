"""``marble data``: list, fetch and check the files of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marble.cli.console import Group, Json, print_json, print_rows, reporter, tell, write
from marble.errors import MarbleError

if TYPE_CHECKING:
    from marble.task import Task

data_app = typer.Typer(no_args_is_help=True, help="Fetch and check the files of tasks.")

Tasks = Annotated[str, typer.Argument(metavar="TASK", help="NAME[,NAME…], suite:NAME, or all.")]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="Folder of the datasets. [default: $MARBLE_HOME/data]")]
_SHOWN = ("tasks", "path", "state", "bytes", "licence", "get")


@data_app.command()
def status(task: Tasks, data_root: DataRoot = None, as_json: Json = False) -> None:
    """List the files of tasks: present or missing, size, licence, and how to get them."""
    from marble.data import prepare as data

    _print(data.status(_tasks(task), _root(data_root)), _root(data_root), as_json)


@data_app.command(epilog="Example: marble data prepare gtzan --mirror /media/datasets")
def prepare(
    task: Tasks,
    mirror: Annotated[Path | None, typer.Option(help="Take the files from this folder instead of the network.")] = None,
    data_root: DataRoot = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch and unpack the freely available files, list those to fetch by hand. Continues where it was stopped."""
    from marble.data import prepare as data

    tasks, root = _tasks(task), _root(data_root)
    try:
        complaints = data.prepare(tasks, root, mirror=mirror, offline=offline, reporter=reporter())
    except KeyboardInterrupt:
        tell("stopped: the same command goes on where this one was")
        raise typer.Exit(130) from None
    _print(data.status(tasks, root), root, as_json)
    for complaint in complaints[:-1]:
        tell(f"error: {complaint}")
    if complaints:
        raise MarbleError(complaints[-1])


@data_app.command()
def verify(
    task: Tasks,
    data_root: DataRoot = None,
    group: Group = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="split.valid=SHARE, as for marble run.")] = None,
    as_json: Json = False,
) -> None:
    """Read all files of tasks: checksums, columns, sizes of splits, artists, unreadable clips, recordings in two splits."""
    from marble.data.verify import verify as check

    findings = []
    for checked in _tasks(task, group=group, settings=settings or ()):
        for finding in check(checked, _root(data_root), reporter=reporter()):
            findings.append({"task": checked.name} | vars(finding))
            if not as_json:
                write(f"{'ok   ' if finding.good else 'WRONG'}  {checked.name}, {finding.check}: {finding.found}")
                for wrong in finding.wrong:
                    write(f"       {wrong}")
    if as_json:
        print_json(findings)
    wrong = sum(not finding["good"] for finding in findings)
    if wrong:
        raise MarbleError(f"{wrong} of {len(findings)} checks failed: see above, and marble data status {task}.")


def _print(rows: list[dict[str, Any]], root: Path, as_json: bool) -> None:
    if not as_json:
        write(f"data root: {root.absolute()}")
        rows = [{key: row[key] for key in _SHOWN} for row in rows]
    print_rows(rows, as_json)


def _tasks(text: str, **split: Any) -> list[Task]:
    from marble import registry
    from marble.jobs.options import JobOptions

    specs = registry.open_suites(registry.split_specs(text, registry.complete_task_names(), "task"))
    rule = JobOptions.of(split).rule
    return [registry.load_task(name, rule=rule) for name, missing in specs.items() if not missing]


def _root(data_root: Path | None) -> Path:
    from marble.system.files import home

    return data_root or home() / "data"
