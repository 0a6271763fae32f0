"""The commands of ``marble``, their output and their exit status.

Nothing heavy is imported before a command runs, so that ``marble --help`` answers at once. Results and tables go to stdout,
everything else to stderr; with ``--json`` stdout holds one JSON array and nothing else. Exit status: 0 done, 1 something failed
(one sentence on stderr), 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import logging
import sys
import warnings
from functools import cache
from typing import Annotated

import typer

from marble.cli import analysis, figures, show
from marble.cli.cache import cache_app
from marble.cli.console import output_to_stdout, tell
from marble.cli.data import data_app
from marble.cli.leaderboard import leaderboard
from marble.cli.plots import plot_app
from marble.cli.pretrain import pretrain
from marble.cli.report import report
from marble.cli.run import run
from marble.errors import NO_MEMORY, MarbleError, is_out_of_memory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measures what a frozen music model knows, layer by layer.",
    epilog="Start with: marble run --upstream fbank-chroma --task synth-pitch --layers all",
)
app.add_typer(cache_app, name="cache")
app.add_typer(data_app, name="data")
app.add_typer(plot_app, name="plot")
app.command(epilog="Example: marble pretrain branchformer-summarymixing-tiny --data my-music --probe synth-key")(pretrain)
app.command(epilog="Example: marble run --upstream fbank-chroma --task folder:my-sounds --layers all --seeds 5")(run)
_FIGURES = (figures.heatmap, figures.curve, figures.radar, figures.weights, figures.shots)
for command in (show.ls, show.info, show.check, leaderboard, *_FIGURES, analysis.cca, analysis.compare, report):
    app.command()(command)


def main() -> None:
    """Run the command line; a user's mistake, a failed write to stdout or a want of memory is one sentence and status 1."""
    warnings.showwarning = lambda message, *_, **__: _warn(str(message))  # ty: ignore[invalid-assignment]
    warnings.simplefilter("once", UserWarning)  # one task is read for every upstream
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of its own folder in the home, which it can do without
    try:
        with output_to_stdout():
            app()
    except MarbleError as error:
        tell(f"error: {error}")
        sys.exit(1)
    except Exception as error:
        if is_out_of_memory(error):
            tell(f"error: {NO_MEMORY}")
        elif "usable temporary directory" in str(error):
            tell("error: There is no folder for temporary files that can be written: set TMPDIR to one.")
        else:
            raise
        sys.exit(1)


@cache
def _warn(text: str) -> None:
    """Print a warning, each text once: Python forgets what it has shown whenever a library changes the filters."""
    tell(f"warning: {text}")


def _show_version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"marble {version('marble')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...
