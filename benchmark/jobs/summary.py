"""From trained probes to a result: metrics, intervals, the choice of the layer, and the table of all answers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor

from marble.jobs.cautions import find_cautions
from marble.jobs.frame_predictions import SCHEMA, frame_predictions
from marble.jobs.job import Job
from marble.kinds import kind_of
from marble.probe.answers import Answers, Group
from marble.probe.frames.inputs import FrameInputs
from marble.probe.inputs import Examples, Inputs
from marble.probe.scoring.intervals import Estimate, estimate, interval, interval_of_choice, selection_shares
from marble.probe.scoring.metrics import METRICS, undefined_labels
from marble.results.schema import Cost, GridPoint, LayerResult, NearDuplicates, Result, Run, Scores, Selected, Summary
from marble.system.files import atomic_write, file_hash
from marble.system.machine import provenance
from marble.task import Clip, Split, Task


def build_result(
    job: Job, inputs: Inputs, answers: dict[Group, Answers], cost: Cost, near: NearDuplicates | None = None
) -> Result:
    """Return the result of a job from its answers, its cost and the audit of its splits."""
    estimates = {
        layer: {name: _estimate(_of_seeds(job, answers, layer), "test", inputs, name) for name in job.task.metrics}
        for layer in dict.fromkeys(group.layer for group in answers)
    }
    layers = [_layer_result(job, inputs, answers, layer, of_layer) for layer, of_layer in estimates.items()]
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
        "selected": _selected(job, inputs, answers, ranked, estimates),
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

    def score(layer: LayerResult) -> float:
        """Return the mean main metric on validation, higher being better."""
        mean = layer.validation[task.main_metric].mean
        return float("-inf") if mean is None else sign * mean

    return sorted(_candidates(layers), key=score, reverse=True)


def write_predictions(result: Result, inputs: Inputs, answers: dict[Group, Answers], results: Path) -> str:
    """Write the answers of every layer and seed to every validation and test track beside the result.

    Return the sha256 of the file, as 64 hex digits.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    path = (results / result.path).with_suffix(".parquet")
    text, numbers = pyarrow.string(), pyarrow.list_(pyarrow.float64())
    tables = _predictions(inputs, answers)
    schema = pyarrow.schema({
        "layer": text, "seed": pyarrow.int32(), "split": text, "track": text, "audio": text,
        "target": numbers if kind_of(inputs.task.kind).numeric else pyarrow.list_(text), "prediction": text, "logits": numbers,
    })  # fmt: skip
    if isinstance(inputs, FrameInputs):
        schema, tables = SCHEMA, frame_predictions(inputs, answers, result.selected.layer)
    with atomic_write(path) as beside:
        with beside.open("wb") as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in tables:
                writer.write_table(pyarrow.table(rows, schema))
        return file_hash(beside)


def _candidates(layers: list[LayerResult]) -> list[LayerResult]:
    return [layer for layer in layers if layer.layer != "weighted"] or layers


def _selected(
    job: Job,
    inputs: Inputs,
    answers: dict[Group, Answers],
    ranked: list[LayerResult],
    estimates: dict[int | str, dict[str, Estimate]],
) -> Selected:
    """Return the selected layer, with the intervals of a choice that is repeated on resampled validation tracks."""
    chosen, metric = ranked[0], job.task.main_metric
    candidates = sorted(ranked, key=lambda layer: layer.layer)
    valid = [_estimate(_of_seeds(job, answers, layer.layer), "valid", inputs, metric) for layer in candidates]
    shares = selection_shares(valid)
    of_choice = {
        name: _ends(interval_of_choice([estimates[layer.layer][name] for layer in candidates], shares, _or_nan(summary.mean)))
        for name, summary in chosen.test.items()
    }
    parts = {part: getattr(chosen, part) for part in ("layer", "name", "validation", "test")}
    return Selected(**parts, ci95_of_choice=of_choice)


def _of_seeds(job: Job, answers: dict[Group, Answers], layer: int | str) -> list[Answers]:
    return [answers[Group(layer, seed)] for seed in job.seeds]


