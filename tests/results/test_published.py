"""Numbers of the papers: their digits, their units, and their place beside measured numbers."""

import csv
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

import pandas
import pytest
from typer.testing import CliRunner

from marble.cli.app import app
from marble.probe.scoring.metrics import METRICS
from marble.results.published import published_numbers
from marble.results.ranking.leaderboard import leaderboard
from marble.results.schema import Summary

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "results" / "published"
FILES = ("branchformer.csv", "layerwise.csv", "muq.csv", "omar-rq.csv")
COLUMNS = ["paper", "table", "system", "task", "metric", "value", "spread", "unit", "layer", "note"]
CLIP_TASKS = {
    "gtzan", "giantsteps-key", "emomusic", "vocalset-singer", "vocalset-technique", "mtt", "mtt-clean", "mtg-top50",
    "mtg-genre", "mtg-instrument", "nsynth-instrument", "nsynth-pitch", "piano-difficulty", "music-preference",
    "rap-detection", "sound-quality",
}  # fmt: skip
PLAIN_TASKS = {"harmonix-structure", "gtzan-beat", "chords", "mtt-zero-shot", "average"}
PLAIN_METRICS = {"frame_accuracy", "f_measure", "majmin_accuracy", "mean"}


def rows(name):
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def one(paper, table, system, task, metric, layer=""):
    """The only number that these words name."""
    asked = (paper, table, system, task, metric, layer)
    keys = ("paper", "table", "system", "task", "metric", "layer")
    (number,) = [number for number in published_numbers() if tuple(number[key] for key in keys) == asked]
    return number


def test_every_number_has_its_place_and_stands_once():
    every = [row for name in FILES for row in rows(name)]
    assert all(list(row) == COLUMNS for row in every)
    assert {row["task"] for row in every} == CLIP_TASKS | PLAIN_TASKS
    assert {row["metric"] for row in every} <= set(METRICS) | PLAIN_METRICS
    assert {row["task"] for row in every if row["metric"] in PLAIN_METRICS} == PLAIN_TASKS - {"mtt-zero-shot"}
    places = Counter(tuple(row[key] for key in ("paper", "table", "system", "task", "metric", "layer")) for row in every)
    assert max(places.values()) == 1
    counts = Counter((row["paper"], int(row["table"])) for row in every)
    assert counts == {
        ("MuQ", 1): 5 * 7, ("MuQ", 2): 5 * 5, ("MuQ", 3): 4 * 7, ("MuQ", 4): 5 * 7, ("MuQ", 5): 5 * 2 + 1,
        ("layer-wise", 1): 14 * 5,
        ("OMAR-RQ", 1): 3, ("OMAR-RQ", 2): 3 * 2, ("OMAR-RQ", 3): 7 * 2, ("OMAR-RQ", 4): 7 * 6 + 1,
        ("Branchformer", 3): 12 * 16,
    }  # fmt: skip


def test_values_are_as_printed_and_become_the_units_of_the_metrics():
    printed = [row for name in FILES for row in rows(name)]
    numbers = published_numbers()
    assert len(printed) == len(numbers)
    for row, number in zip(printed, numbers, strict=True):
        assert re.fullmatch(r"[0-9]*[.][0-9]+", row["value"])
        scale = {"percent": 100, "fraction": 1, "squared levels": 1}[row["unit"]]
        assert number["value"] * scale == pytest.approx(float(row["value"]), rel=1e-12)
        assert (number["spread"] is None) == (row["spread"] == "")
        if row["metric"] != "ordinal_mse":
            assert 0 < number["value"] < 1
        assert (row["unit"] == "squared levels") == (row["metric"] == "ordinal_mse")
        assert not row["layer"] or row["layer"] == "weighted" or 0 <= int(row["layer"]) <= 12


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("MuQ", 1, "MERT", "gtzan", "accuracy"), 0.786),
        (("MuQ", 1, "MuQ_iter", "gtzan", "accuracy"), 0.856),
        (("MuQ", 1, "MuQ", "giantsteps-key", "key_score"), 0.635),
        (("MuQ", 1, "MuQ", "emomusic", "r2_valence"), 0.609),
        (("MuQ", 1, "MuQ", "emomusic", "r2_arousal"), 0.754),
        (("MuQ", 2, "MuQ", "mtt", "average_precision"), 0.403),
        (("MuQ", 2, "MERT", "nsynth-pitch", "accuracy"), 0.944),
        (("MuQ", 4, "Mel-RVQ, 1 codebook", "giantsteps-key", "key_score"), 0.459),
        (("MuQ", 5, "MuQ-MuLan", "mtt-zero-shot", "roc_auc"), 0.793),
        (("layer-wise", 1, "MuQ", "gtzan", "accuracy", "6"), 0.859),
        (("layer-wise", 1, "MuQ", "harmonix-structure", "frame_accuracy", "weighted"), 0.772),
        (("OMAR-RQ", 4, "OMAR-RQ multi-codebook", "mtt-clean", "average_precision"), 0.488),
        (("OMAR-RQ", 4, "OMAR-RQ base", "piano-difficulty", "ordinal_mse"), 1.65),
        (("OMAR-RQ", 4, "MERT", "gtzan-beat", "f_measure"), 0.868),
        (("Branchformer", 3, "BRN-sum large", "gtzan", "accuracy"), 0.666),
        (("Branchformer", 3, "BRN-att large", "giantsteps-key", "key_score"), 0.89),
        (("Branchformer", 3, "BRN-att small", "giantsteps-key", "key_score"), 0.654),
        (("Branchformer", 3, "MERT-330", "mtg-instrument", "average_precision"), 0.163),
        (("Branchformer", 3, "MERT-330", "nsynth-instrument", "accuracy"), 0.659),
    ],
)
def test_well_known_numbers(words, value):
    assert one(*words)["value"] == value


