"""From trained probes to a result: metrics, intervals, the choice of the layer, and the table of all answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor

from marble.files import atomic_write, file_hash
from marble.jobs.cautions import find_cautions
from marble.jobs.job import Job
from marble.kinds import kind_of
from marble.machine import provenance
from marble.probe.answers import Answers, Group
from marble.probe.bootstrap import bootstrap_interval
from marble.probe.inputs import Examples, Inputs
from marble.probe.metrics import METRICS, Metric, undefined_labels
from marble.results.schema import Cost, GridPoint, LayerResult, NearDuplicates, Result, Run, Scores, Selected, Summary
from marble.task import Task


def build_result(job: Job, inputs: Inputs, answers: dict[Group, Answers], cost: Cost, near: NearDuplicates | None) -> Result:
    """Return the result of a job from its answers, its cost and the audit of its splits."""
    layers = [_layer_result(job, inputs, answers, layer) for layer in dict.fromkeys(group.layer for group in answers)]
    protocol = job.protocol.model_dump(mode="json")
    protocol |= {"label": job.protocol.label, "windows": job.windows.model_dump(), "precision": job.upstream.precision}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ranked = rank(layers, job.task)
    return Result.model_validate({
        "identity": job.identity,
        "upstream": asdict(job.upstream.info) | {"weights_sha256": job.upstream.weights_sha256},
        "task": _describe_task(job, inputs),
        "protocol": protocol,
        "layers": layers,
        "selected": Selected.model_validate(ranked[0], from_attributes=True),
        "bad_clips": job.data.bad,
        "near_duplicates": near,
        "doubts": find_cautions(job, inputs, answers, ranked) + ([near.caution] if near and near.caution else []),
        "provenance": provenance(job.upstream.device) | {"space": job.space.description, "date": date},
        "cost": cost,
    })  # fmt: skip


def rank(layers: list[LayerResult], task: Task) -> list[LayerResult]:
    """Return the single layers, best on validation first, equal ones in their order; the weighted sum only where it is alone.

    The first is the selected one.
    """
    sign = 1 if METRICS[task.main_metric].higher_is_better else -1
    single = [layer for layer in layers if layer.layer != "weighted"] or layers

    def score(layer: LayerResult) -> float:
        """Return the mean main metric on validation, higher being better."""
        mean = layer.validation[task.main_metric].mean
        return float("-inf") if mean is None else sign * mean

    return sorted(single, key=score, reverse=True)


def write_predictions(result: Result, inputs: Inputs, answers: dict[Group, Answers], results: Path) -> str:
    """Write the answers of every layer and seed to every validation and test track beside the result.

    Return the sha256 of the file, as 64 hex digits.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    path = (results / result.path).with_suffix(".parquet")
    text, numbers = pyarrow.string(), pyarrow.list_(pyarrow.float64())
    schema = pyarrow.schema({
        "layer": text, "seed": pyarrow.int32(), "split": text, "track": text,
        "target": numbers if kind_of(inputs.task.kind).numeric else pyarrow.list_(text), "prediction": text, "logits": numbers,
    })  # fmt: skip
    with atomic_write(path) as beside:
        with beside.open("wb") as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in _predictions(inputs, answers):
                writer.write_table(pyarrow.table(rows, schema))
        return file_hash(beside)


def _layer_result(job: Job, inputs: Inputs, answers: dict[Group, Answers], layer: int | str) -> LayerResult:
    of_seeds = [answers[Group(layer, seed)] for seed in job.seeds]
    valid, test = inputs.data.valid, inputs.data.test
    runs = [
        Run(
            seed=seed,
            validation=_metrics(answer.validation, valid, job.task),
            test=_metrics(answer.test, test, job.task),
            **_training(answer),
        )
        for seed, answer in zip(job.seeds, of_seeds, strict=True)
    ]
    layer_weights = torch.stack([answer.layer_weights for answer in of_seeds]).double().mean(0)
    stacked = torch.stack([answer.test for answer in of_seeds])
    return LayerResult(
        layer=layer,
        name="weighted sum" if isinstance(layer, str) else job.upstream.info.layers[layer].name,
        runs=runs,
        validation={name: _summary([run.validation[name] for run in runs]) for name in job.task.metrics},
        test={
            name: _summary([run.test[name] for run in runs], _interval(stacked, test, METRICS[name]))
            for name in job.task.metrics
        },
        weights=layer_weights.tolist() if len(layer_weights) else None,
    )


