"""The curve of a training: validation scores of its checkpoints, in ``curve.csv``, ``curve.png`` and ``curve.svg``.

Every probed task has one row for each checkpoint: the *validation* score of the best layer. Test splits are for `marble run`.
"""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from marble.jobs.run import run
from marble.pretraining.journal import read_log
from marble.results.figures import save_figure, training_curve
from marble.system.files import atomic_write
from marble.system.progress import Reporter

_COLUMNS = ("step", "task", "metric", "layer", "validation")
_FILE = "curve.csv"


def extend_curve(folder: Path, step: int, checkpoint: Path, tasks: Sequence[str], device: str, reporter: Reporter) -> None:
    """Probe the checkpoint of a step on some tasks, add the scores to the curve of a training's folder, and draw it.

    An error is reported and does not end the training.
    """
    if not tasks:
        return
    try:
        rows = [row for row in read_curve(folder) if int(row["step"]) < step]
        rows += [_probe(folder, step, checkpoint, task, device, reporter) for task in tasks]
        with atomic_write(folder / _FILE) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        save_figure(training_curve(read_log(folder), rows), folder / "curve")
    except Exception as error:  # a training of weeks must not end for lack of a score
        reporter.say(f"step {step} is not probed: {error or type(error).__name__}")


def read_curve(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a training's ``curve.csv``, none where nothing has been probed."""
    if not (folder / _FILE).exists():
        return []
    with (folder / _FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def _probe(folder: Path, step: int, checkpoint: Path, task: str, device: str, reporter: Reporter) -> dict[str, str]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probing-") as name:
        scratch = Path(name)
        result = run(str(checkpoint), task, seeds=1, device=device, cache_dir=scratch, results=scratch / "results")
    metric, layer = result.task.main_metric, result.selected.layer
    mean = result.selected.validation[metric].mean
    score = math.nan if mean is None else mean
    reporter.say(f"step {step}: {task} {metric} {score:.3f} on validation, layer {layer}")
    return dict(zip(_COLUMNS, map(str, (step, task, metric, layer, score)), strict=True))
