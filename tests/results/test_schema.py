"""The document of a result, and what it answers."""

import ast
import json
import math
from pathlib import Path

import pandas
import pytest

import marble.results.store
from marble.errors import MarbleError
from marble.results.schema import Result, Run, Summary


def test_the_document_has_the_agreed_shape(result, saved):
    document = json.loads((saved / result.path).read_text())
    assert document["schema"] == 1
    assert document["task"]["main_metric"] == "accuracy"
    run = document["layers"][0]["runs"][0]
    assert set(run) >= {"seed", "learning_rate", "epoch", "validation", "test"}
    assert set(document["layers"][0]["test"]["accuracy"]) == {"mean", "std", "ci95"}
    assert set(document["provenance"]) >= {"versions", "commit", "platform", "device", "date", "space"}
    assert set(document["cost"]) >= {"encoder_seconds", "probe_seconds", "audio_hours", "peak_memory_bytes", "cache_bytes"}
    assert document["upstream"]["licence"]


def test_cautions_stand_in_the_document_and_a_result_from_before_them_has_none(result, saved):
    path = saved / result.path
    document = json.loads(path.read_text())
    assert document["doubts"] == result.doubts
    assert all(":" in caution and caution.endswith(".") for caution in result.doubts)
    del document["doubts"]
    path.write_text(json.dumps(document | {"seal": None}))
    assert marble.results.store.read(path).doubts == []


def test_answers_that_nothing_was_trained_for_have_no_rate(result):
    result.layers[0].runs[0] = Run(seed=0, validation={"accuracy": 0.5}, test={"accuracy": 0.5})
    again = Result.model_validate(result.document())
    assert (again.layers[0].runs[0].learning_rate, again.layers[0].runs[0].epoch, again.layers[0].runs[0].grid) == (
        None,
        None,
        [],
    )


def test_fields_of_a_newer_version_are_kept_in_the_records_and_refused_elsewhere(result):
    document = result.document()
    for part in ("upstream", "task", "protocol", "provenance"):
        document[part]["new"] = {"a": [1]}
    assert Result.model_validate(document).document() == document
    document["layers"][0]["new"] = 1
    with pytest.raises(ValueError, match="new"):
        Result.model_validate(document)


def test_a_result_knows_the_direction_of_its_metrics(result):
    result.task.metrics = {"accuracy": "higher is better", "mse": "lower is better"}
    assert (result.higher_is_better(), result.higher_is_better("mse")) == (True, False)
    assert result.better(0.7, 0.5)
    assert not result.better(0.5, 0.5)
    assert result.better(0.5, 0.7, "mse")
    assert result.better(0.5, None, "mse")
    assert not result.better(None, 0.5)
    assert not result.better(None, None)
    with pytest.raises(MarbleError, match="is not scored by 'r2': its metrics are accuracy, mse"):
        result.better(0, 1, "r2")


def test_relative_scores_stand_between_the_worst_and_the_best_layer(result):
    def scores(*means):
        for layer, mean in zip(result.layers, means, strict=True):
            layer.test["accuracy"] = Summary(mean=mean, std=None)
        return result.relative_scores()

    assert scores(0.2, 0.9, 0.55) == pytest.approx([0.0, 1.0, 0.5])
    assert scores(0.5, 0.5, 0.5) == scores(None, None, None) == scores(None, 0.5, None) == [0.5] * 3
    low, undefined, high = scores(0.2, None, 0.9)
    assert (low, high) == (0.0, 1.0)
    assert math.isnan(undefined)
    result.task.metrics["accuracy"] = "lower is better"
    assert scores(0.2, 0.9, 0.55) == pytest.approx([1.0, 0.0, 0.5])


def test_predictions_are_read_beside_the_result(result, saved):
    table = result.predictions(saved)
    assert len(table) == 3 * 2 * (result.task.tracks["valid"] + result.task.tracks["test"])
    assert table.equals(pandas.read_parquet((saved / result.path).with_suffix(".parquet")))


def test_predictions_that_are_not_those_of_the_result_are_refused(result, saved):
    file = (saved / result.path).with_suffix(".parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(MarbleError, match="is damaged or of another run"):
        result.predictions(saved)
    file.unlink()
    with pytest.raises(MarbleError, match=r"cannot be read \(no such file or directory\)"):
        result.predictions(saved)
    file.write_bytes(b"PAR1")
    result.predictions_sha256 = None
    with pytest.raises(MarbleError, match=r"cannot be read \(not a Parquet file\)"):
        result.predictions(saved)


def test_results_stand_below_the_rooms_that_make_them():
    """The package imports no torch, and of marble only errors, files, kinds and itself."""
    below = ("marble.results", "marble.errors", "marble.kinds", "marble.system.files")
    (folder,) = marble.results.__path__
    files = sorted(Path(folder).rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith("torch"), file
                assert not name.startswith("marble") or name.startswith(below), file
