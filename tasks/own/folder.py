"""``folder:PATH``: any folder of class folders as a classification task.

Data
    Either ``PATH/<class>/**/<audio>``, or the same below ``PATH/train``, ``PATH/valid`` and ``PATH/test`` (also validation,
    val, dev, testing, eval). Audio is recognised by its extension; hidden files are ignored, a warning counts other files.
    Links are followed.
Split
    The split folders if there are any. Else 3:1:1, stratified by class, by the sha256 of each file's content: copies of one
    recording are always in one split, and renaming a file or moving the folder changes nothing.
Metrics
    accuracy (main), balanced accuracy.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from marble.audio.decode import is_audio_name
from marble.errors import MarbleError, reason
from marble.files import file_hashes, readable, user_path
from marble.task import SPLITS, Clip, Task
from marble.tasks.splits import ALIASES, stratified_splits


def folder_task(argument: str) -> Task:
    """Return the task of a folder.

    Raises:
        MarbleError: the folder does not exist or cannot be read, holds fewer than two class folders with audio, has a class
            folder with other files alone, or has folders of some splits but not of all and of nothing else.
    """
    root = user_path(argument)
    if not root.is_dir():
        raise MarbleError(f"folder:{argument} cannot be read: there is no folder {root.absolute()}.")
    files = _files(root)
    labels = tuple(sorted({label for label, _, _ in files}))
    if len(labels) < 2:
        raise MarbleError(f"{root.absolute()} holds {len(labels)} class folders with audio files: a task needs at least two.")
    return Task(
        name=f"folder:{readable(Path(os.path.normpath(root.absolute())).name)}",
        version=1,
        description=f"Which of {len(labels)} class folders a file lies in.\n\n{__doc__}",
        kind="multiclass",
        labels=labels,
        metrics=("accuracy", "balanced_accuracy"),
        clips=lambda _: _clips(root, files),
        citation="the user's own data",
        licence="the user's own data",
        source=str(root.absolute()),
    )


def _files(root: Path) -> list[tuple[str, str, Path]]:
    """Return (label, split or "", path) of all audio files, class by class in the order of their paths."""
    classes = _classes(root)
    everything = [(readable(folder.name), split, path) for folder, split in classes for path in sorted(_visible(folder, root))]
    files = [entry for entry in everything if is_audio_name(entry[2].name)]
    others = [path for _, _, path in everything if not is_audio_name(path.name)]
    silent = {readable(folder.name) for folder, _ in classes} - {label for label, _, _ in files}
    if silent:
        raise MarbleError(
            f"The class folder '{min(silent)}' of {root.absolute()} holds no audio that marble reads: convert its files to wav "
            "or flac, or move it away."
        )
    parents = {root, *(folder.parent for folder, _ in classes)}
    others += [path for parent in parents for path in parent.iterdir() if path.is_file()]
    kinds = Counter(path.suffix.lower() or path.name for path in others if not path.name.startswith("."))
    if kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        warnings.warn(
            f"{root.absolute()}: files that are no audio, or in no class folder, are passed over ({counts})", stacklevel=2
        )
    return files


def _classes(root: Path) -> list[tuple[Path, str]]:
    """Return the class folders, each with its split where the folders of the root are splits."""
    tops = _folders(root)
    splits = {top: ALIASES[top.name.lower()] for top in tops if top.name.lower() in ALIASES}
    present = set(splits.values())
    if len(present) < 2:
        return [(top, "") for top in tops]
    rest = [top.name for top in tops if top not in splits]
    if rest or present != set(SPLITS):
        fault = f"also '{rest[0]}', which is none" if rest else f"no {min(set(SPLITS) - present)}"
        raise MarbleError(
            f"{root.absolute()} has folders of splits ({', '.join(sorted(top.name for top in splits))}), but {fault}: "
            "give it train, valid and test and nothing else, or class folders alone."
        )
    return [(folder, split) for top, split in splits.items() for folder in _folders(top)]


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        _refuse(error)


def _visible(folder: Path, root: Path) -> Iterator[Path]:
    """Yield all files below a class folder but hidden ones; links to folders are followed, each once, and none upwards."""
    seen = {os.path.realpath(root), os.path.realpath(folder.parent)}
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        names = [] if real in seen else names
        seen.add(real)
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    raise MarbleError(f"{error.filename} cannot be read ({reason(error)}): make it readable.")


def _clips(root: Path, files: list[tuple[str, str, Path]]) -> list[Clip]:
    """Return the clips; an unreadable file counts as a recording of its own and is reported when it is decoded."""
    contents = {} if files[0][1] else file_hashes([path for _, _, path in files])
    unit = {path: str(contents.get(path)) for _, _, path in files}
    splits = stratified_splits({unit[path]: label for label, _, path in reversed(files)}, str(root)) if contents else {}
    return [
        Clip(readable(path.relative_to(root)), path, splits.get(unit[path]) or split, label)  # ty: ignore[invalid-argument-type]
        for label, split, path in files
    ]