def test_spreads_and_quotations_are_kept():
    assert one("MuQ", 1, "MuQ", "gtzan", "accuracy")["spread"] == 0.009
    quoted = {(number["table"], number["system"]) for number in published_numbers() if "quoted" in number["note"]}
    assert quoted == {(1, "MERT"), (2, "MERT"), (5, "MuLan")}
    assert "quoted" not in one("MuQ", 1, "MERT", "harmonix-structure", "frame_accuracy")["note"]


def test_the_swapped_rows_of_the_layer_wise_paper_stand_right_and_say_so():
    arousal = one("layer-wise", 1, "MuQ", "emomusic", "r2_arousal", "6")
    valence = one("layer-wise", 1, "MuQ", "emomusic", "r2_valence", "6")
    assert (arousal["value"], valence["value"]) == (0.767, 0.628)
    assert "printed as valence" in arousal["note"]
    assert "printed as arousal" in valence["note"]
    pairs = defaultdict(dict)
    for number in published_numbers():
        if number["task"] == "emomusic":
            pairs[number["paper"], number["table"], number["system"], number["layer"]][number["metric"]] = number["value"]
    assert len(pairs) == 5 + 4 + 5 + 5 + 12
    assert all(pair["r2_arousal"] > pair["r2_valence"] for pair in pairs.values())


def test_the_means_that_muq_prints_follow_from_its_numbers():
    scores, means = defaultdict(list), {}
    for row in rows("muq.csv"):
        key = (max(int(row["table"]), 2), row["system"])
        if row["task"] == "average":
            means[key] = float(row["value"])
        elif row["task"] != "mtt-zero-shot":
            scores[key].append(float(row["value"]))
    assert len(means) == 5 + 4 + 5
    for key, mean in means.items():
        assert len(scores[key]) == (11 if key[0] == 2 else 6)
        assert sum(scores[key]) / len(scores[key]) == pytest.approx(mean, abs=0.051)


# Of each table: the paper, where its lines begin, how many there are, and which cells hold the numbers.
TABLES = {
    ("MuQ", 1): ("muq.txt", "MERT\t78.6", 5, slice(1, None)),
    ("MuQ", 2): ("muq.txt", "MERT\t91.3", 5, slice(1, 6)),
    ("MuQ", 3): ("muq.txt", "MusicFM\tRandom", 4, slice(3, None)),
    ("MuQ", 4): ("muq.txt", "Mel-RVQ\t1", 5, slice(2, None)),
    ("MuQ", 5): ("muq.txt", "LAION-CLAP\t", 6, slice(2, None)),
    ("layer-wise", 1): ("layerwise.txt", "Genre\tAcc", 14, slice(2, None)),
    ("OMAR-RQ", 1): ("omar-rq.txt", "1\t32768", 3, slice(4, None)),
    ("OMAR-RQ", 2): ("omar-rq.txt", "mel\tmel", 3, slice(2, None)),
    ("OMAR-RQ", 3): ("omar-rq.txt", "enc\tenc\t0.411", 7, slice(2, None)),
    ("OMAR-RQ", 4): ("omar-rq.txt", "MAEST\t86", 8, slice(7, None)),
    ("Branchformer", 3): ("branchformer-summarymixing.txt", "CNF $^{\\Delta att}$ _{fma}\t0.879", 12, slice(1, None)),
}


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_digit_agrees_with_the_paper(table, shared):
    file, first, count, cells = TABLES[table]
    lines = (shared / "papers" / file).read_text(encoding="utf-8").splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith(first))
    expected = []
    for line in lines[begin : begin + count]:
        for cell in line.split("\t")[cells]:
            text = re.sub(r"\\pm|±", " ", cell.replace("$", "").replace("**", ""))
            found = re.fullmatch(r" *([0-9]*[.][0-9]+)[*]? *([0-9.]*) *(?:[(]([0-9]+)[)])? *[*]?", text)
            if found:
                expected.append([part or "" for part in found.groups()])
            else:
                assert text.strip() in ("", "-")
    stored = []
    for row in (row for name in FILES for row in rows(name) if (row["paper"], int(row["table"])) == table):
        peak = re.search("highest learned weight at layer ([0-9]+)", row["note"])
        stored.append([row["value"], row["spread"], peak[1] if peak else row["layer"]])
    assert stored == expected


