"""``marble leaderboard``: rank results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marble.cli.console import ProtocolFilter, ResultsDir, TaskFilter, UpstreamFilter
from marble.errors import MarbleError


def leaderboard(
    results: ResultsDir = Path("results"),
    upstream: UpstreamFilter = None,
    task: TaskFilter = None,
    protocol: ProtocolFilter = None,
    form: Annotated[str, typer.Option("--format", help="csv, md, latex or html.")] = "csv",
    wide: Annotated[
        bool, typer.Option("--wide", help="As in papers: a row for each upstream, a column for each task, average and rank.")
    ] = False,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="The synthetic tasks instead of real data.")] = False,
    with_published: Annotated[
        bool, typer.Option("--with-published", help="Add the numbers of the papers, marked and after the measured ones.")
    ] = False,
) -> None:
    """Print the selected layer of every result, best first within each task and protocol."""
    from marble.results.choose import filter_results
    from marble.results.ranking.board_text import format_board
    from marble.results.ranking.leaderboard import leaderboard as rank
    from marble.results.ranking.leaderboard import paper_table
    from marble.results.store import read_all

    if synthetic and with_published:
        raise MarbleError("Papers publish nothing about the synthetic tasks: leave out --synthetic or --with-published.")
    chosen = filter_results(read_all(results), upstream, task, protocol)
    make = paper_table if wide else rank
    board = make(chosen, synthetic=synthetic, with_published=with_published, root=results)
    if task and not wide:  # the papers' rows of these tasks
        board = board[board.task.isin(board.task[board.source == "measured"])]
    print(format_board(board, form), end="")
