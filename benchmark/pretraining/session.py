"""Pretraining: a recipe, data and a folder become an upstream, probed while it is trained.

Data is any folder of audio (walked to its leaves), a table with a column ``path``, or a stream such as ``synth``. Below the
folder stand ``checkpoints/<step>/`` (each one an upstream for ``--upstream PATH``), ``log.jsonl``, ``refused.csv`` (audio that
could not be used, with the reason), and with `probe` ``curve.csv``, ``curve.png`` and ``curve.svg``: the *validation* scores of
the best layer over the training. Test splits are left to `marble run`.
"""

from __future__ import annotations

import csv
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from marble import registry
from marble.audio.decode import is_audio_name
from marble.errors import MarbleError
from marble.files import atomic_write, user_path, writing
from marble.jobs.run import run
from marble.machine import choose_device
from marble.pretraining.calibration import CLIPS, calibrate
from marble.pretraining.checkpoint import latest
from marble.pretraining.journal import LOG
from marble.pretraining.objective import MaskedPrediction, Objective, make_objective
from marble.pretraining.recipes import Recipe, load_recipe
from marble.pretraining.segments import Files, Loader, Source, Stream
from marble.pretraining.trainer import Stopped, Trainer, join_processes, leave_processes
from marble.progress import Reporter
from marble.random_streams import stream_seed
from marble.results.figures import save_figure, training_curve
from marble.tasks import STREAMS
from marble.tasks.own.table import read_table
from marble.upstreams.loading.hub import Published
from marble.upstreams.loading.saved import SavedUpstream

_COLUMNS = ("step", "task", "metric", "layer", "validation")


