"""The three private tasks: scores become classes by the documented rules, tables are split 3:1:1."""

from collections import Counter

import pandas
import pytest

import marble
from marble.errors import MarbleError
from marble.registry import load_task


@pytest.fixture
def table(tones, tmp_path):
    """A table of 24 tones, eight for each of three scores."""
    scores = {"low": 0.4, "middle": 1.0, "high": 1.6}
    rows = [(str(file), scores[file.parent.name]) for file in sorted(tones.rglob("*.wav"))]
    path = tmp_path / "rated.csv"
    pandas.DataFrame(rows, columns=["path", "score"]).to_csv(path, index=False)
    return path


def labels(task, tmp_path, scores):
    for number in range(3 * len(scores)):
        (tmp_path / f"{number}.wav").write_text(str(number))
    rows = [(f"{number}.wav", score) for number, score in enumerate(list(scores) * 3)]
    file = tmp_path / "scores.csv"
    pandas.DataFrame(rows, columns=["path", "score"]).to_csv(file, index=False)
    clips = load_task(f"{task}:{file}").clips(tmp_path)
    return [clip.target for clip in clips][: len(scores)]


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("music-preference", {0.0: "non-preferred", 1.0: "non-preferred", 1.01: "preferred", 2.0: "preferred"}),
        ("rap-detection", {0.0: "rap", 0.66: "rap", 0.67: "mix", 1.34: "mix", 1.35: "non-rap", 2.0: "non-rap"}),
        ("sound-quality", {0.0: "bad", 0.5: "bad", 0.51: "good", 1.0: "good"}),
    ],
)
def test_scores_become_classes(task, classes, tmp_path):
    assert labels(task, tmp_path, classes) == list(classes.values())


def test_a_table_is_split_by_class_and_runs(table, tmp_path):
    task = load_task(f"rap-detection:{table}")
    assert "layer-wise study" in task.description
    clips = task.read(tmp_path)
    assert task.labels == ("rap", "mix", "non-rap")
    assert Counter(clip.split for clip in clips) == {"train": 12, "valid": 6, "test": 6}
    quick = {"seeds": 1, "layers": "0", "settings": ["probe.epochs=20", "probe.hidden=32", "probe.learning_rates=1e-2"]}
    result = marble.run("fbank-chroma", task, results=tmp_path / "results", **quick)
    assert result.selected.test["accuracy"].mean > 0.8
    assert result.task.name == "rap-detection:rated"


@pytest.mark.parametrize(("name", "highest"), [("music-preference", 2), ("sound-quality", 1)])
def test_the_other_two_run_as_well(name, highest, table, tmp_path):
    rows = pandas.read_csv(table)
    rows["score"] *= highest / 2
    rows.to_csv(table, index=False)
    quick = {"seeds": 1, "layers": "0", "settings": ["probe.epochs=20", "probe.hidden=32", "probe.learning_rates=1e-2"]}
    result = marble.run("fbank-chroma", f"{name}:{table}", results=tmp_path / "results", **quick)
    assert sum(result.task.tracks.values()) == 24
    assert result.selected.test["accuracy"].mean > 0.8


def test_wrong_scores_are_said(table, tmp_path):
    with pytest.raises(MarbleError, match=r"has the score '1.6' in row 1: write a number from 0 to 1\b"):
        load_task(f"sound-quality:{table}")
    rows = pandas.read_csv(table)
    rows.rename(columns={"score": "label"}).to_csv(table, index=False)
    with pytest.raises(MarbleError, match="needs a column 'score'"):
        load_task(f"music-preference:{table}")
    rows.assign(score="loved").to_csv(table, index=False)
    with pytest.raises(MarbleError, match="has the score 'loved' in row 1"):
        load_task(f"music-preference:{table}")
    with pytest.raises(MarbleError, match="needs an argument"):
        load_task("music-preference")
