"""Progress in words: rates and times once they mean something."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from marble.system import progress
from marble.system.progress import Reporter


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def lines(clock, total, steps, terminal=False):
    """What is printed where each of `steps` is a time and a number of steps."""
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal, no_color=True)
    with Reporter(console).stage("work", total, "clips") as advance:
        for seconds, count in steps:
            clock.now = 100.0 + seconds
            advance(count)
    return console.file.getvalue().splitlines()


def test_a_short_stage_has_no_rate_and_no_time_left(clock):
    assert lines(clock, 12, [(0.001, 1)] * 11 + [(0.3, 1)]) == ["work: 12 clips", "work: 12 of 12 clips, in 0.3 s"]


def test_the_first_step_is_preparation(clock):
    said = lines(clock, 100, [(15, 1), (16, 1), (30, 1), (45, 12), (46, 0), (600, 85)])
    assert said == [
        "work: 100 clips", "work: 1 of 100 clips", "work: 3 of 100 clips, 0.13 clips a second, 12 min left",
        "work: 15 of 100 clips, 0.47 clips a second, 3 min left", "work: 100 of 100 clips, in 10 min",
    ]  # fmt: skip


@pytest.mark.parametrize(("step", "words"), [
    (3600.0, "0.00028 clips a second, 10.0 h left"), (1.0, "1 clips a second, 10 s left"),
    (0.01, "100 clips a second, 0.1 s left")
])  # fmt: skip
def test_times_stand_in_the_unit_that_suits_them(clock, step, words):
    pace = progress._Pace(2010 if step == 0.01 else 30, "clips")
    for number in range(1, pace.total - 9):
        clock.now = 100 + number * step
        pace.advance(1)
    assert pace.words() == words


def test_a_bar_has_the_same_words(clock):
    said = "".join(lines(clock, 10, [(0.1, 1), (0.2, 1)], terminal=True))
    assert "2/10" in said
    assert "second" not in said
    assert "0.5 clips a second, 10 s left" in "".join(lines(clock, 10, [(0, 1), (8, 4)], terminal=True))
