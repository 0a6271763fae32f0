"""What the command line prints with: results and tables on stdout, everything else on stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from marble.progress import Reporter

Json = Annotated[bool, typer.Option("--json", help="Print one JSON array on stdout and nothing else there.")]


def stdout() -> Console:
    """Return the console of tables; without a terminal its lines are 160 characters wide."""
    from rich.console import Console

    width = None if Console().is_terminal else 160
    return Console(width=width, emoji=False, markup=False)  # names are written as they are: no emoji for folder:guitar


def reporter() -> Reporter:
    """Return what shows progress on stderr."""
    from rich.console import Console

    from marble.progress import Reporter

    return Reporter(Console(stderr=True, emoji=False, markup=False))


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows with the same keys as a table, or as one JSON array."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    from rich.table import Column, Table

    from marble.cli.listing import plain

    table = Table(*(Column(heading, overflow="fold") for heading in (rows[0] if rows else ["nothing here"])))
    for row in rows:
        table.add_row(*map(plain, row.values()))
    stdout().print(table)