def _training(answer: Answers) -> dict[str, Any]:
    """Return the chosen rate, settings and epoch and the grid that they were chosen from, as `Run` has them."""
    training = answer.training
    if training is None:
        return {"learning_rate": None, "epoch": None, "grid": []}
    settings = training.grid_settings or ({},) * len(training.grid_rates)
    points = zip(training.grid_rates, training.grid_epochs, training.grid_scores, settings, strict=True)
    grid = [
        GridPoint(learning_rate=rate, epoch=int(epoch), validation=_number(float(score)), settings=chosen)
        for rate, epoch, score, chosen in points
    ]
    chosen = {"learning_rate": training.learning_rate, "epoch": training.epoch, "settings": training.settings}
    return chosen | {"grid": grid}


def _metrics(answers: Tensor, examples: Examples, task: Task) -> Scores:
    """Return the metrics of a task from the answers of one group to the rows of a split."""
    scores = {}
    for name in task.metrics:
        values, targets, _ = _units(answers, examples, METRICS[name])
        scores[name] = _number(float(METRICS[name](values, targets.cpu())))
    return scores


def _interval(answers: Tensor, examples: Examples, metric: Metric) -> tuple[float, float]:
    """Return the bootstrap interval over test tracks of a metric averaged over seeds, computed where the probes were."""
    values, targets, track = _units(answers.to(examples.track.device), examples, metric)
    return bootstrap_interval(values, targets, metric, track=track)


def _units(answers: Tensor, examples: Examples, metric: Metric) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the units of a metric: answers to tracks and their targets, or to windows, their targets and their tracks."""
    if metric.of_windows:
        return answers, examples.targets[examples.track], examples.track
    return examples.by_track(answers), examples.targets, None


def _summary(values: list[float | None], interval: tuple[float, float] | None = None) -> Summary:
    """Return mean and deviation over seeds; null where a seed has no value."""
    numbers = torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float64)
    deviation = float(numbers.std()) if len(numbers) > 1 else float("nan")
    ends = (_number(interval[0]), _number(interval[1])) if interval else None
    return Summary(mean=_number(float(numbers.mean())), std=_number(deviation), ci95=ends)


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _describe_task(job: Job, inputs: Inputs) -> dict[str, Any]:
    task = job.task
    described = {
        "name": task.name,
        "version": task.version,
        "kind": task.kind,
        "labels": list(task.labels),
        "main_metric": task.main_metric,
        "metrics": {name: "higher is better" if METRICS[name].higher_is_better else "lower is better" for name in task.metrics},
        "tracks": {split: len(names) for split, names in inputs.tracks.items()},
        "limit": job.data.limit,
        "data_sha256": job.data.content[:12],
        "synthetic": task.synthetic,
        "audio_from": task.audio_from,
        "licence": task.licence,
        "citation": task.citation,
        "source": task.source,
        "notes": [*task.notes, *job.data.cautions],
    }
    if "roc_auc" in task.metrics:
        described["labels_without_roc_auc"] = undefined_labels(inputs.data.test.targets)
    return described


def _predictions(inputs: Inputs, answers: dict[Group, Answers]) -> Iterator[dict[str, list]]:
    """Yield the columns of one table for each layer, seed and split."""
    task, data = inputs.task, inputs.data
    target_of = {clip.track: clip.target for clip in reversed(inputs.clips)}
    for group, answer in answers.items():
        for split, examples, values in (("valid", data.valid, answer.validation), ("test", data.test, answer.test)):
            tracks = inputs.tracks[split]
            logits = examples.by_track(values)
            targets = [target_of[track] for track in tracks]
            yield {
                "layer": [str(group.layer)] * len(tracks),
                "seed": [group.seed] * len(tracks),
                "split": [split] * len(tracks),
                "track": tracks,
                "target": [[target] if isinstance(target, str) else list(target) for target in targets],
                "prediction": kind_of(task.kind).decode(logits, task.labels),
                "logits": logits.double().tolist(),
            }