def test_the_numbers_are_installed_with_the_package():
    package = files("marble.papers")
    assert {file.name for file in package.iterdir() if file.name.endswith(".csv")} == {*FILES, "conditions.csv"}
    for name in (*FILES, "conditions.csv", "README.md"):
        assert package.joinpath(name).read_bytes() == (FOLDER / name).read_bytes()


def test_the_numbers_and_the_shipped_upstream_are_in_the_wheel(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    hidden = shutil.ignore_patterns("__pycache__")
    for name in ("benchmark", "tasks", "upstreams", "results/published"):
        shutil.copytree(ROOT / name, source / name, ignore=hidden)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    code = "from marble.results.published import published_numbers as all; print(len(all()), all.__code__.co_filename)"
    alone = [sys.executable, "-P", "-c", code]
    done = subprocess.run(alone, env={"PYTHONPATH": str(target)}, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(len(published_numbers())), str(target / "marble" / "results" / "published.py")]
    for file in (ROOT / "upstreams" / "shipped").rglob("*.*"):
        assert (target / "marble" / file.relative_to(ROOT)).read_bytes() == file.read_bytes()


@pytest.fixture
def measured(changed):
    """A function that copies a result as one on gtzan by another upstream with another score."""
    return lambda upstream, score, protocol="marble": changed(upstream, score, protocol, name="gtzan")


def test_published_rows_are_marked_and_never_ranked_with_measured_ones(measured):
    board = leaderboard([measured("a", 0.1), measured("z", 0.99, "muq")], with_published=True)
    gtzan = board[board.task == "gtzan"]
    assert gtzan.source.tolist()[:2] == ["measured"] * 2
    assert gtzan.upstream.tolist()[:2] == ["a", "z"]
    assert all(re.fullmatch("published: .+, Table [1-5]", source) for source in gtzan.source[2:])
    assert not set(gtzan.protocol[:2]) & set(gtzan.protocol[2:])
    order = [number["value"] for number in published_numbers() if number["task"] == "gtzan"]
    assert gtzan.test_mean.tolist()[2:] == order
    assert order != sorted(order, reverse=True)
    assert "average" not in set(board.task)
    assert len(board) == 2 + sum(number["task"] != "average" for number in published_numbers())


def test_published_rows_change_nothing_about_the_measured_ones(measured):
    results = [measured("a", 0.1), measured("b", 0.2)]
    alone, both = leaderboard(results), leaderboard(results, with_published=True)
    assert alone.source.tolist() == ["measured"] * 2
    beside = both[both.source == "measured"]
    assert beside.to_csv(index=False) == alone.to_csv(index=False)
    assert alone.upstream.tolist() == ["b", "a"]


def test_the_command_prints_them_and_refuses_them_beside_synthetic_tasks(tmp_path):
    done = CliRunner().invoke(app, ["leaderboard", "--with-published", "--results", str(tmp_path)])
    (tmp_path / "board.csv").write_text(done.stdout)
    board = pandas.read_csv(tmp_path / "board.csv")
    row = board[(board.source == "published: MuQ, Table 1") & (board.upstream == "MERT") & (board.task == "gtzan")]
    assert row.test_mean.tolist() == [0.786]
    assert row.protocol.tolist() == ["MuQ (published)"]
    assert "quoted" in row.note.item()
    assert CliRunner().invoke(app, ["leaderboard", "--results", str(tmp_path)]).stdout.count("\n") == 1
    refused = CliRunner().invoke(app, ["leaderboard", "--with-published", "--synthetic", "--results", str(tmp_path)])
    assert refused.exit_code == 1
    assert "leave out --synthetic or --with-published" in str(refused.exception)


def test_metrics_that_papers_state_stand_beside_theirs(changed):
    metrics = {"r2": "higher is better", "r2_arousal": "higher is better", "mse": "lower is better"}
    rated = changed("a", name="emomusic", main_metric="r2", metrics=metrics)
    rated.selected.test = rated.selected.validation = {name: Summary(mean=0.5, std=None) for name in metrics}
    board = leaderboard([rated], with_published=True)
    board = board[board.task == "emomusic"]
    assert board[board.source == "measured"].metric.tolist() == ["r2", "r2_arousal"]
    assert leaderboard([rated]).metric.tolist() == ["r2"]
