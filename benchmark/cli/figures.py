"""``marble heatmap`` and ``marble leaderboard``: draw and rank results."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marble.cli.console import ResultsDir, tell
from marble.errors import MarbleError

if TYPE_CHECKING:
    from marble.results.schema import Result


def heatmap(results: ResultsDir = Path("results")) -> None:
    """Draw layers × tasks for every upstream with results, as PNG and SVG."""
    if not draw_heatmaps(results):
        raise MarbleError(
            f"There are no results in {results.absolute()}: run something first, or name their folder with --results."
        )


def draw_heatmaps(root: Path, identities: Container[str] | None = None) -> bool:
    """Draw one heatmap for each upstream and protocol, print its paths, and return whether there are any results.

    Args:
        root: the folder of all results.
        identities: draw only the outdated heatmaps that show one of these results; None draws all heatmaps.

    Raises:
        MarbleError: there is no such folder, or a figure cannot be written.
    """
    from marble.results.choose import choose_results
    from marble.results.store import read_all

    groups = choose_results(read_all(root))
    for stem, group in groups.items():
        path = root / stem.with_name(f"heatmap-{stem.name}")
        if identities is None or (any(result.identity in identities for result in group) and _stale(path, root, group)):
            from marble.results.figures import heatmap, save_figure

            for written in save_figure(heatmap(group), path):
                tell(f"heatmap: {written}")
    return bool(groups)


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


def _stale(figure: Path, root: Path, group: list[Result]) -> bool:
    """Return whether a figure is missing, or older than the file of one of its results."""
    try:
        drawn = min(figure.with_name(f"{figure.name}.{kind}").stat().st_mtime_ns for kind in ("png", "svg"))
        return any((root / result.path).stat().st_mtime_ns > drawn for result in group)
    except OSError:
        return True
