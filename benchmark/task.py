"""The contract of a task: its clips, their targets, and the metrics that score the answers.

Conventions
-----------
- A task is data: frozen metadata and one function from a data root to clips. It knows no upstream and trains nothing.
- Times are in seconds from the start of the file. ``stop=None`` is the end of the file.
- A clip belongs to one split: ``train`` (fit), ``valid`` (choose) or ``test`` (report once).
- Clips of one ``group`` (excerpts of one track) are scored together: the mean of their logits is the track's answer.
- Targets are written as people read them, see `marble.kinds`; `Task.encode` turns them into an array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field

from marble.errors import MarbleError
from marble.frames import Grid, Spans
from marble.kinds import Target, kind_of
from marble.settings import STRICT

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class SplitRule(BaseModel):
    """The rule by which a task over the user's own data is split.

    Attributes:
        group: what is kept in one split: ``parent``, the name of a file's folder; ``regex:PATTERN``, what it finds in a path
            (its first group, if it has one); or the name of a column. None leaves it to the task.
        valid: the share of the training tracks that becomes the validation split, where the data has none.
        near: ``group`` keeps near-duplicates in one split, as `marble.probe.near` finds them in the features of a run.
    """

    model_config = STRICT
    group: str | None = None
    valid: Annotated[float, Field(gt=0, lt=1)] | None = None
    near: Literal["group"] | None = None

    @property
    def column(self) -> str | None:
        """The column that `group` names; None where it is a rule on paths."""
        of_paths = self.group == "parent" or (self.group or "").startswith("regex:")
        return None if of_paths else self.group

    @property
    def suffix(self) -> str:
        """The end of the name of a task that is split so; empty for the task's own way."""
        parts = [self.group or "", f"valid={self.valid:g}" if self.valid else "", "near" * bool(self.near)]
        return f"@{','.join(filter(None, parts))}" if any(parts) else ""


@dataclass(frozen=True)
class Clip:
    """One annotated excerpt of audio; `id` is unique in its task, `group` defaults to the id.

    `artist` names what a split keeps together (an artist, a singer, an instrument, a drum kit), so that what was trained on is
    not tested; no number depends on it, ``marble data verify`` checks it. `seconds` is the length that the tables of a data set
    state for a clip without `stop`.
    """

    id: str
    path: Path
    split: Split
    target: Target
    start: float = 0.0
    stop: float | None = None
    group: str | None = None
    artist: str | None = None
    seconds: float | None = None

    @property
    def track(self) -> str:
        """The unit of scoring: the group if there is one, else the clip itself."""
        return self.group or self.id