def pretrain(
    recipe: str,
    data: str,
    folder: Path | str,
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    probe: Sequence[str] = (),
    checkpoint_every: int = 1000,
    log_every: int = 20,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Train by a recipe and return the folder of the last checkpoint.

    Args:
        recipe: its name.
        data: a folder of audio, a table, or the name of a stream.
        folder: where everything is written.
        settings: changes to the recipe, ``KEY=VALUE``.
        resume: go on from the newest checkpoint of the folder.
        probe: tasks that every checkpoint is probed on, by one seed.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: processes that decode or render; None leaves one core to the training.
        reporter: says what happens; None is silent.

    Raises:
        MarbleError: a name, a setting or the data is wrong, the training diverged, or nothing can be written.
        Stopped: a signal ended the training, after a checkpoint.
    """
    folder = Path(folder)
    # One process speaks for all.
    reporter = reporter if reporter and os.environ.get("RANK", "0") == "0" else Reporter()
    how = load_recipe(recipe, settings)
    if probe and how.mask is None:
        raise MarbleError(f"{recipe} trains a quantiser, which has no layers to probe: leave out --probe.")
    for task in probe:
        registry.load_task(task)
    checkpoint = _checkpoint(folder, resume)
    here = join_processes(choose_device(device))
    torch.manual_seed(stream_seed("pretraining", how.seed))
    upstream = _untrained(how.upstream)
    source = find_source(data, how, upstream.info.sample_rate)
    if isinstance(source, Files):
        reporter.say(f"{len(source.segments)} segments of {how.seconds:g} s, {len(source.refused)} files refused")
    objective = make_objective(how, upstream)
    with writing(folder):  # said at once, where a training that is under way would wait
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    if checkpoint is None:
        _calibrate(objective, how, source, workers)
    trainer = Trainer(
        how,
        objective,
        source,
        folder,
        device=here,
        workers=workers,
        reporter=reporter,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        about=_about(upstream, data, source, recipe, settings),
        on_checkpoint=lambda step, path: _probe(folder, step, path, probe, str(here), reporter),
    )
    try:
        last = trainer.train(checkpoint)
    except Stopped:
        leave_processes()
        raise
    leave_processes()
    return last


def _untrained(name: str) -> SavedUpstream:
    upstream = registry.find_upstream(name).random()
    if not isinstance(upstream, SavedUpstream):
        raise MarbleError(f"{name} cannot be pretrained: marble ls recipes lists what can.")
    return upstream


def _calibrate(objective: Objective, recipe: Recipe, source: Source, workers: int | None) -> None:
    """Measure what the recipe wants to know of the data, on the same clips in every process."""
    if not isinstance(objective, MaskedPrediction) or not (recipe.standardise or recipe.frozen_stem):
        return
    with Loader(source, CLIPS, objective.samples, 0, 1, workers) as loader:
        clips = loader.batch().waveform
    calibrate(objective, clips.split(recipe.micro_batch), standardise=recipe.standardise)


def find_source(data: str, recipe: Recipe, sample_rate: int) -> Source:
    """Return the segments of a folder of audio, of a table, or of a stream.

    Raises:
        MarbleError: there is no such thing, or it holds no segment.
    """
    if data in STREAMS:
        return Stream(STREAMS[data], recipe.seconds, sample_rate)
    path = user_path(data)
    if path.is_dir():
        paths = sorted(one for one in path.rglob("*") if is_audio_name(one.name))
        if not paths:
            raise MarbleError(f"There is no audio below {path}: give the folder of your recordings.")
    elif path.is_file():
        paths = [path.parent / user_path(str(one)) for one in read_table(path)["path"]]
    else:
        raise MarbleError(f"There is no data '{data}': give a folder of audio, a table, or {' or '.join(STREAMS)}.")
    return Files(paths, recipe.seconds, sample_rate, recipe.seed)


def _checkpoint(folder: Path, resume: bool) -> Path | None:
    found = latest(folder)
    if found and not resume:
        raise MarbleError(f"{folder} holds a training already: go on with --resume, or name another folder with --out.")
    if resume and not found:
        raise MarbleError(f"There is no checkpoint in {folder}: start without --resume.")
    return found


def _about(upstream: SavedUpstream, data: str, source: Source, recipe: str, settings: Sequence[str]) -> dict[str, str]:
    changes = "".join(f" --set {setting}" for setting in settings)
    hours = "endless" if source.hours is None else f"{source.hours:.1f} h"
    name = upstream.info.name
    return {
        # Its results must not be taken for those of the published weights.
        "name": f"{name}-retrained" if isinstance(registry.find_upstream(name), Published) else name,
        "recipe": f"marble pretrain {recipe} --data {data}{changes}",
        "training_data": f"{data} ({hours})",
        "licence": "that of the training data and of whoever trained it",
    }


def _probe(folder: Path, step: int, checkpoint: Path, tasks: Sequence[str], device: str, reporter: Reporter) -> None:
    """Probe a checkpoint, add its validation scores to the curve, and draw it; the training goes on whatever happens here."""
    try:
        rows = [row for row in read_curve(folder) if int(row["step"]) < step]
        for task in tasks:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".probing-") as scratch:
                place = Path(scratch)
                result = run(str(checkpoint), task, seeds=1, device=device, cache_dir=place, results=place / "results")
            metric = result.task["main_metric"]
            mean = result.selected.validation[metric].mean
            score = math.nan if mean is None else mean
            values = (step, task, metric, result.selected.layer, score)
            rows.append(dict(zip(_COLUMNS, map(str, values), strict=True)))
            reporter.say(f"step {step}: {task} {metric} {score:.3f} on validation, layer {result.selected.layer}")
        if tasks:
            with atomic_write(folder / "curve.csv") as beside, beside.open("w", newline="") as file:
                writer = csv.DictWriter(file, _COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            log = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
            save_figure(training_curve(log, rows), folder / "curve")
    except Exception as error:  # a training of weeks must not end for want of a score
        reporter.say(f"step {step} is not probed: {error or type(error).__name__}")


def read_curve(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a training's ``curve.csv``, none where nothing has been probed."""
    if not (folder / "curve.csv").exists():
        return []
    with (folder / "curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))
