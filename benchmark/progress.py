"""Progress on stderr: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from marble.errors import printable

_LINE_EVERY = 10.0


class Reporter:
    """Shows progress on a console; without one (the default) it is silent."""

    def __init__(self, console: Console | None = None):
        self.console = console

    def say(self, text: str) -> None:
        """Print one line."""
        if self.console:
            self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: float, unit: str) -> Generator[Callable[[float], None]]:
        """Show a stage of `total` steps and yield the function that advances it.

        Args:
            title: name of the stage.
            total: number of steps.
            unit: word for the steps, in the plural.
        """
        if self.console is None or not total:
            yield lambda steps: None
        elif self.console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(unit),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, auto_refresh=False) as progress:  # a refreshing thread may not start
                yield _Bar(progress, printable(title), total).advance
        else:
            yield _Lines(self, title, total, unit).advance


class _Rate(ProgressColumn):
    """Steps a second."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate in words."""
        return Text(f"{task.speed:.1f} {self.unit}/s" if task.speed else "")


class _Bar:
    """A bar that is drawn again ten times a second, when it advances."""

    def __init__(self, progress: Progress, title: str, total: float):
        self.progress = progress
        self.bar = progress.add_task(title, total=total)
        self.last = time.monotonic()

    def advance(self, steps: float) -> None:
        """Count steps."""
        self.progress.advance(self.bar, steps)
        if time.monotonic() > self.last + 0.1:
            self.last = time.monotonic()
            self.progress.refresh()


class _Lines:
    """A plain line at the start, every ten seconds, and at the end."""

    def __init__(self, reporter: Reporter, title: str, total: float, unit: str):
        self.reporter, self.title, self.total, self.unit = reporter, title, total, unit
        self.done = 0.0
        self.began = self.last = time.monotonic()
        reporter.say(f"{title}: {total:g} {unit}")

    def advance(self, steps: float) -> None:
        """Count steps and print a line every ten seconds."""
        self.done += steps
        now = time.monotonic()
        if not steps or (now - self.last < _LINE_EVERY and self.done < self.total):
            return
        self.last = now
        rate = self.done / max(now - self.began, 1e-9)
        left = (self.total - self.done) / rate
        self.reporter.say(f"{self.title}: {self.done:g} of {self.total:g} {self.unit}, {rate:.1f} a second, {left:.0f} s left")
