"""Checkpoints of a training: whole or not there, and enough to go on bit by bit.

Conventions
-----------
- ``<folder>/checkpoints/<step>/`` holds the upstream as ``--upstream PATH`` loads it (`marble.upstreams.loading.saved`; or
  ``quantiser.safetensors``), and ``training.safetensors`` and ``training.json``: heads and quantisers, optimiser, what the next
  line of the log has so far, the positions in the data, the recipe, the sha256 of the tensors.
- It is written beside and renamed when complete. The two newest are kept, so that a damaged disk costs one at most.
- Where there is an exponential moving average, it is what is saved as the upstream; the weights themselves are in the training.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from marble.errors import MarbleError
from marble.files import atomic_write, file_hash
from marble.pretraining.journal import insist
from marble.pretraining.objective import QuantiserTraining
from marble.pretraining.parallel import spread_like, whole
from marble.pretraining.targets.target import QUANTISER_FILE
from marble.upstreams.loading.saved import WEIGHTS

if TYPE_CHECKING:
    from marble.pretraining.segments import Loader
    from marble.pretraining.trainer import Trainer

KEPT = 2
_TENSORS, _DOCUMENT = "training.safetensors", "training.json"


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training, None where there is none."""
    found = [path for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
    return max(found, key=lambda path: int(path.name), default=None)


def save(trainer: Trainer, loader: Loader) -> Path:
    """Write a checkpoint of this step and return its folder; every process calls this.

    Raises:
        MarbleError: nothing could be written for a long time.
    """
    weights = {name: whole(value) for name, value in trainer.objective.state_dict().items()}
    average = {name: whole(value) for name, value in (trainer.average or {}).items()}
    moments = {
        f"state.{name}.{key}": whole(value)
        for name, weight in trainer.objective.named_parameters()
        for key, value in trainer.optimiser.state.get(weight, {}).items()
    }
    positions: list[Any] = [loader.position]
    if trainer.world > 1:
        positions = [None] * trainer.world
        dist.all_gather_object(positions, loader.position)
    folder = trainer.folder / "checkpoints" / f"{trainer.step:08d}"
    if trainer.rank == 0:
        document = {
            "step": trainer.step,
            "positions": positions,
            "skipped_in_a_row": trainer.skipped_in_a_row,
            # Counted once: under torch's counter dropout may draw otherwise.
            "flops": trainer.meter.flops,
            "recipe": trainer.recipe.model_dump(mode="json"),
        }
        trained = {name: value for name, value in weights.items() if name.startswith(_prefix(trainer))}
        parts = {
            "optimiser": moments,
            "model": {name: value for name, value in weights.items() if name not in trained},
            "average": average,
            "present": trained if average else {},
            "meter": trainer.meter.totals,
        }
        trained = trained | {name: value for name, value in average.items() if name in trained}
        insist(lambda: _write(trainer, folder, parts, trained, document), folder, trainer.reporter)
    if trainer.world > 1:
        dist.barrier()
    return folder


def _prefix(trainer: Trainer) -> str:
    """Return the name of what is trained inside the objective."""
    return "quantiser." if isinstance(trainer.objective, QuantiserTraining) else "upstream."


def _write(
    trainer: Trainer, folder: Path, parts: dict[str, dict[str, Tensor]], trained: dict[str, Tensor], document: dict[str, Any]
) -> None:
    """Write a checkpoint beside its place and rename it."""
    beside = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _save({f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}, beside / _TENSORS)
        tensors = {name.removeprefix(_prefix(trainer)): value for name, value in trained.items()}
        if isinstance(trainer.objective, QuantiserTraining):
            _save(tensors, beside / QUANTISER_FILE)
        else:
            about = {"recipe": trainer.recipe.name, "steps": trainer.step} | dict(trainer.about)
            trainer.objective.upstream.save(beside, about, tensors)
        hashes = {path.name: file_hash(path) for path in sorted(beside.glob("*.safetensors"))}
        with atomic_write(beside / _DOCUMENT) as path:
            path.write_text(json.dumps(document | {"sha256": hashes}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in sorted(folder.parent.glob("[0-9]*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with atomic_write(path) as beside:
        safetensors.torch.save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, beside)


def restore(trainer: Trainer, folder: Path) -> int:
    """Give a trainer the state of a checkpoint; return the position in the data of this process.

    Raises:
        MarbleError: it is damaged, or of another recipe.
    """
    trained_file = QUANTISER_FILE if isinstance(trainer.objective, QuantiserTraining) else WEIGHTS
    try:
        document = json.loads((folder / _DOCUMENT).read_text())
        for name, known in document.get("sha256", {}).items():
            if file_hash(folder / name) != known:
                raise ValueError(f"{name} is not the file that was written")
        recipe, positions = document["recipe"], document["positions"]
        tensors = safetensors.torch.load_file(folder / _TENSORS)
        trained = safetensors.torch.load_file(folder / trained_file)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise MarbleError(f"{folder} is damaged ({error}): remove it, and --resume continues from the one before.") from error
    present = trainer.recipe.model_dump(mode="json", exclude={"source", "assumptions"})
    if changed := [key for key, value in present.items() if recipe.get(key) != value]:
        raise MarbleError(
            f"{folder} was trained by another recipe ({', '.join(changed)} differ): give the same --set, or a new folder."
        )

    def part(name: str) -> dict[str, Tensor]:
        """Return the tensors below a name."""
        return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}

    weights = part("model") | {_prefix(trainer) + name: value for name, value in trained.items()} | part("present")
    with torch.no_grad():
        for name, weight in trainer.objective.state_dict().items():
            weight.copy_(spread_like(weights[name], weight))
    if trainer.average is not None:
        average = part("average")
        trainer.average = {name: spread_like(average[name], value) for name, value in trainer.average.items()}
    moments = part("optimiser")
    for name, weight in trainer.objective.named_parameters():
        if f"state.{name}.step" in moments:
            state = {key: spread_like(moments[f"state.{name}.{key}"], weight) for key in ("exp_avg", "exp_avg_sq")}
            trainer.optimiser.state[weight] = {"step": moments[f"state.{name}.step"]} | state
    trainer.step, trainer.skipped_in_a_row = document["step"], document["skipped_in_a_row"]
    trainer.meter.flops = document.get("flops") if len(positions) == trainer.world else None
    if trainer.rank == 0:
        trainer.meter.totals = part("meter")
    if len(positions) != trainer.world:
        # Other processes than before: they share what follows the last round of those.
        return max(positions) - len(positions) + 1 + trainer.rank
    return positions[trainer.rank]
