"""``marble report``: all results in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marble.cli.console import ResultsDir, tell


def report(
    results: ResultsDir = Path("results"),
    output: Annotated[Path | None, typer.Option(help="The file. [default: report.html in the folder of all results]")] = None,
) -> None:
    """Write one HTML page that shows all results: it needs no network, and opens from the disk."""
    from marble.analysis.compare import compare_results
    from marble.results.report import report as write_page
    from marble.system.files import atomic_write

    page, path = write_page(results, compare_results), output or results / "report.html"
    with atomic_write(path) as beside:
        beside.write_text(page, encoding="utf-8")
    tell(f"report: {path}")
