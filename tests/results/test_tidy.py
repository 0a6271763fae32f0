"""The table of all results and that of all answers."""

import math
import re

import pytest

from marble.results import load, tidy
from marble.results.schema import LayerWidth


def test_results_load_as_one_table(result, saved):
    table = load(saved)
    assert list(table) == list(tidy.COLUMNS)
    assert len(table) == 3 * 2 * 2
    chosen = table[table.selected & table.main]
    assert chosen.layer.unique().tolist() == [result.selected.layer]
    assert chosen.test.mean() == pytest.approx(result.selected.test["accuracy"].mean)
    low, high = result.selected.test["accuracy"].ci95
    assert chosen[["test_low", "test_high"]].drop_duplicates().to_numpy().tolist() == [[low, high]]
    assert set(table.train_tracks) == {result.task.tracks["train"]}
    assert table.higher_is_better.all()
    assert set(table.identity) == {result.identity}


def test_a_weighted_sum_has_weights_and_no_depth(result, tmp_path):
    result.layers[2].layer, result.layers[2].weights = "weighted", [0.25, 0.75]
    result.selected.layer = 0
    result.upstream.layers.append(LayerWidth(name="more", width=1))
    result.task.limit = 7
    result.save(tmp_path)
    table = load(tmp_path).drop_duplicates("layer")
    assert table.layer.tolist() == [0, 1, "weighted"]
    assert table.depth.tolist()[:2] == pytest.approx([0, 1 / 3])
    assert math.isnan(table.depth.tolist()[2])
    assert table.weights.tolist()[2] == [0.25, 0.75]
    assert set(table.limit) == {7}


def test_every_column_is_documented():
    scores, answers = tidy.__doc__.split("The table of answers")
    assert re.findall(r"^``(\w+)``", scores, re.MULTILINE) == list(tidy.COLUMNS)
    assert re.findall(r"``(\w+)``", answers) == list(tidy.ANSWERS)


def test_answers_come_on_demand_with_the_layers_of_the_scores(result, saved):
    answers = load(saved, predictions=True)
    assert list(answers) == list(tidy.ANSWERS)
    assert len(answers) == 3 * 2 * (result.task.tracks["valid"] + result.task.tracks["test"])
    test = answers[(answers.split == "test") & (answers.layer == result.selected.layer)]
    right = test.prediction == test.target.str[0]
    assert right.mean() == pytest.approx(result.selected.test["accuracy"].mean)


def test_answers_without_logits_are_answers(result, saved):
    file = (saved / result.path).with_suffix(".parquet")
    result.predictions(saved).drop(columns="logits").to_parquet(file)
    result.predictions_sha256 = None
    result.save(saved)
    answers = load(saved, predictions=True)
    assert list(answers) == list(tidy.ANSWERS)
    assert answers.logits.isna().all()
    assert answers.prediction.notna().all()


def test_what_cannot_be_read_is_named_counted_and_passed_over(result, saved):
    other = result.model_copy(deep=True)
    other.identity = "0" * 64
    other.save(saved)
    broken = saved / "a" / "b" / "marble-0123456789ab.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    with pytest.warns(UserWarning, match="is not a result|passed over|cannot be read") as warned:
        answers = load(saved, predictions=True)
    assert set(answers.identity) == {result.identity}
    said = [str(warning.message) for warning in warned]
    assert sum(str(broken) in line for line in said) == 1
    assert f"1 of 3 results in {saved} are passed over." in said
    assert "The answers of 1 of 2 results are passed over." in said


def test_a_folder_without_results_gives_empty_tables(tmp_path):
    assert list(load(tmp_path)) == list(tidy.COLUMNS)
    assert list(load(tmp_path, predictions=True)) == list(tidy.ANSWERS)
    assert load(tmp_path).empty
