"""A result: what one upstream reached on one task under one protocol; one JSON file, checked when written and when read.

Conventions
-----------
- ``results/<upstream>/<task>/<protocol>-<identity>.json``; the identity is a hash of everything that decides the numbers
  (weights, code versions, audio contents, splits, targets, protocol, layers, seeds). The answers to every validation and
  test track lie beside it in a Parquet file of the same name: layer, seed, split, track, target, prediction, logits.
- Every layer and seed stands with its chosen learning rate and epoch and its validation and test metrics; every layer with
  mean and standard deviation (n - 1) over seeds and, on test, the 95 % bootstrap interval over tracks.
- ``selected`` is the single layer with the best mean main metric on *validation*; its test score is read, never chosen. The
  weighted sum is selected only where it was probed alone.
- A metric that does not exist is null.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marble.errors import MarbleError
from marble.files import atomic_write

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
Scores = dict[str, float | None]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class GridPoint(_Part):
    """A learning rate, its best epoch and the main metric on validation there."""

    learning_rate: float
    epoch: int
    validation: float | None


class Run(_Part):
    """One seed of one layer at the learning rate and epoch that validation chose; all rates in `grid`."""

    seed: int
    learning_rate: float
    epoch: int
    validation: Scores
    test: Scores
    grid: list[GridPoint]


class Summary(_Part):
    """Mean and standard deviation over seeds, and a 95 % bootstrap interval over tracks where one was computed."""

    mean: float | None
    std: float | None
    ci95: tuple[float | None, float | None] | None = None


class LayerResult(_Part):
    """One layer, or the weighted sum of all (with its learned weights, averaged over seeds)."""

    layer: int | str
    name: str
    runs: list[Run]
    validation: dict[str, Summary]
    test: dict[str, Summary]
    weights: list[float] | None = None


class Selected(_Part):
    """The layer that validation chose, and what it reached."""

    layer: int | str
    name: str
    rule: str = "best mean main metric on validation"
    validation: dict[str, Summary]
    test: dict[str, Summary]


class BadClip(_Part):
    """A clip that was left out, and why."""

    id: str
    path: str
    split: str
    reason: str


class Cost(_Part):
    """What this run spent: times in seconds, audio in hours, memory (on a CPU of the whole process) and cache in bytes."""

    encoder_seconds: float
    probe_seconds: float
    audio_hours: float
    clips_encoded: int
    clips_cached: int
    peak_memory_bytes: int
    cache_bytes: int


class Result(_Part):
    """The whole result; `identity` names everything that decides its numbers."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    identity: str
    upstream: dict[str, Any]
    task: dict[str, Any]
    protocol: dict[str, Any]
    layers: list[LayerResult]
    selected: Selected
    bad_clips: list[BadClip]
    provenance: dict[str, Any]
    cost: Cost

    @property
    def path(self) -> Path:
        """Where the result lies below the folder of all results."""
        folder = Path(_slug(self.upstream["name"])) / _slug(self.task["name"])
        return folder / f"{_slug(self.protocol['name'])}-{self.identity[:12]}.json"

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    def save(self, root: Path) -> Path:
        """Write the result below the folder of all results and return its path.

        Raises:
            MarbleError: the disk is full or the folder cannot be written.
        """
        path = root / self.path
        with atomic_write(path) as beside:
            beside.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n")
        return path


def read(path: Path) -> Result:
    """Return the result in a file.

    Raises:
        MarbleError: the file is no result of this schema.
    """
    try:
        result = Result.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise MarbleError(
            f"{path} is not a result that this version reads ({str(error).splitlines()[0]}): run it again or remove it."
        ) from error
    if result.schema_version != SCHEMA:
        raise MarbleError(f"{path} has schema {result.schema_version}, this version reads {SCHEMA}: run it again or remove it.")
    return result


def read_all(root: Path) -> list[Result]:
    """Return all results below a folder, by path.

    Raises:
        MarbleError: there is no such folder, or one of them cannot be read.
    """
    if not root.is_dir():
        raise MarbleError(
            f"There are no results in {root.absolute()}: run something first, or name their folder with --results."
        )
    return [read(path) for path in sorted(root.glob("*/*/*-????????????.json"))]


def load(root: Path | str = "results") -> pandas.DataFrame:
    """Return all results below a folder as one table: a row for each upstream, task, protocol, layer, seed and metric.

    Raises:
        MarbleError: as `read_all`.
    """
    import pandas

    return pandas.DataFrame([row for result in read_all(Path(root)) for row in _rows(result)])


def _rows(result: Result) -> Iterator[dict[str, object]]:
    for layer in result.layers:
        for run in layer.runs:
            for metric in run.test:
                yield {
                    "upstream": result.upstream["name"],
                    "task": result.task["name"],
                    "protocol": result.protocol["label"],
                    "layer": layer.layer,
                    "layer_name": layer.name,
                    "selected": layer.layer == result.selected.layer,
                    "seed": run.seed,
                    "learning_rate": run.learning_rate,
                    "epoch": run.epoch,
                    "metric": metric,
                    "main": metric == result.task["main_metric"],
                    "validation": run.validation[metric],
                    "test": run.test[metric],
                    "identity": result.identity,
                }


def _slug(name: str) -> str:
    """Return a name as one folder or file name."""
    return "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in name).strip(".") or "-"
