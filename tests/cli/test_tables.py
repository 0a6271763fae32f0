"""Tables of results on a terminal."""

import io

import pytest
from rich.console import Console

import marble
from marble.cli.tables import outcome_table, result_table
from marble.jobs.many import Outcome
from marble.results.schema import Summary


@pytest.fixture
def result(tones, tmp_path):
    return marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "results", seeds=2, settings=["probe.epochs=3"])


def printed(table):
    console = Console(file=io.StringIO(), width=160, emoji=False, markup=False)
    console.print(table)
    return console.file.getvalue()


def test_a_result_as_a_table(result):
    result.selected.layer, result.upstream.name = 2, "a\x1b[31m"
    result.doubts = ["The layer is within\a noise of another: layer 3.", "The epoch is at its limit: 3."]
    result.layers[0].test["accuracy"] = Summary(mean=0.25, std=0.125, ci95=(0.1, 0.4))
    result.layers[1].test["accuracy"] = Summary(mean=None, std=None, ci95=(None, None))
    result.selected.ci95_of_choice["accuracy"] = (0.0625, 0.875)
    text = printed(result_table(result))
    assert r"a\x1b[31m on folder:tones: accuracy of 6 test tracks, higher is better" in text
    assert "protocol marble (probe.epochs=3), 2 seeds; * chosen on validation" in text
    below = text[text.index("chosen on validation") :]
    assert r"The layer is within\x07 noise of another: layer 3" in below
    assert below.index("within") < below.index("The epoch is at its limit")
    assert "with the choice repeated 0.062 … 0.875" in " ".join(text.split())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["0 fbank", "1 chroma", "* 2 fbank+chroma"]
    assert [row[2:4] for row in rows[:2]] == [["0.250 ± 0.125", "0.100 … 0.400"], ["–", "– … –"]]


def test_outcomes_as_a_table(result):
    outcomes = [Outcome("x", "folder:/a/tones", result, None), Outcome("y", "a\x07b", None, "is\x1b broken")]
    text = printed(outcome_table(outcomes))
    assert "1 of 2 runs have a result" in text
    assert "folder:tones" in text
    assert r"a\x07b" in text
    assert r"is\x1b broken" in text
