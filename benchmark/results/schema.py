"""A result: the scores of one upstream on one task under one protocol, as one self-contained JSON document.

Conventions
-----------
- ``results/<upstream>/<task>/<protocol>-<identity>.json``; the identity is a hash of everything that decides the numbers
  (weights, code versions, audio contents, splits, targets, protocol, layers, seeds). The answers to every validation and
  test track lie beside it in a Parquet file of the same name: layer, seed, split, track, audio, target, prediction, logits.
  ``audio`` is the file URI of the track's first clip, with ``#t=start,stop`` in seconds (W3C Media Fragments) where that is a
  part of the file; older files lack it. Of a task of frames these are the answers of the selected layer, without ``audio``:
  target and prediction are intervals (start, stop, label), and statistics and the probability of each frame stand in the place
  of logits.
- Every layer and seed stands with its chosen learning rate and epoch and its validation and test metrics; every layer with
  mean and standard deviation (n - 1) over seeds and, on test, the 95 % interval over tracks (`marble.probe.scoring.intervals`).
- ``selected`` is the single layer with the best mean main metric on *validation*; its test score is read, never chosen. The
  weighted sum is selected only where it was probed alone.
- A metric that does not exist is null.
- ``doubts`` holds the cautions: reasons to trust the selected score less, in plain sentences (`marble.jobs.cautions` has the
  rules). The part of a sentence before its first colon is its short form.
- ``seal`` is the sha256 of the document's canonical JSON without the seal; ``predictions_sha256``, part of that, is the sha256
  of the Parquet file, which is written first. So a damaged document, damaged answers, and a pair that does not belong
  together are all noticed. Documents from before the seal have neither, and are read without this check.
- ``upstream``, ``task``, ``protocol`` and ``provenance`` keep fields that this version does not know, so that a newer
  document is read whole; anywhere else an unknown field is an error.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from marble.errors import MarbleError, reason
from marble.system.files import atomic_write, digest, file_hash

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
WEIGHTED = "weighted"  # the layer of the learned sum of all
Scores = dict[str, float | None]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")


class LayerWidth(_Record):
    """Name and width of one hidden state."""

    name: str
    width: int


class UpstreamRecord(_Record):
    """The upstream: the fields of `marble.upstream.UpstreamInfo` and the hash of its weights."""

    name: str
    version: int
    sample_rate: int
    frame_rate: float
    layers: list[LayerWidth]
    parameters: int | None
    licence: str
    training_data: str
    trained_on: list[str] = []
    paper: str
    source: str
    max_seconds: float | None = None
    trained_seconds: float | None = None
    min_seconds: float = 0.0
    precisions: list[str] = []
    weights_sha256: str


class FrameRecord(_Record):
    """The frames of a task: rate in Hz, centre of the first in seconds, scored frames of each split, columns of statistics."""

    rate: float
    first: float
    scored: dict[str, int]
    statistics: dict[str, tuple[int, int]]


class TaskRecord(_Record):
    """The task, as far as its clips were used.

    Attributes:
        metrics: the direction of each metric, by name; the main one is among them.
        tracks: how many were used of each split.
        limit: at most this many tracks of each split, where that left any out.
        data_sha256: the first 12 digits of the hash of all clips with their audio, splits and targets.
        audio_from: the collections of music that the audio comes from.
        labels_without_roc_auc: of a multilabel task, how many have no positive or no negative test track.
        source: where the data is from; two data sets of one name differ in it.
        notes: what a user should know of how the data was read, and reasons to trust the scores less.
        frames: of a task of frames, its grid and how many frames of each split are scored.
    """

    name: str
    version: int
    kind: str
    labels: list[str]
    main_metric: str
    metrics: dict[str, Literal["higher is better", "lower is better"]]
    tracks: dict[str, int]
    limit: int | None = None
    data_sha256: str | None = Field(default=None, validation_alias=AliasChoices("data_sha256", "data"))
    synthetic: bool
    audio_from: list[str] = []
    licence: str
    citation: str
    labels_without_roc_auc: int | None = None
    source: str | None = None
    notes: list[str] = []
    frames: FrameRecord | None = None


class ProtocolRecord(_Record):
    """The protocol as it was used: resolved windows in seconds, and the label that stands beside numbers."""

    name: str
    windows: dict[str, Any]
    probe: dict[str, Any]
    changes: dict[str, Any] = {}
    label: str
    precision: str | None = None


class Provenance(_Record):
    """Versions of libraries, commit of marble, the machine, the cache space of the features, and the date in UTC."""

    versions: dict[str, str]
    commit: str | None
    platform: str
    device: str
    threads: int
    instruction_set: str | None = None
    space: dict[str, Any] = {}
    date: str


class GridPoint(_Part):
    """A learning rate with the settings of its point of the grid; its best epoch, and the validation metric there.

    A task of frames is validated by the share of its frames that is right (`marble.probe.frames.bank`), whatever its metrics.
    """

    learning_rate: float
    epoch: int
    validation: float | None
    settings: dict[str, Any] = {}


class Run(_Part):
    """One seed of one layer at the learning rate, settings and epoch that validation chose; all in `grid`.

    Answers that nothing was trained for have neither rate nor epoch, and an empty grid. `decoders` holds the constants of
    decoders of frames that validation chose, by decoder.
    """

    seed: int
    learning_rate: float | None = None
    epoch: int | None = None
    validation: Scores
    test: Scores
    settings: dict[str, Any] = {}
    decoders: dict[str, float] = {}
    grid: list[GridPoint] = []


class Summary(_Part):
    """Mean and standard deviation over seeds, and of a test score the 95 % interval over tracks.

    The interval contains the mean. It covers the draw of the test tracks, not the seed, nor the choice of rate and layer.
    """

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
    """The layer that validation chose, and its scores.

    Attributes:
        ci95_of_choice: by metric, the 95 % interval of its test score over a choice of the layer that is repeated on resampled
            validation tracks, and over test tracks; beside that of `test`, which takes the layer as chosen.
    """

    layer: int | str
    name: str
    rule: str = "best mean main metric on validation"
    validation: dict[str, Summary]
    test: dict[str, Summary]
    ci95_of_choice: dict[str, tuple[float | None, float | None]] = {}


class BadClip(_Part):
    """A clip that was left out, and why."""

    id: str
    path: str
    split: str
    reason: str


class NearPair(_Part):
    """A validation or test track, its split, and the train track that it is near to."""

    track: str
    split: str
    near: str


class NearDuplicates(_Part):
    """The audit of near-duplicates across splits; `marble.probe.near` gives the method.

    Attributes:
        layer: whose features were compared.
        valid, test: share of the tracks of the split that are near a train track; by chance it is 0.001.
        train_tracks: how many were compared with; fewer than there are only in very large tasks.
        pairs: the nearest of all.
    """

    layer: int
    valid: float
    test: float
    train_tracks: int
    pairs: list[NearPair]

    @property
    def caution(self) -> str | None:
        """A sentence where the share of a split is worth a warning: fifty times what chance gives."""
        if max(self.valid, self.test) < 0.05:
            return None
        pairs = ", ".join(f"{pair.track} and {pair.near}" for pair in self.pairs[:3])
        return (
            f"{self.test:.0%} of the test tracks and {self.valid:.0%} of the validation tracks are near-duplicates of a train "
            f"track ({pairs}): their scores tell what was remembered; keep what belongs together in one split with --group."
        )


class Cost(_Part):
    """The cost of this run: times in seconds, audio in hours, memory (on a CPU of the whole process) and cache in bytes."""

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
    upstream: UpstreamRecord
    task: TaskRecord
    protocol: ProtocolRecord
    layers: list[LayerResult]
    selected: Selected
    bad_clips: list[BadClip]
    near_duplicates: NearDuplicates | None = None
    doubts: list[str] = []
    provenance: Provenance
    cost: Cost
    predictions_sha256: str | None = None
    seal: str | None = None

    @property
    def path(self) -> Path:
        """The path of the result below the folder of all results."""
        return folder_of(self.upstream.name, self.task.name) / f"{file_name(self.protocol.name)}-{self.identity[:12]}.json"

    @property
    def short_cautions(self) -> list[str]:
        """The short form of each caution."""
        return [caution.partition(":")[0] for caution in self.doubts]

    def higher_is_better(self, metric: str | None = None) -> bool:
        """Return the direction of a metric, by default of the main one.

        Raises:
            MarbleError: the task is not scored by this metric.
        """
        metric = metric or self.task.main_metric
        if metric not in self.task.metrics:
            raise MarbleError(f"{self.task.name} is not scored by '{metric}': its metrics are {', '.join(self.task.metrics)}.")
        return self.task.metrics[metric] == "higher is better"

    def better(self, a: float | None, b: float | None, metric: str | None = None) -> bool:
        """Return whether the value `a` of a metric, by default the main one, is better than `b`; None is worse than any value.

        Raises:
            MarbleError: the task is not scored by this metric.
        """
        higher = self.higher_is_better(metric)
        if a is None or b is None:
            return a is not None and b is None
        return a > b if higher else a < b

    def relative_scores(self) -> list[float]:
        """Return for each layer where its mean test score of the main metric stands between the worst (0) and the best (1).

        A layer without a score is NaN; where no layer is better than another, all are 0.5.
        """
        sign = 1 if self.higher_is_better() else -1
        means = [layer.test[self.task.main_metric].mean for layer in self.layers]
        scores = [math.nan if mean is None else sign * mean for mean in means]
        known = [score for score in scores if not math.isnan(score)]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        return [(score - low) / (high - low) for score in scores] if high > low else [0.5] * len(scores)

    def predictions(
        self, root: Path | str = "results", *, layer: int | str | None = None, split: str | None = None
    ) -> pandas.DataFrame:
        """Return the answers to every validation and test track, a row for each layer, seed, split and track.

        Args:
            root: the folder of all results.
            layer, split: those of one layer, of "valid" or of "test" alone.

        Raises:
            MarbleError: the Parquet file is missing, damaged, or of another run.
        """
        import pandas

        file = (Path(root) / self.path).with_suffix(".parquet")
        self.check_predictions(file)
        with file.open("rb") as content:  # for pyarrow, paths are UTF-8
            wanted = {"layer": None if layer is None else str(layer), "split": split}
            return pandas.read_parquet(content, filters=[(key, "==", value) for key, value in wanted.items() if value] or None)

    def check_predictions(self, file: Path) -> None:
        """Check that a Parquet file holds the answers of this result; before the seal, that it has a footer.

        Raises:
            MarbleError: it is missing, damaged, or of another run.
        """
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_metadata

        try:
            if self.predictions_sha256 is None:
                with file.open("rb") as content:
                    read_metadata(content)
            elif file_hash(file) != self.predictions_sha256:
                raise MarbleError(f"{file} is damaged or of another run: the same marble run command writes it again.")
        except (OSError, ArrowInvalid) as error:
            why = reason(error) if isinstance(error, OSError) else "not a Parquet file"
            raise MarbleError(f"{file} cannot be read ({why}): the same marble run command writes it again.") from error

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return self.model_dump(mode="json", by_alias=True)

    def save(self, root: Path) -> Path:
        """Seal the result, write it below the folder of all results and return its path.

        Raises:
            MarbleError: the disk is full or the folder cannot be written.
        """
        sealed = self.model_copy(update={"seal": seal_of(json.loads(self.model_dump_json(by_alias=True)))})
        path = root / self.path
        with atomic_write(path) as beside:
            beside.write_text(sealed.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        return path


def seal_of(document: dict[str, Any]) -> str:
    """Return the sha256 of a result document's canonical JSON without its seal, as 64 hex digits."""
    return digest({key: value for key, value in document.items() if key != "seal"})


def folder_of(upstream: str, task: str) -> Path:
    """Return the folder of the results of an upstream on a task, below the folder of all results."""
    return Path(file_name(upstream)) / file_name(task)


def depth_of(layer: int | str, last: int) -> float | None:
    """Return the relative depth of a layer: 0 for layer 0, 1 for the last one; None for the weighted sum."""
    return None if layer == WEIGHTED else int(layer) / max(last, 1)


def file_name(name: str) -> str:
    """Return a name as one folder or file name, in UTF-8 whatever the locale."""
    slug = "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in name).strip(".") or "-"
    return os.fsdecode(slug.encode())
