"""Systems are paired on the same tracks where they were made alike, and refused by name where they were not."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from typer.testing import CliRunner

import marble
from marble.analysis.compare import compare, compare_results
from marble.analysis.figures import difference_intervals
from marble.cli.app import app
from marble.errors import MarbleError
from marble.results.store import read_all
from marble.system.files import file_hash


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Path:
    """The folder of all results of two upstreams on one task."""
    root = tmp_path_factory.mktemp("compared")
    for label, frequency in (("low", 220), ("middle", 880), ("high", 3520)):
        (root / "tones" / label).mkdir(parents=True)
        for take in range(25):
            tone = 0.2 * np.sin(2 * np.pi * frequency * (1 + 0.004 * take) * np.arange(4800) / 16_000)
            noise = 0.1 * np.random.default_rng(frequency + take).standard_normal(4800)
            soundfile.write(root / "tones" / label / f"{take}.wav", tone + noise, 16_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARBLE_HOME", str(root / "home"))
        for upstream in ("fbank-chroma", "constant"):
            marble.run(upstream, f"folder:{root / 'tones'}", results=root / "results", seeds=2, settings=["probe.epochs=3"])
    return root / "results"


@pytest.fixture
def results(once, tmp_path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "results"))


def of(root, upstream):
    (result,) = [result for result in read_all(root) if result.upstream.name == upstream]
    return result


def rewrite(root, upstream, change=None, change_rows=None, **fields):
    """Write a result of an upstream anew with something changed: the document, its answers, or its name."""
    result = of(root, upstream)
    rows = result.predictions(root)
    old = root / result.path
    if fields.pop("keep", False) is False:
        old.unlink()
        old.with_suffix(".parquet").unlink()
    if change:
        change(result)
    for name, value in fields.items():
        setattr(result, name, value)
    file = (root / result.path).with_suffix(".parquet")
    file.parent.mkdir(parents=True, exist_ok=True)
    (change_rows(rows) if change_rows else rows).to_parquet(file)
    result.predictions_sha256 = file_hash(file)
    result.save(root)
    return result


def test_the_numbers_are_those_of_the_answers_by_hand(results):
    comparison = marble.compare(["fbank-chroma", "constant"], results)
    (row,) = comparison.differences.to_dict("records")
    scores, correct = {}, {}
    for name in ("fbank-chroma", "constant"):
        result = of(results, name)
        rows = result.predictions(results)
        rows = rows[(rows["layer"] == str(result.selected.layer)) & (rows["split"] == "test")]
        marks = rows.assign(
            right=[target[0] == answer for target, answer in zip(rows["target"], rows["prediction"], strict=True)]
        )
        correct[name] = marks.groupby("track")["right"].mean()
        scores[name] = result.selected.test["accuracy"].mean
    assert (row["first_score"], row["second_score"]) == pytest.approx((scores["fbank-chroma"], scores["constant"]))
    difference = correct["fbank-chroma"] - correct["constant"]
    assert row["difference"] == pytest.approx(difference.mean())
    assert row["tracks"] == len(difference) == of(results, "constant").task.tracks["test"]
    assert row["sampling_error"] == pytest.approx(difference.std(ddof=0) / math.sqrt(len(difference)), rel=0.1)
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["minimal_detectable"] == pytest.approx(2.8016 * row["sampling_error"], rel=1e-4)
    assert row["p_holm"] == row["p_permutation"]
    assert (row["seeds"], comparison.notes) == (2, [])
    assert list(comparison.systems["system"]) == ["fbank-chroma", "constant"]
    assert comparison.differences.equals(compare(["fbank-chroma", "constant"], results).differences)


def test_three_systems_are_tied_or_not(results):
    rewrite(results, "constant", lambda copy: setattr(copy.upstream, "name", "constant too"), keep=True)
    comparison = compare(["fbank-chroma", "constant", "constant too"], results)
    table = comparison.differences.set_index(["first", "second"])
    assert table.loc[("constant", "constant too"), "p_holm"] == 1
    assert not table.loc[("constant", "constant too"), "significant"]
    assert table.loc[("fbank-chroma", "constant"), "p_holm"] == pytest.approx(
        min(1, 3 * table.loc[("fbank-chroma", "constant"), "p_permutation"]), abs=0.01
    )
    assert table.loc[("fbank-chroma", "constant"), "significant"]
    assert comparison.systems.set_index("system")["group"].to_dict() == {"fbank-chroma": 1, "constant": 2, "constant too": 2}
    axes = difference_intervals(comparison.differences).axes[0]
    drawn = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(drawn, comparison.differences["difference"])


def test_a_lower_error_is_better(results):
    def lower(copy):
        copy.task.metrics["accuracy"] = "lower is better"

    for upstream in ("fbank-chroma", "constant"):
        rewrite(results, upstream, lower)
    comparison = compare(["fbank-chroma", "constant"], results)
    assert comparison.systems.set_index("system")["group"].to_dict() == {"fbank-chroma": 2, "constant": 1}
    axes = difference_intervals(comparison.differences).axes[0]
    assert axes.get_xlabel() == "reduction of accuracy"
    assert axes.lines[1].get_xdata()[0] == -comparison.differences["difference"][0]


def test_folders_are_systems(results, tmp_path):
    shutil.copytree(results / "constant", tmp_path / "other" / "constant")
    row = compare([results / "fbank-chroma", tmp_path / "other"], tmp_path / "nowhere").differences.iloc[0]
    assert (row["first"], row["second"]) == ("fbank-chroma", "constant")
    row = compare(["constant", tmp_path / "other"], results).differences.iloc[0]
    assert (row["first"], row["second"]) == (f"constant ({results})", f"constant ({tmp_path / 'other'})")
    assert (row["difference"], row["p_holm"]) == (0, 1)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("protocol.probe.hidden: 512 against 7", lambda copy: copy.protocol.probe.update(hidden=7)),
        ("task.data_sha256: ", lambda copy: setattr(copy.task, "data_sha256", "0" * 12)),
        ("task.split: ", lambda copy: copy.task.tracks.update(test=7)),
        ("selected.rule: ", lambda copy: setattr(copy.selected, "rule", "best on test")),
        (
            "protocol.windows.seconds: ",
            lambda copy: (copy.protocol.windows.update(seconds=5.0), copy.protocol.changes.update({"windows.seconds": 5})),
        ),
    ],
)
def test_results_that_were_not_made_alike_are_refused_with_the_field(results, field, change):
    rewrite(results, "constant", change)
    with pytest.raises(MarbleError, match="No task can be compared") as refusal:
        compare(["fbank-chroma", "constant"], results)
    assert f"are not paired, since they differ in {field}" in str(refusal.value)


def test_windows_that_an_upstream_demands_are_noted(results):
    rewrite(results, "constant", lambda copy: copy.protocol.windows.update(seconds=5.0))
    (note,) = compare(["fbank-chroma", "constant"], results).notes
    assert "fbank-chroma and constant are paired though they differ in protocol.windows.seconds: 30.0 against 5.0" in note


def test_the_newest_that_were_made_alike_are_taken(results):
    def newer(copy):
        copy.protocol.probe.update(hidden=7)
        copy.protocol.changes.update({"probe.hidden": 7})
        copy.provenance.date = "2099-01-01T00:00:00Z"

    rewrite(results, "constant", newer, keep=True, identity="f" * 64)
    assert len([result for result in read_all(results) if result.upstream.name == "constant"]) == 2
    assert len(compare(["fbank-chroma", "constant"], results).differences) == 1


def test_other_tracks_damaged_answers_and_scores_that_are_not_theirs_are_refused(results):
    rewrite(results, "constant", change_rows=lambda rows: rows.replace({"track": {rows["track"].iloc[-1]: "another"}}))
    with pytest.raises(MarbleError, match="differ in test tracks such as another"):
        compare(["fbank-chroma", "constant"], results)
    result = of(results, "fbank-chroma")
    result.layers[result.selected.layer].test["accuracy"].mean = 0.123
    result.save(results)
    with pytest.raises(MarbleError, match=r"give accuracy 0\.\d+, where the document states 0\.123"):
        compare(["fbank-chroma", "constant"], results)
    (results / result.path).with_suffix(".parquet").write_bytes(b"no")
    with pytest.raises(MarbleError, match="is damaged or of another run"):
        compare(["fbank-chroma", "constant"], results)


def test_a_broken_result_among_others_is_passed_over(results):
    broken = results / "constant" / "task" / "marble-0123456789ab.json"
    broken.parent.mkdir()
    broken.write_text("{")
    with pytest.warns(UserWarning, match="1 of 3 results in|not JSON"):
        assert len(compare(["fbank-chroma", "constant"], results).differences) == 1


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        (["fbank-chroma"], "nothing to compare"),
        (["fbank-chroma", "muq"], r"'muq' has no results: .* \(constant, fbank-chroma\)"),
        (["fbank-chroma", "fbank-chroma"], "named twice"),
        (["fbank-chroma", "ROOT"], "holds results of constant, fbank-chroma: name the folder of one"),
    ],
)
def test_mistakes_are_sentences(results, systems, message):
    with pytest.raises(MarbleError, match=message):
        compare([str(results) if name == "ROOT" else name for name in systems], results)


def test_another_metric(results):
    row = compare(["fbank-chroma", "constant"], results, metric="balanced_accuracy").differences.iloc[0]
    assert row["first_score"] == pytest.approx(of(results, "fbank-chroma").selected.test["balanced_accuracy"].mean)
    assert math.isnan(row["p_mcnemar"])
    with pytest.raises(MarbleError, match="r2 does not score it"):
        compare(["fbank-chroma", "constant"], results, metric="r2")


def test_the_command_prints_tables_or_json_and_draws(results, tmp_path):
    done = CliRunner().invoke(app, ["compare", "fbank-chroma", "constant", "--results", str(results)])
    assert done.exit_code == 0, done.output
    assert "Holm of 1" in done.stdout
    assert "tie group" in done.stdout
    assert (results / "compare-fbank-chroma+constant.svg").stat().st_size > 5000
    words = ["compare", "fbank-chroma", "constant", "--results", str(results), "--json", "--figure", str(tmp_path / "a.pdf")]
    done = CliRunner().invoke(app, words)
    (row,) = json.loads(done.stdout)
    assert row["difference"] == pandas.DataFrame([row])["first_score"][0] - row["second_score"]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    done = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "a.txt")])
    assert "end its name in .png, .svg or .pdf" in str(done.exception)


def test_comparing_imports_no_torch(results):
    code = (
        f"import sys, marble; marble.compare(['fbank-chroma', 'constant'], {str(results)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_two_results_are_compared_as_in_the_table(once):
    first, second = of(once, "fbank-chroma"), of(once, "constant")
    (row,) = compare(["fbank-chroma", "constant"], once).differences.itertuples()
    seen = compare_results(first, second, once)
    assert (seen.difference, seen.low, seen.high, seen.p_permutation) == (row.difference, row.low, row.high, row.p_permutation)
    second.task.data_sha256 = "another"
    with pytest.raises(MarbleError, match=r"differ in task\.data_sha256"):
        compare_results(first, second, once)


@pytest.mark.parametrize(("systems", "results"), [("ab", "."), (None, "."), (Path("ab"), "."), (["a", "b"], 3)])
def test_a_wrong_type_is_one_sentence(systems, results):
    with pytest.raises(MarbleError, match=r"give a list of two|is no folder: give its path"):
        compare(systems, results)
