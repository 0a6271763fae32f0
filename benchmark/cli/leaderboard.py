"""``marble leaderboard``: rank results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marble.cli.console import ResultsDir
from marble.errors import MarbleError


def leaderboard(
    results: ResultsDir = Path("results"),
    form: Annotated[str, typer.Option("--format", help="csv, md, latex or html.")] = "csv",
    synthetic: Annotated[bool, typer.Option("--synthetic", help="The synthetic tasks instead of real data.")] = False,
    with_published: Annotated[
        bool, typer.Option("--with-published", help="Add the numbers of the papers, marked and after the measured ones.")
    ] = False,
) -> None:
    """Print the selected layer of every result, best first within each task and protocol."""
    from marble.results.leaderboard import format_board
    from marble.results.leaderboard import leaderboard as rank
    from marble.results.store import read_all

    if synthetic and with_published:
        raise MarbleError("Papers publish nothing about the synthetic tasks: leave out --synthetic or --with-published.")
    print(format_board(rank(read_all(results), synthetic=synthetic, with_published=with_published), form), end="")
