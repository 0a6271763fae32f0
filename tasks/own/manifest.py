"""Manifests: other people's lists of the clips of a task, ``--task gtzan --manifest SOURCE``.

What is asked stays: kind, labels, metrics and window are the task's. Clips, splits and targets are the manifest's, so that the
task is another one: it is called ``gtzan@NAME``, and where its splits have not the official sizes a warning says so.

Sources
    FILE: one of the three JSONL files ``NAME.train.jsonl``, ``NAME.val.jsonl`` and ``NAME.test.jsonl`` of MARBLE v2, or a JSONL
    file with a ``split`` in each line.
    FOLDER: what holds the three, itself or in folders of its own; of several NAMEs that of the task in MARBLE v2 is taken, so
    that the folder ``data`` of MARBLE v2 serves all its tasks. A folder without such files is a Hugging Face dataset: one that
    ``save_to_disk`` wrote, or any that ``datasets.load_dataset`` reads (Parquet, JSON, CSV, a folder of audio).
    hf:NAME or hf:NAME@REVISION: the folder of a dataset on the Hugging Face hub, downloaded or from the hub's cache.
Fields
    Audio is the first of ``audio_path``, ``audio``, ``path`` and ``file``; the target the first of ``label``, ``labels`` and
    ``target``, or the only class label of a dataset. ``ori_uid`` or ``group`` names the track that a clip belongs to. A tag may
    carry its category (``genre---rock``). Other fields are passed over.
Audio
    A path is looked for below the manifest's folder, the one above it, the current folder and the data root, first as it is,
    then without its first folder, its first two …: ``data/GTZAN/genres/…`` is found however much of it is kept. Where one file
    is found, all are expected. Bytes within a dataset are written once to ``$MARBLE_HOME/audio``, named after their sha256,
    and decoded like any file.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marble.errors import MarbleError
from marble.files import atomic_write, home, user_path
from marble.kinds import KINDS, Target
from marble.task import SPLITS, Clip, Task
from marble.tasks.splits import ALIASES

if TYPE_CHECKING:
    from datasets import Dataset

_AUDIO, _TARGET, _TRACK = ("audio_path", "audio", "path", "file"), ("label", "labels", "target"), ("ori_uid", "group")
# The names of MARBLE v2, github.com/a43992899/MARBLE at 938c03a, configs/probe.MuQ.*.yaml.
_MARBLE_V2 = {
    "gtzan": "GTZANGenre", "giantsteps-key": "GS", "emomusic": "EMO", "mtt": "MTT", "mtg-top50": "MTGTop50",
    "mtg-genre": "MTGGenre", "mtg-instrument": "MTGInstrument", "mtg-mood": "MTGMood",
}  # fmt: skip


def with_manifest(task: Task, source: str, *, offline: bool = False) -> Task:
    """Return the same task on the clips of a manifest.

    Args:
        task: any.
        source: FILE, FOLDER or hf:NAME.
        offline: take a dataset of the hub from the hub's cache alone.

    Raises:
        MarbleError: there is no manifest, or more than one could be meant; reading it names what is wrong by file and line.
    """
    path = user_path(source.removeprefix("hf:"))
    name = path.absolute().name.partition("@")[0]
    if source.startswith("hf:") and not path.exists():
        path = _from_hub(source.removeprefix("hf:"), offline)
    files = _files(task, path)
    if files:
        file, split = next(iter(files.items()))
        path, name = file.parent, (file.stem.rpartition(".")[0] or file.absolute().parent.name) if split else file.stem

    def clips(root: Path) -> list[Clip]:
        """Return the clips of the manifest, their files looked for beside it and below the data root."""
        found = _lines(task, files) if files else _rows(task, path, name)
        return _checked(task, name, _placed(list(found), [path.absolute(), path.absolute().parent, Path.cwd(), root]))

    return replace(task, name=f"{task.name}@{name}", clips=clips, source=source, split_sizes=None)


def _from_hub(name: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision or None, local_files_only=offline)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MarbleError(
            f"hf:{name} is no folder here and cannot be had from the Hugging Face hub ({reason}): check the name, or fetch it "
            "where there is a network and give --manifest its folder."
        ) from error
    return Path(folder)


def _files(task: Task, path: Path) -> Mapping[Path, str]:
    """Return the files of a manifest and the split of each ("" where its lines tell); none where the path is a dataset."""
    if not path.exists():
        raise MarbleError(f"There is no manifest {path.absolute()}: give --manifest a JSONL file, a folder or hf:NAME.")
    folder = path if path.is_dir() else path.parent
    groups: dict[Path, dict[Path, str]] = {}
    for file in sorted([*folder.glob("*.jsonl"), *folder.glob("*/*.jsonl")]):
        name, _, split = file.stem.rpartition(".")
        if split.lower() in ALIASES:
            groups.setdefault(file.with_name(name or file.parent.name), {})[file] = ALIASES[split.lower()]
    found = list(groups.values())
    if path.is_file():
        found = [files for files in found if path in files]
        if not found:
            return {path: ""}
    elif len(found) > 1:
        found = [files for group, files in groups.items() if group.name == _MARBLE_V2.get(task.name)]
        if len(found) != 1:
            raise MarbleError(
                f"{path.absolute()} holds manifests called {', '.join(sorted(group.name for group in groups))}, "
                f"none or several of them for {task.name}: give --manifest one of their files."
            )
    files = {file: split for wanted in SPLITS for file, split in (found or [{}])[0].items() if split == wanted}
    absent = sorted(set(SPLITS) - set(files.values()))
    if files and absent:
        raise MarbleError(f"{next(iter(files))} has no manifest of {' and '.join(absent)} beside it: all three are needed.")
    return files


def _lines(task: Task, files: Mapping[Path, str]) -> Iterator[Clip]:
    for file, split in files.items():
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise MarbleError(f"The manifest {file} cannot be read: {error}.") from error
        for number, line in enumerate(lines, start=1):
            where = f"{file} line {number}"
            try:
                values = dict(json.loads(line).items()) if line.strip() else None
            except (ValueError, AttributeError) as error:
                raise MarbleError(f"{where} is not a JSON object ({error}): write one clip with its fields there.") from error
            if values is not None:
                yield _clip(task, where, split, values)


def _rows(task: Task, path: Path, name: str) -> Iterator[Clip]:
    for part, dataset in _datasets(path).items():
        for number, values in enumerate(_undecoded(dataset), start=1):
            yield _clip(task, f"{name} {part} row {number}", part, values)


def _datasets(path: Path) -> dict[str, Dataset]:
    """Return the parts of a Hugging Face dataset in a folder."""
    from datasets import Dataset, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        found = load_from_disk(str(path)) if saved else load_dataset(str(path), cache_dir=str(home() / "datasets"))
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        root: BaseException = error
        while root.__cause__:
            root = root.__cause__
        reason = (str(root).strip() or type(root).__name__).splitlines()[0]
        raise MarbleError(
            f"{path.absolute()} holds neither the JSONL manifests of three splits nor a dataset that can be loaded ({reason})."
        ) from error
    return {"train": found} if isinstance(found, Dataset) else {str(part): dataset for part, dataset in found.items()}


def _undecoded(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset, audio as it was stored and class labels by name."""
    from datasets import Audio, ClassLabel

    names: dict[str, list[str]] = {}
    for column, feature in dataset.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, Audio):
            dataset = dataset.cast_column(column, Audio(decode=False))
        elif isinstance(inner, ClassLabel):
            names[column] = inner.names
    only = next(iter(names)) if len(names) == 1 else None
    for values in dataset:
        for column, classes in names.items():
            numbers = values[column] if isinstance(values[column], list) else [values[column]]
            values[column] = [classes[number] if number in range(len(classes)) else number for number in numbers]
        yield {_TARGET[0]: values[only], **values} if only else values


