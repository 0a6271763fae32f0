"""``marble heatmap``, ``curve``, ``radar``, ``weights`` and ``shots``: draw results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marble.cli.console import ProtocolFilter, ResultsDir, TaskFilter, UpstreamFilter, tell
from marble.errors import MarbleError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marble.results.schema import Result

Formats = Annotated[str, typer.Option("--format", help="Some of png,svg,pdf.")]
StyleName = Annotated[str, typer.Option("--style", help="screen, or paper: the width of a column, letters of 6 and 7 points.")]
_RESULTS, _FORMATS = Path("results"), "png,svg"


def heatmap(
    results: ResultsDir = _RESULTS,
    upstream: UpstreamFilter = None,
    task: TaskFilter = None,
    protocol: ProtocolFilter = None,
    noise: Annotated[bool, typer.Option("--noise", help="Draw in grey what is within noise of the best layer.")] = False,
    formats: Formats = _FORMATS,
    style: StyleName = "screen",
) -> None:
    """Draw layers × tasks for every upstream with results; with --upstream, those upstreams side by side in one figure."""
    from marble.results.choose import choose_results
    from marble.results.figures import heatmap as draw

    chosen = _chosen(results, upstream, task, protocol)
    if upstream:
        _draw_together("heatmap", chosen, lambda group: draw(group, noise=noise, style=style), results, formats)
        return
    for stem, group in choose_results(chosen).items():
        _save(draw(group, noise=noise, style=style), "heatmap", results / stem, formats)


def curve(
    results: ResultsDir = _RESULTS,
    upstream: UpstreamFilter = None,
    task: TaskFilter = None,
    protocol: ProtocolFilter = None,
    relative: Annotated[bool, typer.Option("--relative", help="Relative depth in place of the layer.")] = False,
    formats: Formats = _FORMATS,
    style: StyleName = "screen",
) -> None:
    """Draw the score over the layers, with intervals: a panel for each task, a line for each upstream."""
    from marble.results.figures import curve as draw

    chosen = _chosen(results, upstream, task, protocol)
    _draw_together("curve", chosen, lambda group: draw(group, relative=relative, style=style), results, formats)


def radar(
    results: ResultsDir = _RESULTS,
    upstream: UpstreamFilter = None,
    task: TaskFilter = None,
    protocol: ProtocolFilter = None,
    formats: Formats = _FORMATS,
    style: StyleName = "screen",
) -> None:
    """Draw the score of the selected layer: an axis for each task, a polygon for each upstream."""
    from marble.results.figures import radar as draw

    _draw_together(
        "radar", _chosen(results, upstream, task, protocol), lambda group: draw(group, style=style), results, formats
    )


def weights(
    results: ResultsDir = _RESULTS,
    upstream: UpstreamFilter = None,
    task: TaskFilter = None,
    protocol: ProtocolFilter = None,
    formats: Formats = _FORMATS,
    style: StyleName = "screen",
) -> None:
    """Draw the learned layer weights of weighted sums: a panel for each task, a line for each upstream."""
    from marble.results.figures import weights as draw

    chosen = _chosen(results, upstream, task, protocol)
    _draw_together("weights", chosen, lambda group: draw(group, style=style), results, formats)


def shots(
    results: ResultsDir = _RESULTS,
    upstream: UpstreamFilter = None,
    task: TaskFilter = None,
    protocol: ProtocolFilter = None,
    formats: Formats = _FORMATS,
    style: StyleName = "screen",
) -> None:
    """Draw the score over the number of training tracks, from results of different --limit."""
    from marble.results.figures import shots as draw

    chosen = _chosen(results, upstream, task, protocol)
    _draw_together("shots", chosen, lambda group: draw(group, style=style), results, formats, limits=True)


def draw_heatmaps(root: Path, identities: Container[str]) -> None:
    """Draw the outdated heatmaps, one for each upstream and protocol, that show one of some results; print their paths.

    Args:
        root: the folder of all results.
        identities: of the results.

    Raises:
        MarbleError: there is no such folder, or a figure cannot be written.
    """
    from marble.results.choose import choose_results
    from marble.results.store import read_all

    for stem, group in choose_results(read_all(root)).items():
        path = root / stem.with_name(f"heatmap-{stem.name}")
        if any(result.identity in identities for result in group) and _stale(path, root, group):
            from marble.results.figures import heatmap as draw

            _save(draw(group), "heatmap", root / stem, _FORMATS)


def _chosen(root: Path, upstream: str | None, task: str | None, protocol: str | None) -> list[Result]:
    """Return the results below a folder that the options name.

    Raises:
        MarbleError: there are none.
    """
    from marble.results.choose import filter_results
    from marble.results.store import read_all

    results = read_all(root)
    if not results:
        raise MarbleError(
            f"There are no results in {root.absolute()}: run something first, or name their folder with --results."
        )
    return filter_results(results, upstream, task, protocol)


def _draw_together(
    name: str,
    results: list[Result],
    draw: Callable[[list[Result]], Figure],
    root: Path,
    formats: str,
    limits: bool = False,
) -> None:
    """Draw one figure of all upstreams for each protocol; what cannot be drawn is named, and fails where nothing is drawn.

    Raises:
        MarbleError: no figure can be drawn, or a file cannot be written.
    """
    from marble.results.choose import across_upstreams, choose_results

    complaints, drawn = [], 0
    for stem, group in across_upstreams(choose_results(results), limits=limits).items():
        try:
            figure = draw(group)
        except MarbleError as error:
            complaints.append((group[0].protocol.label, error))
            continue
        _save(figure, name, root / stem, formats)
        drawn += 1
    for label, error in complaints:
        if not drawn:
            raise error
        warnings.warn(f"No {name} is drawn of the results under {label}: {error}", stacklevel=2)


def _save(figure: Figure, name: str, stem: Path, formats: str) -> None:
    """Write a figure beside the results that it shows, and print its paths."""
    from marble.results.figures import save_figure

    path = stem.with_name(f"{name}-{stem.name}")
    for written in save_figure(figure, path, [form.strip() for form in formats.split(",")]):
        tell(f"{name}: {written}")


def _stale(figure: Path, root: Path, group: list[Result]) -> bool:
    """Return whether a figure is missing, or older than the file of one of its results."""
    try:
        drawn = min(figure.with_name(f"{figure.name}.{kind}").stat().st_mtime_ns for kind in ("png", "svg"))
        return any((root / result.path).stat().st_mtime_ns > drawn for result in group)
    except OSError:
        return True
