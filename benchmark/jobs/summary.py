"""From trained probes to a result: metrics, intervals, the choice of the layer, and the table of all answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor

from marble.files import atomic_write
from marble.machine import provenance
from marble.probe.bank import Group, Tracks, Trained
from marble.probe.bootstrap import bootstrap_interval
from marble.probe.metrics import METRICS, Metric, grades, undefined_labels
from marble.probe.train import Probing
from marble.results.schema import BadClip, Cost, GridPoint, LayerResult, Result, Run, Scores, Selected, Summary
from marble.task import Task

if TYPE_CHECKING:
    from marble.jobs.run import Job


def build_result(job: Job, probing: Probing, trained: dict[Group, Trained], bad: list[BadClip], cost: Cost) -> Result:
    """Return the result of a job whose probes are trained."""
    layers = [_layer_result(job, probing, trained, layer) for layer in dict.fromkeys(group.layer for group in trained)]
    return Result(
        identity=job.identity,
        upstream=asdict(job.upstream.info) | {"weights_sha256": job.upstream.weights_sha256},
        task=_describe_task(job, probing),
        protocol=job.protocol.model_dump(mode="json")
        | {"label": job.protocol.label, "windows": job.windows.model_dump(mode="json"), "precision": job.upstream.precision},
        layers=layers,
        selected=Selected.model_validate(select(layers, job.task), from_attributes=True),
        bad_clips=bad,
        provenance=provenance(job.upstream.device)
        | {"space": job.space.description, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
        cost=cost,
    )


def select(layers: list[LayerResult], task: Task) -> LayerResult:
    """Return the single layer that is best on validation, the lowest of equal ones; the weighted sum only where it is alone."""
    sign = 1 if METRICS[task.main_metric].higher_is_better else -1
    single = [layer for layer in layers if layer.layer != "weighted"] or layers

    def score(layer: LayerResult) -> float:
        """Return the mean main metric on validation, higher being better."""
        mean = layer.validation[task.main_metric].mean
        return float("-inf") if mean is None else sign * mean

    return max(single, key=score)


def write_predictions(result: Result, job: Job, probing: Probing, trained: dict[Group, Trained], results: Path) -> None:
    """Write the answers of the chosen probe of every layer and seed to every validation and test track beside the result.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    path = (results / result.path).with_suffix(".parquet")
    text, numbers = pyarrow.string(), pyarrow.list_(pyarrow.float64())
    schema = pyarrow.schema({
        "layer": text, "seed": pyarrow.int32(), "split": text, "track": text,
        "target": numbers if job.task.kind == "regression" else pyarrow.list_(text), "prediction": text, "logits": numbers,
    })  # fmt: skip
    with atomic_write(path) as beside, parquet.ParquetWriter(beside, schema, compression="zstd") as writer:
        for rows in _predictions(job.task, probing, trained):
            writer.write_table(pyarrow.table(rows, schema))


def _layer_result(job: Job, probing: Probing, trained: dict[Group, Trained], layer: int | str) -> LayerResult:
    chosen = [trained[Group(layer, seed)] for seed in job.seeds]
    validation, test = probing.question.valid, probing.question.test
    runs = [
        Run(
            seed=seed,
            learning_rate=one.learning_rate,
            epoch=one.epoch,
            validation=_metrics(one.validation, one.validation_windows, validation, job.task),
            test=_metrics(one.test, one.test_windows, test, job.task),
            grid=[
                GridPoint(learning_rate=rate, epoch=int(epoch), validation=_number(float(score)))
                for rate, epoch, score in zip(job.protocol.probe.learning_rates, one.grid_epochs, one.grid_scores, strict=True)
            ],
        )
        for seed, one in zip(job.seeds, chosen, strict=True)
    ]
    weights = torch.stack([one.layer_weights for one in chosen]).double().mean(0).tolist() if layer == "weighted" else None
    return LayerResult(
        layer=layer,
        name="weighted sum" if isinstance(layer, str) else job.upstream.info.layers[layer].name,
        runs=runs,
        validation={name: _summary([run.validation[name] for run in runs]) for name in job.task.metrics},
        test={
            name: _summary([run.test[name] for run in runs], _interval(chosen, test, METRICS[name]))
            for name in job.task.metrics
        },
        weights=weights,
    )


def _metrics(logits: Tensor, window_logits: Tensor, tracks: Tracks, task: Task) -> Scores:
    """Return the metrics of a task from the answers of one probe to the tracks and to the windows of a split."""
    scores = {}
    for name in task.metrics:
        metric = METRICS[name]
        answered, asked = (window_logits, tracks.windows()) if metric.of_windows else (logits, tracks)
        scores[name] = _number(float(metric(answered, asked.targets.cpu())))
    return scores


def _interval(chosen: list[Trained], tracks: Tracks, metric: Metric) -> tuple[float, float]:
    """Return the bootstrap interval over test tracks of a metric averaged over seeds, computed where the probes were."""
    if metric.of_windows:
        stacked = torch.stack([one.test_windows for one in chosen]).to(tracks.track.device)
        return bootstrap_interval(stacked, tracks.windows().targets, metric, track=tracks.track)
    stacked = torch.stack([one.test for one in chosen]).to(tracks.track.device)
    return bootstrap_interval(stacked, tracks.targets, metric)


def _summary(values: list[float | None], interval: tuple[float, float] | None = None) -> Summary:
    """Return mean and deviation over seeds; null where a seed has no value."""
    numbers = torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float64)
    deviation = float(numbers.std()) if len(numbers) > 1 else float("nan")
    ends = (_number(interval[0]), _number(interval[1])) if interval else None
    return Summary(mean=_number(float(numbers.mean())), std=_number(deviation), ci95=ends)


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _describe_task(job: Job, probing: Probing) -> dict[str, Any]:
    task = job.task
    described = {
        "name": task.name,
        "version": task.version,
        "kind": task.kind,
        "labels": list(task.labels),
        "main_metric": task.main_metric,
        "metrics": {name: "higher is better" if METRICS[name].higher_is_better else "lower is better" for name in task.metrics},
        "tracks": {split: len(names) for split, names in probing.tracks.items()},
        "limit": job.limit,
        "data": job.data[:12],
        "synthetic": task.synthetic,
        "licence": task.licence,
        "citation": task.citation,
    }
    if task.kind == "multilabel":
        described["labels_without_roc_auc"] = undefined_labels(probing.question.test.targets)
    return described


def _predictions(task: Task, probing: Probing, trained: dict[Group, Trained]) -> Iterator[dict[str, list]]:
    """Yield the columns of one table for each layer, seed and split."""
    target_of = {clip.track: clip.target for clip in reversed(probing.clips)}
    for group, one in trained.items():
        for split, logits in (("valid", one.validation), ("test", one.test)):
            tracks = probing.tracks[split]
            named: list[str | None] = [None] * len(tracks)
            if task.kind in ("multiclass", "ordinal"):
                places = logits.argmax(dim=1) if task.kind == "multiclass" else grades(logits)
                named = [task.labels[place] if place >= 0 else None for place in places.tolist()]
            targets = [target_of[track] for track in tracks]
            yield {
                "layer": [str(group.layer)] * len(tracks),
                "seed": [group.seed] * len(tracks),
                "split": [split] * len(tracks),
                "track": tracks,
                "target": [[target] if isinstance(target, str) else list(target) for target in targets],
                "prediction": named,
                "logits": logits.double().tolist(),
            }
