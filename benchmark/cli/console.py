"""Shared options and printing of the commands: results and tables go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from marble.errors import MarbleError, printable, reason

if TYPE_CHECKING:
    from rich.console import Console

    from marble.system.progress import Reporter

Json = Annotated[bool, typer.Option("--json", help="Print one JSON array on stdout and nothing else there.")]
ResultsDir = Annotated[Path, typer.Option("--results", help="Folder of all results.")]
UpstreamFilter = Annotated[
    str | None, typer.Option("--upstream", help="Only results of these, NAME[,NAME…]; * stands for any letters.")
]
TaskFilter = Annotated[
    str | None, typer.Option("--task", help="Only results on these, NAME[,NAME…]; * stands for any letters.")
]
ProtocolFilter = Annotated[str | None, typer.Option("--protocol", help="Only results under these, by name or whole label.")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", help="Folder of features and probes. [default: $MARBLE_HOME/cache]")
]
Group = Annotated[
    str | None,
    typer.Option(help="Keep in one split of folder: or table: what shares a parent folder, regex:PATTERN, or a column."),
]


class _Output:
    """Standard output that raises a `MarbleError` at its first failed write and at every use after it."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._error: MarbleError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write a text."""
        self._try(self._stream.write, text)

    def flush(self) -> None:
        """Write what is buffered."""
        self._try(self._stream.flush)

    def _try(self, step: Callable[..., object], *arguments: str) -> None:
        if self._error is None:
            try:
                step(*arguments)
            except OSError as error:
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # takes the buffered rest when Python exits
                self._error = MarbleError(
                    f"Cannot write to standard output ({reason(error)}): make room, or keep what reads it open."
                )
        if self._error:
            raise self._error


@contextmanager
def output_to_stdout() -> Generator[None]:
    """Flush stdout at the end of the context; letters that its encoding lacks are printed as escapes.

    Raises:
        MarbleError: the disk is full, or the reader of the pipe has closed it.
    """
    stream = sys.stdout or Path(os.devnull).open("w")  # None where it is closed  # noqa: SIM115
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    sys.stdout = output = _Output(stream)
    try:
        yield
    finally:
        sys.stdout = stream
        output.flush()


def stdout() -> Console:
    """Return the console of tables; without a terminal its lines are 160 characters wide."""
    from rich.console import Console

    width = None if Console().is_terminal else 160
    return Console(width=width, emoji=False, markup=False)  # names are written as they are: no emoji for folder:guitar


def reporter() -> Reporter:
    """Return the reporter of progress on stderr."""
    from rich.console import Console

    from marble.system.progress import Reporter

    return Reporter(Console(stderr=True, emoji=False, markup=False))


def tell(text: str) -> None:
    """Print one line on stderr."""
    print(printable(text), file=sys.stderr)


def write(text: str) -> None:
    """Print lines on stdout."""
    print("\n".join(map(printable, text.split("\n"))))


def print_json(documents: list[dict[str, Any]]) -> None:
    """Print one JSON array on stdout."""
    print(json.dumps(documents, indent=1))


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows with the same keys as a table, or as one JSON array."""
    if as_json:
        print_json(rows)
        return
    from rich.table import Column, Table

    table = Table(*(Column(heading, overflow="fold") for heading in (rows[0] if rows else ["nothing here"])))
    for row in rows:
        table.add_row(*(printable(plain(value)) for value in row.values()))
    stdout().print(table)


def plain(value: Any) -> str:
    """Return a value as readable text."""
    if isinstance(value, dict):
        if set(value) == {"name", "width"}:
            return f"{value['name']} ({value['width']})"
        return " ".join(f"{key}={plain(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