@dataclass(frozen=True)
class Resource:
    """A file or folder that a task reads, and how to get it; see `marble.data.prepare`.

    Attributes:
        path: below the data root, with "/"; a folder where `holds` or `files` is given, else a file.
        licence: of its content.
        urls: of the file, or of the archive of the folder (its parts, if several); none if it must be fetched by hand.
        checksum: of the content of the only url, sha256 or md5 by its length; None where none is published.
        size: of the content of all urls, in bytes; None if unknown.
        holds: pattern of a name in the folder, such as "*.mp3", by which the folder is known.
        also: other places, below the data root, where the task finds the folder.
        by_hand: instruction where there is no url.
        files: function from the data root to the files of the folder, where each has a url of its own.
        convert: repairs the folder after unpacking, before it is put in place; a second call changes nothing.
    """

    path: str
    licence: str
    urls: tuple[str, ...] = ()
    checksum: str | None = None
    size: int | None = None
    holds: str | None = None
    also: tuple[str, ...] = ()
    by_hand: str = ""
    files: Callable[[Path], Sequence[Resource]] | None = None
    convert: Callable[[Path], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames of a frame task: their grid, and what each of them is to learn.

    Attributes:
        rate: of the labels, in Hz; None is the upstream's own rate.
        first: centre of the first frame in seconds, where `rate` or `most` decides the rate.
        most: the highest rate for None, in Hz: the frames of a faster upstream are reduced to it.
        encode: function from a target, the labels of the task, a grid and a number of frames to their targets: ``int64[T]``,
            -1 where nothing is scored, or ``float32[T, C]``, NaN where nothing is scored.
    """

    rate: float | None = None
    first: float = 0.0
    most: float | None = None
    encode: Callable[[Spans, tuple[str, ...], Grid, int], np.ndarray]

    def grid(self, native: Grid) -> Grid:
        """Return the grid of the labels for an upstream with frames on `native`."""
        if self.rate is None and (self.most is None or native.rate <= self.most):
            return native
        return Grid(self.rate or self.most or native.rate, self.first)


@dataclass(frozen=True)
class Task:
    """A declared task.

    Attributes:
        name: how the command line calls it.
        version: raised whenever splits, labels or metrics change.
        description: data, splits, targets and metrics in words; as a rule the module's docstring.
        kind: "multiclass", "multilabel", "regression", "ordinal", "frame_classes" or "frame_tags"; see `marble.kinds`.
        labels: the classes in the order of the logits, or the names of the regressed values.
        metrics: names from `marble.probe.scoring.metrics`, the main one first: it chooses epoch, learning rate and layer.
        clips: function from the data root to all clips.
        citation: the paper or page to cite.
        licence: of the audio and of the annotations.
        source: where the data comes from.
        window: length in seconds that clips are cut into before encoding; None leaves it to the upstream.
        most_windows: how many windows represent a longer clip where the protocol states nothing; None is all.
        split_sizes: tracks in each split, asserted when the clips are read; None where the data decides.
        audio_from: the collections of music that the audio comes from, by the names of `marble.data.leakage.COLLECTIONS`; none
            where it was recorded for the data set.
        synthetic: made by marble itself, so that its results never stand in a leaderboard of real data.
        resources: the files that it reads; a list precedes the files that it lists.
        deal: function from the unit of each track to the split of each track, where near-duplicates decide the units.
        frames: of a frame task, whose clips are whole tracks with `Spans` as targets; None for any other.
        notes: what a user should know of how the data is read; results keep it.
    """

    name: str
    version: int
    description: str
    kind: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    clips: Callable[[Path], Sequence[Clip]]
    citation: str
    licence: str
    source: str
    window: float | None = None
    most_windows: int | None = None
    split_sizes: dict[Split, int] | None = None
    audio_from: tuple[str, ...] = ()
    synthetic: bool = False
    resources: tuple[Resource, ...] = ()
    deal: Callable[[Mapping[str, str]], Mapping[str, Split]] | None = None
    frames: Frames | None = None
    notes: tuple[str, ...] = ()

    @property
    def main_metric(self) -> str:
        """The metric that chooses epoch, learning rate and layer."""
        return self.metrics[0]

    def read(self, root: Path) -> list[Clip]:
        """Return the clips under a data root, checked.

        Raises:
            MarbleError: a clip id occurs twice or is the group of another clip, a track is in two splits or has two targets,
                a target is not among the labels, a split is empty, or a split does not have the declared size.
        """
        clips = list(self.clips(root))
        repeated = [name for name, times in Counter(clip.id for clip in clips).items() if times > 1]
        if repeated:
            raise MarbleError(
                f"The task {self.name} has {len(repeated)} clip ids twice, '{repeated[0]}' first: make ids unique."
            )
        borrowed = {clip.group for clip in clips if clip.group} & {clip.id for clip in clips if not clip.group}
        if borrowed:
            raise MarbleError(f"The group '{min(borrowed)}' of {self.name} has the name of a clip outside of it: rename one.")
        split_of: dict[str, Split] = {}
        target_of: dict[str, Target] = {}
        for clip in clips:
            if split_of.setdefault(clip.track, clip.split) != clip.split:
                raise MarbleError(
                    f"The track '{clip.track}' of {self.name} stands in {split_of[clip.track]} and in {clip.split}: "
                    "put all clips of a track into one split."
                )
            if target_of.setdefault(clip.track, clip.target) != clip.target:
                raise MarbleError(
                    f"The track '{clip.track}' of {self.name} has the targets {target_of[clip.track]} and {clip.target}: "
                    "give all its clips one, or leave out the group."
                )
        sizes = {split: sum(own == split for own in split_of.values()) for split in SPLITS}
        below = f" under {root}" if any(clip.path.is_relative_to(root) for clip in clips) or not clips else ""
        for split in SPLITS:
            if not sizes[split]:
                raise MarbleError(f"The task {self.name} has no clip in its {split} split{below}: all three splits are needed.")
            if self.split_sizes and sizes[split] != self.split_sizes[split]:
                raise MarbleError(
                    f"The {split} split of {self.name} has {sizes[split]} tracks where {self.split_sizes[split]} are declared: "
                    f"check the files under {root}."
                )
        self.encode(clips)
        if self.frames or kind_of(self.kind).of_frames:
            self._refuse_excerpts(clips)
        return clips

    def _refuse_excerpts(self, clips: Sequence[Clip]) -> None:
        if not (self.frames and kind_of(self.kind).of_frames):
            raise MarbleError(f"The task {self.name} is {self.kind}: a kind of frames and `frames` go together.")
        for clip in clips:
            if clip.start or clip.stop is not None or clip.group:
                raise MarbleError(f"The clip '{clip.id}' of {self.name} is an excerpt: a task of frames has whole tracks.")

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the targets of some clips, ``int64[N]`` or ``float32[N, C]`` by the task's kind.

        Raises:
            MarbleError: a target is not among the labels, or not of the task's kind.
        """
        kind = kind_of(self.kind)
        try:
            return kind.encode([clip.target for clip in clips], self.labels)
        except ValueError:
            for clip in clips:
                try:
                    kind.encode([clip.target], self.labels)
                except ValueError as error:
                    raise MarbleError(f"The clip '{clip.id}' of {self.name} has {error}.") from error
            raise
