"""Progress on stderr: a bar on a terminal, plain lines elsewhere.

Rate and time left are shown once they are those of `SETTLED` seconds of work, counted from the first step: what happens before
it is preparation. At the end stands the time that the stage took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from marble.errors import printable

_LINE_EVERY = 10.0
SETTLED = 5.0  # seconds


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
            pace = _Pace(total, unit)
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _PaceColumn(pace))
            with Progress(*columns, console=self.console, auto_refresh=False) as progress:  # a refreshing thread may not start
                yield _Bar(progress, printable(title), pace).advance
        else:
            yield _Lines(self, title, total, unit).advance


class _Pace:
    """The steps of a stage that are done, and how fast."""

    def __init__(self, total: float, unit: str):
        self.total, self.unit = total, unit
        self.done = self.first = 0.0
        self.began = time.monotonic()
        self.first_at: float | None = None

    def advance(self, steps: float) -> None:
        """Count steps."""
        self.done += steps
        if steps and self.first_at is None:
            self.first, self.first_at = self.done, time.monotonic()

    def words(self) -> str:
        """Return the time that all steps took, or rate and time left, or nothing where they mean nothing yet."""
        now = time.monotonic()
        if self.done >= self.total:
            return f"in {_duration(now - self.began)}"
        if self.first_at is None or now - self.first_at < SETTLED or self.done <= self.first:
            return ""
        rate = (self.done - self.first) / (now - self.first_at)
        pace = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{pace} {self.unit} a second, {_duration((self.total - self.done) / rate)} left"


class _PaceColumn(ProgressColumn):
    """The words of a pace beside a bar."""

    def __init__(self, pace: _Pace):
        super().__init__()
        self.pace = pace

    def render(self, task: Task) -> Text:
        """Return the words."""
        return Text(self.pace.words())


class _Bar:
    """A bar that is drawn again ten times a second, when it advances."""

    def __init__(self, progress: Progress, title: str, pace: _Pace):
        self.progress, self.pace = progress, pace
        self.bar = progress.add_task(title, total=pace.total)
        self.last = time.monotonic()

    def advance(self, steps: float) -> None:
        """Count steps on the bar and in its words."""
        self.pace.advance(steps)
        self.progress.advance(self.bar, steps)
        if time.monotonic() > self.last + 0.1:
            self.last = time.monotonic()
            self.progress.refresh()


class _Lines:
    """A plain line at the start, every ten seconds, and at the end."""

    def __init__(self, reporter: Reporter, title: str, total: float, unit: str):
        self.reporter, self.title = reporter, title
        self.pace = _Pace(total, unit)
        self.last = time.monotonic()
        reporter.say(f"{title}: {total:g} {unit}")

    def advance(self, steps: float) -> None:
        """Count steps and print a line every ten seconds."""
        pace, now = self.pace, time.monotonic()
        pace.advance(steps)
        if steps and (now - self.last >= _LINE_EVERY or pace.done >= pace.total):
            self.last = now
            words = f", {pace.words()}" if pace.words() else ""
            self.reporter.say(f"{self.title}: {pace.done:g} of {pace.total:g} {pace.unit}{words}")


def _duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
