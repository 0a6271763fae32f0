"""Answers from another maker than a trained bank reach the result by the same way."""

from pathlib import Path

import pandas
import torch

from marble.jobs.job import prepare
from marble.jobs.run import run_job
from marble.probe.answers import Answers


def nearest_centroid(inputs, groups, reporter):
    """Answer with the negative squared distance to the mean training row of each class."""
    answers = {}
    for group in groups:
        (features,) = inputs.features([group.layer])
        train = inputs.data.train
        classes = train.targets[train.track]
        centroids = torch.stack([features[train.rows][classes == label].mean(0) for label in range(inputs.data.outputs)])
        distances = -torch.cdist(features, centroids).square()
        answers[group] = Answers(distances[inputs.data.valid.rows], distances[inputs.data.test.rows])
    return answers


def test_a_second_maker_of_answers_needs_no_bank(tones, tmp_path: Path):
    job = prepare("fbank-chroma", f"folder:{tones}", layers="0,1", seeds=1)
    result = run_job(job, results=tmp_path, maker=nearest_centroid)
    for layer in result.layers:
        (run,) = layer.runs
        assert (run.learning_rate, run.epoch, run.grid) == (None, None, [])
    assert result.layers[0].test["accuracy"].mean == 1.0
    table = pandas.read_parquet((tmp_path / result.path).with_suffix(".parquet"))
    assert (table[table.layer == "0"].prediction == table[table.layer == "0"].target.str[0]).all()
