"""The layer that is selected, from scores whose order on validation and test is opposite."""

import pytest

from marble.jobs.summary import rank
from marble.results.schema import LayerResult, Summary
from marble.task import Task


def layer(number, validation, test, metric):
    summaries = [{metric: Summary(mean=mean, std=None)} for mean in (validation, test)]
    return LayerResult(layer=number, name=str(number), runs=[], validation=summaries[0], test=summaries[1])


def chosen(metric, *scores):
    task = Task("toy", 1, "", "regression", ("x",), (metric,), lambda _: [], "", "", "")
    return rank([layer(*score, metric) for score in scores], task)[0].layer


@pytest.mark.parametrize(("metric", "expected"), [("r2", 1), ("mse", 0)])
def test_the_layer_is_chosen_on_validation_whatever_the_test_says(metric, expected):
    assert chosen(metric, (0, 0.2, 0.9), (1, 0.8, 0.1)) == expected


def test_of_equal_layers_the_lowest_is_chosen():
    assert chosen("r2", (0, 0.5, 0.1), (1, 0.5, 0.9)) == 0


def test_a_layer_without_a_score_is_never_chosen_where_another_has_one():
    assert chosen("mse", (0, None, 0.0), (1, 7.0, 9.0)) == 1


def test_the_weighted_sum_is_chosen_only_where_it_stands_alone():
    assert chosen("r2", ("weighted", 0.9, 0.9), (3, 0.1, 0.1)) == 3
    assert chosen("r2", ("weighted", 0.9, 0.9)) == "weighted"
