"""Checkpoints of a training: complete or absent, and sufficient to continue it bit by bit.

Conventions
-----------
- ``<folder>/checkpoints/<step>/`` holds the upstream as ``--upstream PATH`` loads it (`marble.upstreams.loading.saved`; or
  ``quantiser.safetensors``), and ``training.safetensors`` and ``training.json``: heads and quantisers, optimiser, sums for the
  next line of the log, positions in the data, recipe, sha256 of tensors and log, and a seal of its own. ``log.jsonl`` is
  the log so far.
- A checkpoint is written beside its path and renamed when complete. The two newest are kept, in case one is damaged.
- With an exponential moving average, the average is saved as the upstream, and the weights themselves with the training.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor

from marble.errors import MarbleError
from marble.pretraining.journal import LOG, retry_until_written
from marble.pretraining.objective import QuantiserTraining
from marble.pretraining.parallel import gather, processes, spread_like, whole
from marble.pretraining.recipes import Recipe
from marble.pretraining.state import TrainingState
from marble.system.files import atomic_write, digest, file_hash
from marble.system.progress import Reporter

KEPT = 2
_TENSORS, _DOCUMENT = "training.safetensors", "training.json"


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training, None where there is none."""
    checkpoints = [path for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
    return max(checkpoints, key=lambda path: int(path.name), default=None)


def save(state: TrainingState, recipe: Recipe, folder: Path, about: Mapping[str, str], reporter: Reporter) -> Path:
    """Write a checkpoint below the folder of a training and return its folder; every process calls this.

    `about` gives fields of the upstream's manifest, such as the licence; `reporter` shows when nothing can be written.

    Raises:
        MarbleError: nothing could be written for a long time.
    """
    rank, world = processes()
    tensors, trained = _tensors(state)
    positions = gather(state.position)
    checkpoint = folder / "checkpoints" / f"{state.step:08d}"
    if rank == 0:
        document = {
            "step": state.step,
            "positions": positions,
            "skipped_in_a_row": state.skipped_in_a_row,
            # Counted once, since dropout may draw other numbers under torch's counter.
            "flops": state.flops,
            "recipe": recipe.model_dump(mode="json"),
        }
        manifest = {"recipe": recipe.name, "steps": state.step} | dict(about)
        retry_until_written(lambda: _write(state, checkpoint, tensors, trained, document, manifest), checkpoint, reporter)
    if world > 1:
        dist.barrier()
    return checkpoint


def _tensors(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of ``training.safetensors``, and by name in the objective those of the upstream or quantiser."""
    weights = {name: whole(value) for name, value in state.objective.state_dict().items()}
    average = {name: whole(value) for name, value in (state.average or {}).items()}
    trained = {name: value for name, value in weights.items() if name.startswith(state.objective.prefix)}
    parts = {
        "optimiser": {
            f"state.{name}.{key}": whole(value)
            for name, weight in state.objective.named_parameters()
            for key, value in state.optimiser.state.get(weight, {}).items()
        },
        "model": {name: value for name, value in weights.items() if name not in trained},
        "average": average,
        "present": trained if average else {},
        "meter": state.totals,
    }
    tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return tensors, trained | {name: value for name, value in average.items() if name in trained}


def _write(
    state: TrainingState,
    folder: Path,
    tensors: dict[str, Tensor],
    trained: dict[str, Tensor],
    document: dict[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Write a checkpoint beside its path and rename it."""
    beside = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _save(tensors, beside / _TENSORS)
        trained = {name.removeprefix(state.objective.prefix): value for name, value in trained.items()}
        if isinstance(state.objective, QuantiserTraining):
            _save(trained, beside / state.objective.file)
        else:
            state.objective.upstream.save(beside, about, trained)
        log = folder.parents[1] / LOG
        if log.exists():
            with atomic_write(beside / LOG) as path:
                shutil.copyfile(log, path)
        known = [*sorted(beside.glob("*.safetensors")), *beside.glob(LOG)]
        document |= {"sha256": {path.name: file_hash(path) for path in known}}
        with atomic_write(beside / _DOCUMENT) as path:
            path.write_text(json.dumps(document | {"seal": digest(document)}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in sorted(folder.parent.glob("[0-9]*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with atomic_write(path) as beside:
        safetensors.torch.save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, beside)


def restore(state: TrainingState, recipe: Recipe, folder: Path) -> None:
    """Set the state of a training, on every process, to that of a checkpoint.

    Raises:
        MarbleError: it is damaged, or of another recipe.
    """
    document, tensors = _read(folder, state.objective.prefix, state.objective.file)
    present = recipe.model_dump(mode="json", exclude={"source", "assumptions"})
    known = _completed(document["recipe"])
    if changed := [key for key, value in present.items() if known.get(key) != value]:
        raise MarbleError(
            f"{folder} was trained by another recipe ({', '.join(changed)} differ): give the same --set, or a new folder."
        )

    def part(name: str) -> dict[str, Tensor]:
        """Return the tensors below a name."""
        return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}

    weights = part("model") | part("trained") | part("present")
    with torch.no_grad():
        for name, weight in state.objective.state_dict().items():
            weight.copy_(spread_like(weights[name], weight))
    if state.average is not None:
        average = part("average")
        state.average = {name: spread_like(average[name], value) for name, value in state.average.items()}
    moments = part("optimiser")
    for name, weight in state.objective.named_parameters():
        if f"state.{name}.step" in moments:
            spread = {key: spread_like(moments[f"state.{name}.{key}"], weight) for key in ("exp_avg", "exp_avg_sq")}
            state.optimiser.state[weight] = {"step": moments[f"state.{name}.step"]} | spread
    state.step, state.skipped_in_a_row = document["step"], document["skipped_in_a_row"]
    rank, world = processes()
    if rank == 0:
        state.totals = part("meter")
    positions = document["positions"]
    if len(positions) == world:
        state.position, state.flops = positions[rank], document.get("flops")
    else:
        # The number of processes has changed: the new ones share the segments after the last round of the old ones.
        state.position, state.flops = max(positions) - len(positions) + 1 + rank, None


def _completed(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe of a checkpoint, with the defaults of settings that are younger than it."""
    try:
        return Recipe.model_validate(recipe).model_dump(mode="json")
    except ValidationError:
        return recipe


def _read(folder: Path, prefix: str, file: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the document and all tensors of a checkpoint, those of `file` as ``trained.`` and their names in the objective."""
    try:
        document = dict(json.loads((folder / _DOCUMENT).read_text()))
        if document.pop("seal", None) not in (None, digest(document)):  # older ones have none
            raise ValueError(f"{_DOCUMENT} is not the file that was written")
        for name, known in document.get("sha256", {}).items():
            if file_hash(folder / name) != known:
                raise ValueError(f"{name} is not the file that was written")
        _ = document["recipe"], document["positions"]
        tensors = safetensors.torch.load_file(folder / _TENSORS)
        trained = safetensors.torch.load_file(folder / file)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise MarbleError(f"{folder} is damaged ({error}): remove it, and --resume continues from the one before.") from error
    return document, tensors | {f"trained.{prefix}{name}": value for name, value in trained.items()}