def _checked(task: Task, name: str, clips: list[Clip]) -> list[Clip]:
    """Return the clips, with a warning where their splits have not the official sizes."""
    sizes = Counter({clip.track: clip.split for clip in clips}.values())
    if task.split_sizes and sizes != task.split_sizes:
        here, official = (" / ".join(str(held[split]) for split in SPLITS) for held in (sizes, task.split_sizes))
        warnings.warn(
            f"{name} has {here} tracks in train / valid / test, the official split of {task.name} has {official}: "
            "its numbers are not those of the official split",
            stacklevel=2,
        )
    return clips


def _clip(task: Task, where: str, part: str, values: dict[str, Any]) -> Clip:
    """Return the clip of a line or row: its audio where that tells, or in the file that its bytes were written to."""
    split, audio, track = values.get("split") or part, _first(values, _AUDIO), _first(values, _TRACK)
    if str(split).lower() not in ALIASES:
        raise MarbleError(f"{where} is of no known split ('{split}'): write train, validation or test in a field 'split'.")
    content = audio.get("bytes") if isinstance(audio, dict) else None
    told = audio.get("path") if isinstance(audio, dict) else audio
    if not content and not (told and isinstance(told, str)):
        raise MarbleError(f"{where} names no audio: give it a path in one of the fields {', '.join(_AUDIO)}.")
    name, path = (where, _stored(content)) if content else (told, Path(told))
    target = _target(task, where, _first(values, _TARGET))
    return Clip(name, path, ALIASES[str(split).lower()], target, group=None if track is None else str(track))


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _stored(content: bytes) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    file = home() / "audio" / digest[:2] / digest
    if not file.exists():
        with atomic_write(file) as beside:
            beside.write_bytes(content)
    return file.absolute()


def _placed(clips: list[Clip], bases: list[Path]) -> list[Clip]:
    """Return the clips with the places of their files, as far as 64 of them tell."""
    some = [clip.path.parts for clip in clips[:: max(1, len(clips) // 64)]]
    for left_out in range(max(map(len, some), default=0)):
        for parts in some:
            for base in bases:
                if base.joinpath(*parts[left_out:]).is_file():
                    return [replace(clip, path=base.joinpath(*clip.path.parts[left_out:])) for clip in clips]
    if clips:
        raise MarbleError(
            f"The audio of the manifest is not there, '{clips[0].path}' for one: put it below {bases[0]}, or name the folder "
            "that it lies in with --data-root."
        )
    return clips


def _target(task: Task, where: str, value: object) -> Target:
    kind = KINDS[task.kind]
    target = kind.parse(value if isinstance(value, list) else [value], task.labels)
    if target is None:
        raise MarbleError(
            f"{where} has the target {value!r} where {task.name} needs {kind.needs}: marble info task {task.name} lists them."
        )
    return target
