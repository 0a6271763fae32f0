"""The rows of a manifest: from JSONL files, a folder, or the Hugging Face hub.

FILE
    One of the files ``NAME.train.jsonl``, ``NAME.val.jsonl`` and ``NAME.test.jsonl`` of MARBLE v2, which stands for all three;
    or a JSONL file with a ``split`` in each line.
FOLDER
    Holds the three files, itself or in folders of its own. Of several NAMEs that of the task in MARBLE v2 is taken, so the
    folder ``data`` of MARBLE v2 serves all its tasks. A folder without such files is a Hugging Face dataset: one that
    ``save_to_disk`` wrote, or one that ``datasets.load_dataset`` reads (Parquet, JSON, CSV, a folder of audio). If such a
    dataset has one column of class labels, that is the label.
hf:NAME or hf:NAME@REVISION
    The folder of a dataset on the Hugging Face hub, downloaded or from the hub's cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from marble.errors import MarbleError
from marble.system.files import home, user_path
from marble.system.hub import hub_answers
from marble.task import SPLITS
from marble.tasks.splits import ALIASES

if TYPE_CHECKING:
    from datasets import Dataset

# The names of MARBLE v2, github.com/a43992899/MARBLE at 938c03a, configs/probe.MuQ.*.yaml.
_MARBLE_V2 = {
    "gtzan": "GTZANGenre", "giantsteps-key": "GS", "emomusic": "EMO", "mtt": "MTT", "mtg-top50": "MTGTop50",
    "mtg-genre": "MTGGenre", "mtg-instrument": "MTGInstrument", "mtg-mood": "MTGMood",
}  # fmt: skip


class Row(NamedTuple):
    """A line or row: its name in errors, the split of its file ("" if the row states it), its fields."""

    name: str
    split: str
    fields: dict[str, Any]


class Rows(NamedTuple):
    """The rows of a manifest, its name and its folder."""

    name: str
    folder: Path
    read: Callable[[], Iterator[Row]]


def open_rows(task: str, source: str, *, offline: bool) -> Rows:
    """Find a manifest.

    Args:
        task: name of its task.
        source: FILE, FOLDER or hf:NAME.
        offline: take a dataset of the hub from the hub's cache alone.

    Raises:
        MarbleError: there is no manifest, or several fit; when rows are read: a file or line cannot be read.
    """
    path = user_path(source.removeprefix("hf:"))
    name = path.absolute().name.partition("@")[0]
    if source.startswith("hf:") and not path.exists():
        path = _from_hub(source.removeprefix("hf:"), offline)
    files = _files(task, path)
    if not files:
        return Rows(name, path, lambda: _dataset_rows(path, name))
    file, split = next(iter(files.items()))
    name = (file.stem.rpartition(".")[0] or file.absolute().parent.name) if split else file.stem
    return Rows(name, file.parent, lambda: _json_rows(files))


def _from_hub(name: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    cached = not hub_answers(offline=offline)
    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision or None, local_files_only=cached)
    except (OSError, ValueError) as error:
        reason = "it cannot be reached" if cached and not offline else str(error).strip().splitlines()[0]
        raise MarbleError(
            f"hf:{name} is no folder here and cannot be had from the Hugging Face hub ({reason}): check the name, or fetch it "
            "where there is a network and give --manifest its folder."
        ) from error
    return Path(folder)


def _files(task: str, path: Path) -> Mapping[Path, str]:
    """Return the JSONL files of a manifest, each with its split ("" if its lines state it); none where it is a dataset."""
    if not path.exists():
        raise MarbleError(f"There is no manifest {path.absolute()}: give --manifest a JSONL file, a folder or hf:NAME.")
    folder = path if path.is_dir() else path.parent
    groups: dict[Path, dict[Path, str]] = {}
    for file in sorted([*folder.glob("*.jsonl"), *folder.glob("*/*.jsonl")]):
        name, _, split = file.stem.rpartition(".")
        if split.lower() in ALIASES:
            groups.setdefault(file.with_name(name or file.parent.name), {})[file] = ALIASES[split.lower()]
    fitting = list(groups.values())
    if path.is_file():
        fitting = [files for files in fitting if path in files]
        if not fitting:
            return {path: ""}
    elif len(fitting) > 1:
        fitting = [files for group, files in groups.items() if group.name == _MARBLE_V2.get(task)]
        if len(fitting) != 1:
            raise MarbleError(
                f"{path.absolute()} holds manifests called {', '.join(sorted(group.name for group in groups))}, "
                f"none or several of them for {task}: give --manifest one of their files."
            )
    files = {file: split for wanted in SPLITS for file, split in (fitting or [{}])[0].items() if split == wanted}
    absent = sorted(set(SPLITS) - set(files.values()))
    if files and absent:
        raise MarbleError(f"{next(iter(files))} has no manifest of {' and '.join(absent)} beside it: all three are needed.")
    return files


def _json_rows(files: Mapping[Path, str]) -> Iterator[Row]:
    for file, split in files.items():
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise MarbleError(f"The manifest {file} cannot be read: {error}.") from error
        for number, line in enumerate(lines, start=1):
            name = f"{file} line {number}"
            try:
                fields = dict(json.loads(line).items()) if line.strip() else None
            except (ValueError, AttributeError, RecursionError) as error:
                raise MarbleError(f"{name} is not a JSON object ({error}): write one clip with its fields there.") from error
            if fields is not None:
                yield Row(name, split, fields)


def _dataset_rows(path: Path, name: str) -> Iterator[Row]:
    for split, dataset in _datasets(path).items():
        for number, fields in enumerate(_undecoded(dataset), start=1):
            yield Row(f"{name} {split} row {number}", split, fields)


def _datasets(path: Path) -> dict[str, Dataset]:
    """Return the splits of a Hugging Face dataset in a folder."""
    from datasets import Dataset, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        loaded = load_from_disk(str(path)) if saved else load_dataset(str(path), cache_dir=str(home() / "datasets"))
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        root: BaseException = error
        while root.__cause__:
            root = root.__cause__
        reason = (str(root).strip() or type(root).__name__).splitlines()[0]
        raise MarbleError(
            f"{path.absolute()} holds neither the JSONL manifests of three splits nor a dataset that can be loaded ({reason})."
        ) from error
    return {"train": loaded} if isinstance(loaded, Dataset) else {str(split): dataset for split, dataset in loaded.items()}


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
        yield {"label": values[only], **values} if only else values
