"""Pretraining: a recipe, data and a folder become an upstream, probed while it is trained.

Data is any folder of audio (walked to its leaves), a table with a column ``path``, or a stream such as ``synth``. Below the
folder stand ``checkpoints/<step>/`` (each one an upstream for ``--upstream PATH``), ``log.jsonl``, ``refused.csv`` (audio that
could not be used, with the reason), and with `probe` the curve (`marble.pretraining.curve`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from marble import registry
from marble.audio.decode import is_audio_name
from marble.errors import MarbleError
from marble.pretraining.calibration import CLIPS, calibrate
from marble.pretraining.checkpoint import latest
from marble.pretraining.curve import extend_curve
from marble.pretraining.journal import summary_writer
from marble.pretraining.objective import MaskedPrediction, Objective, make_objective
from marble.pretraining.parallel import join_processes, leave_processes
from marble.pretraining.recipes import Recipe, load_recipe
from marble.pretraining.segments import Files, Loader, Source, Stream
from marble.pretraining.trainer import Stopped, Trainer
from marble.random_streams import stream_seed
from marble.system.files import user_path, writing
from marble.system.machine import choose_device
from marble.system.progress import Reporter
from marble.tasks import STREAMS
from marble.tasks.own.table_file import read_table
from marble.upstreams.loading.hub import Published
from marble.upstreams.loading.saved import SavedUpstream


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
    tensorboard: bool = False,
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
        resume: continue from the newest checkpoint of the folder.
        probe: tasks that every checkpoint is probed on, by one seed.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        tensorboard: write TensorBoard's files as well, below ``<folder>/tensorboard``.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: processes that decode or render; None leaves one core to the training.
        reporter: shows progress; None is silent.

    Raises:
        MarbleError: a name, a setting or the data is wrong, the training diverged, or nothing can be written.
        Stopped: a signal ended the training, after a checkpoint.
    """
    folder = Path(folder)
    # Only the first process reports.
    reporter = reporter if reporter and os.environ.get("RANK", "0") == "0" else Reporter()
    loaded = load_recipe(recipe, settings)
    _check_tasks(loaded, probe)
    if tensorboard:
        summary_writer()
    checkpoint = _checkpoint(folder, resume)
    processor = join_processes(choose_device(device))
    objective, source, about = _prepare(loaded, data, settings, reporter)
    with writing(folder):  # fails at once; a training under way would wait
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    if checkpoint is None:
        _calibrate(objective, loaded, source, workers)
    trainer = Trainer(
        loaded,
        objective,
        source,
        folder,
        device=processor,
        workers=workers,
        reporter=reporter,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        tensorboard=tensorboard,
        about=about,
        on_checkpoint=lambda step, path: extend_curve(folder, step, path, probe, str(processor), reporter),
    )
    try:
        last = trainer.train(checkpoint)
    except Stopped:
        leave_processes()
        raise
    leave_processes()
    return last


def _check_tasks(recipe: Recipe, probe: Sequence[str]) -> None:
    if probe and recipe.mask is None:
        raise MarbleError(f"{recipe.name} trains a quantiser, which has no layers to probe: leave out --probe.")
    for task in probe:
        registry.load_task(task)


def _prepare(
    recipe: Recipe, data: str, settings: Sequence[str], reporter: Reporter
) -> tuple[Objective, Source, dict[str, str]]:
    """Return the objective with weights as drawn, the data, and the entries about both in the manifest of a checkpoint."""
    torch.manual_seed(stream_seed("pretraining", recipe.seed))
    upstream = _untrained(recipe.upstream)
    source = find_source(data, recipe, upstream.info.sample_rate)
    if isinstance(source, Files):
        reporter.say(source.summary)
    return make_objective(recipe, upstream), source, _about(upstream, data, source, recipe.name, settings)


def _untrained(name: str) -> SavedUpstream:
    upstream = registry.find_upstream(name).random()
    if not isinstance(upstream, SavedUpstream):
        raise MarbleError(f"{name} cannot be pretrained: marble ls recipes lists what can.")
    return upstream


def _calibrate(objective: Objective, recipe: Recipe, source: Source, workers: int | None) -> None:
    """Measure the statistics of the data that the recipe asks for, on the same clips in every process."""
    if not isinstance(objective, MaskedPrediction) or not (recipe.standardise or recipe.frozen_stem):
        return
    with Loader(source, CLIPS, objective.samples, 0, 1, workers) as loader:
        clips = loader.batch().waveform
    calibrate(objective, clips.split(recipe.micro_batch), standardise=recipe.standardise)


def find_source(data: str, recipe: Recipe, sample_rate: int) -> Source:
    """Return the segments of a folder of audio, of a table, or of a stream.

    Raises:
        MarbleError: there is no such data, or it holds no segment.
    """
    if data in STREAMS:
        return Stream(STREAMS[data], recipe.seconds, sample_rate)
    path = user_path(data)
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*") if is_audio_name(file.name))
        if not paths:
            raise MarbleError(f"There is no audio below {path}: give the folder of your recordings.")
    elif path.is_file():
        paths = [path.parent / user_path(str(name)) for name in read_table(path, targets=()).rows["path"]]
    else:
        raise MarbleError(f"There is no data '{data}': give a folder of audio, a table, or {' or '.join(STREAMS)}.")
    return Files(paths, recipe.seconds, sample_rate, recipe.seed, random_channel=recipe.random_channel)


def _checkpoint(folder: Path, resume: bool) -> Path | None:
    checkpoint = latest(folder)
    if checkpoint and not resume:
        raise MarbleError(f"{folder} holds a training already: go on with --resume, or name another folder with --out.")
    if resume and not checkpoint:
        raise MarbleError(f"There is no checkpoint in {folder}: start without --resume.")
    return checkpoint


def _about(upstream: SavedUpstream, data: str, source: Source, recipe: str, settings: Sequence[str]) -> dict[str, Any]:
    changes = "".join(f" --set {setting}" for setting in settings)
    hours = "endless" if source.hours is None else f"{source.hours:.1f} h"
    name = upstream.info.name
    return {
        # Its results must not be taken for those of the published weights.
        "name": f"{name}-retrained" if isinstance(registry.find_upstream(name), Published) else name,
        "recipe": f"marble pretrain {recipe} --data {data}{changes}",
        "training_data": f"{data} ({hours})",
        "trained_on": ["marble's synthesiser"] if data in STREAMS else [],
        "licence": "that of the training data and of whoever trained it",
    }
