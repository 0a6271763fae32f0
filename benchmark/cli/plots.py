"""``marble plot``: figures of single results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marble.cli.console import tell

plot_app = typer.Typer(no_args_is_help=True, help="Draw what a single result holds.")


@plot_app.callback()
def _plots() -> None: ...


@plot_app.command(epilog="Example: marble plot track results/fbank-chroma/synth-chords/marble-0123456789ab.json piece12")
def track(
    result: Annotated[Path, typer.Argument(help="The JSON file of a result on a task of frames.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="A validation or test track of the task.")],
    out: Annotated[Path | None, typer.Option(help="Path without its ending. [default: beside the result]")] = None,
) -> None:
    """Draw truth, answers and probability of a track over time, as PNG and SVG."""
    from marble.results.figures import save_figure
    from marble.results.figures.track import track_figure, track_rows
    from marble.results.schema import file_name
    from marble.results.store import read

    document = read(result)
    rows = track_rows(document, result, name)
    for written in save_figure(track_figure(document, rows), out or result.with_name(f"{result.stem}-{file_name(name)}")):
        tell(f"track: {written}")