def _layer_result(
    job: Job, inputs: Inputs, answers: dict[Group, Answers], layer: int | str, estimates: dict[str, Estimate]
) -> LayerResult:
    of_seeds = _of_seeds(job, answers, layer)
    valid, test = inputs.data.valid, inputs.data.test
    runs = [
        Run(
            seed=seed,
            validation=_metrics(answer.validation, valid, job.task),
            test=_metrics(answer.test, test, job.task),
            decoders=answer.frames.constants if answer.frames else {},
            **_training(answer),
        )
        for seed, answer in zip(job.seeds, of_seeds, strict=True)
    ]
    layer_weights = torch.stack([answer.layer_weights for answer in of_seeds]).double().mean(0)
    return LayerResult(
        layer=layer,
        name="weighted sum" if isinstance(layer, str) else job.upstream.info.layers[layer].name,
        runs=runs,
        validation={name: _summary([run.validation[name] for run in runs]) for name in job.task.metrics},
        test={name: _summary([run.test[name] for run in runs], estimates[name]) for name in job.task.metrics},
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
        values, targets, _ = examples.units(answers, METRICS[name])
        scores[name] = _number(float(METRICS[name](values, targets.cpu())))
    return scores


def _estimate(answers: list[Answers], split: Split, inputs: Inputs, name: str) -> Estimate:
    """Return the estimate over tracks of a metric averaged over seeds, computed where the probes were."""
    examples = inputs.data.test if split == "test" else inputs.data.valid
    stacked = torch.stack([answer.test if split == "test" else answer.validation for answer in answers])
    values, targets, track = examples.units(stacked.to(examples.track.device), METRICS[name])
    return estimate(values, targets, METRICS[name], track)


def _summary(values: list[float | None], error: Estimate | None = None) -> Summary:
    """Return mean and deviation over seeds, and the interval of a test score; null where a seed has no value."""
    numbers = torch.tensor([_or_nan(value) for value in values], dtype=torch.float64)
    mean, deviation = float(numbers.mean()), float(numbers.std()) if len(numbers) > 1 else math.nan
    return Summary(mean=_number(mean), std=_number(deviation), ci95=_ends(interval(error, mean)) if error else None)


def _ends(ends: tuple[float, float]) -> tuple[float | None, float | None]:
    return _number(ends[0]), _number(ends[1])


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


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
    if isinstance(inputs, FrameInputs):
        columns = {name: (columns.start, columns.stop) for name, columns in inputs.columns.items()}
        grid = {"rate": inputs.grid.rate, "first": inputs.grid.first}
        described["frames"] = grid | {"scored": inputs.scored, "statistics": columns}
    if "roc_auc" in task.metrics:
        described["labels_without_roc_auc"] = undefined_labels(inputs.data.test.targets)
    return described


def _predictions(inputs: Inputs, answers: dict[Group, Answers]) -> Iterator[dict[str, list]]:
    """Yield the columns of one table for each layer, seed and split."""
    task, data = inputs.task, inputs.data
    first = {clip.track: clip for clip in reversed(inputs.clips)}
    for group, answer in answers.items():
        for split, examples, values in (("valid", data.valid, answer.validation), ("test", data.test, answer.test)):
            tracks = inputs.tracks[split]
            logits = examples.by_track(values)
            targets = [first[track].target for track in tracks]
            yield {
                "layer": [str(group.layer)] * len(tracks),
                "seed": [group.seed] * len(tracks),
                "split": [split] * len(tracks),
                "track": tracks,
                "audio": [_audio(first[track]) for track in tracks],
                "target": [list(target) if isinstance(target, tuple) else [target] for target in targets],
                "prediction": kind_of(task.kind).decode(logits, task.labels),
                "logits": logits.double().tolist(),
            }


def _audio(clip: Clip) -> str:
    """Return where the audio of a clip lies: a file URI, with start and stop in seconds where it is a part of the file."""
    stop = "" if clip.stop is None else f",{clip.stop:g}"
    part = f"#t={clip.start:g}{stop}" if clip.start or stop else ""
    return clip.path.absolute().as_uri() + part
