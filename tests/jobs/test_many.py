"""Many runs at once: nothing that fails stops the others, suites say what they leave out, and the table tells all."""

import json
import sys

import pytest
import soundfile
from typer.testing import CliRunner

from marble import registry
from marble.cli.app import app
from marble.errors import NO_MEMORY, MarbleError
from marble.jobs.many import run_all
from marble.registry import split_specs
from marble.tasks.suites import SUITES, Suite

QUICK = {"seeds": 1, "settings": ["probe.epochs=2", "probe.hidden=8"]}
WORDS = ["--seeds", "1", "--set", "probe.epochs=2", "--set", "probe.hidden=8"]


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def suite(tones, tmp_path, monkeypatch):
    """A suite of two tasks that marble has, one for data of one's own and one that it has not; and the root of their data."""
    plugin = tmp_path / "tasks_of_a_test.py"
    plugin.write_text(
        "from dataclasses import replace\nfrom marble.tasks.own.folder import folder_task\n"
        f"ONE = replace(folder_task({str(tones)!r}), name='one')\n"
        "def broken(root):\n    raise ZeroDivisionError('a bug')\n"
        "BROKEN = replace(ONE, name='broken', clips=broken)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, plugin.stem, raising=False)
    monkeypatch.setitem(registry.TASKS, "one", "tasks_of_a_test:ONE")
    monkeypatch.setitem(registry.TASKS, "broken", "tasks_of_a_test:BROKEN")
    tasks = ("broken", "gtzan", "one", "folder", "beats")
    monkeypatch.setitem(SUITES, "tiny", Suite(paper="A paper", tables="Table 9", protocol="muq", tasks=tasks))
    monkeypatch.setitem(SUITES, "good", Suite(paper="A paper", tables="Table 9", protocol="muq", tasks=("one", "beats")))
    return tmp_path


def test_one_upstream_or_task_that_fails_stops_no_other(suite, capsys):
    outcomes = list(run_all(["nonsense", "constant"], ["suite:tiny"], data_root=suite, results=suite, **QUICK))
    assert [(outcome.upstream, outcome.task, outcome.failed, outcome.in_marble) for outcome in outcomes] == [
        (upstream, task, failed and here, here)
        for upstream, good in (("nonsense", False), ("constant", True))
        for task, here in (("broken", True), ("gtzan", True), ("one", True), ("folder", False), ("beats", False))
        for failed in [not (good and task == "one")]
    ]
    complaints = {outcome.task: outcome.complaint for outcome in outcomes[5:]}
    assert complaints["broken"] == "ZeroDivisionError: a bug"
    assert "gtzan" in complaints["gtzan"]
    assert complaints["one"] is None
    assert complaints["folder"] == "on data of yours: add folder:FILE to --task"
    assert complaints["beats"] == "not in marble yet"
    assert "in broken\n    raise ZeroDivisionError('a bug')" in capsys.readouterr().err


def test_a_task_that_memory_does_not_hold_stops_no_other(suite, capsys):
    plugin = suite / "tasks_of_a_test.py"
    plugin.write_text(plugin.read_text().replace("ZeroDivisionError('a bug')", "MemoryError"))
    outcomes = run_all(["constant"], ["broken", "one"], data_root=suite, results=suite, **QUICK)
    assert [outcome.complaint for outcome in outcomes] == [NO_MEMORY, None]
    assert "Traceback" not in capsys.readouterr().err


def test_a_suite_ends_with_a_table_and_a_status_that_tells(suite, tones):
    soundfile.write(tones / "low/silent.wav", [0.0] * 4000, 16_000)
    done = invoke("run", "--upstream", "constant", "--task", "suite:tiny", "--results", suite, "--data-root", suite, *WORDS)
    assert done.exit_code == 1
    table = done.stdout[done.stdout.index("1 of 5 runs have a result") :]
    rows = {cells[2]: cells for line in table.splitlines() if len(cells := [cell.strip() for cell in line.split("│")]) > 7}
    assert rows["one"][1:5] == ["constant", "one", "0 ones", "accuracy"]
    assert float(rows["one"][5]) == pytest.approx(1 / 3, abs=0.2)
    assert rows["one"][6].count(".") == 2
    assert rows["one"][7].startswith("1 bad clip was left out")
    assert rows["broken"][3:8] == ["–", "–", "–", "–", "ZeroDivisionError: a bug"]
    assert rows["beats"][7] == "not in marble yet"
    assert "protocol marble (probe.epochs=2, probe.hidden=8)" in table
    assert "left out: constant on beats: not in marble yet" in done.stderr
    assert "A paper, Table 9: its protocol is muq, that of this run is marble" in done.stderr
    assert "error: 3 of 3 runs failed" in done.stderr
    good = invoke("run", "--upstream", "constant", "--task", "suite:good", "--results", suite, *WORDS, "--skip-bad")
    assert good.exit_code == 0
    assert "1 of 2 runs have a result" in good.stdout
    assert "done, bad clips left out: 1" in good.stdout
    assert "error" not in good.stderr
    as_json = invoke(
        "run", "--upstream", "constant", "--task", "suite:good", "--results", suite, *WORDS, "--skip-bad", "--json"
    )
    assert [document["task"]["name"] for document in json.loads(as_json.stdout)] == ["one"]


def test_a_plan_goes_on_where_a_task_fails(suite):
    words = ["run", "--upstream", "constant", "--task", "suite:tiny", "--data-root", suite, "--plan"]
    done = invoke(*words, "--json", *WORDS)
    assert [plan["task"] for plan in json.loads(done.stdout)] == ["one"]
    assert done.exit_code == 1
    assert "error: constant on gtzan" in done.stderr
    assert "left out: constant on beats" in done.stderr
    assert not list(suite.glob("results*"))
    table = invoke(*words, *WORDS).stdout
    assert all(word in table for word in ("encode", "min", "memory", "GB", "constant", "one"))
    nothing = invoke("run", "--upstream", "constant", "--task", "gtzan", "--data-root", suite, "--plan", *WORDS)
    assert (nothing.exit_code, nothing.stdout) == (1, "")


def test_a_manifest_is_the_source_of_every_task_it_is_given_with(suite, tones):
    lines = [
        json.dumps({"audio_path": f"{tones.name}/{label}/{take}.wav", "label": label, "split": split})
        for label in ("low", "middle", "high")
        for take, split in enumerate(("train", "train", "train", "val", "test"))
    ]
    manifest = tones.parent / "mine.jsonl"
    manifest.write_text("\n".join(lines))
    done = invoke("run", "--upstream", "constant", "--task", "one,gtzan", "--manifest", manifest, "--results", suite, *WORDS)
    assert done.exit_code == 1
    assert "constant on one@mine: accuracy of 3 test tracks" in done.stdout
    assert f"error: constant on gtzan: {manifest} line 1 has the target 'low'" in done.stderr
    missing = invoke("run", "--upstream", "constant", "--task", "one", "--manifest", "hf:no/such", "--offline", *WORDS)
    assert missing.exit_code == 1
    assert "hf:no/such is no folder here and cannot be had from the Hugging Face hub" in missing.stderr


def test_suites_are_listed_and_told(suite):
    rows = {row["name"]: row for row in json.loads(invoke("ls", "suites", "--json").stdout)}
    assert {"suite:muq", "suite:layerwise", "suite:omar", "suite:branchformer", "suite:marble"} <= set(rows)
    assert rows["suite:tiny"]["tasks"] == ["broken", "gtzan", "one"]
    assert rows["suite:tiny"]["missing"][1] == "beats (not in marble yet)"
    assert "protocol: muq" in invoke("info", "suite", "good").stdout
    with pytest.raises(MarbleError, match="no suite called 'goo': did you mean good"):
        raise invoke("info", "suite", "goo").exception


def test_commas_split_but_not_within_a_path_that_exists(tmp_path):
    (tmp_path / "a,b").mkdir()
    assert split_specs("all", ["x", "y"], "task") == ["x", "y"]
    assert split_specs(" gtzan, suite:muq ,", [], "task") == ["gtzan", "suite:muq"]
    assert split_specs(f"folder:{tmp_path}/a,b", [], "task") == [f"folder:{tmp_path}/a,b"]
    for nothing in ("", " , "):
        with pytest.raises(MarbleError, match=r"names no upstream: .* marble ls upstreams"):
            split_specs(nothing, ["x"], "upstream")
