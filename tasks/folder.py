"""``folder:PATH``: any folder of class folders as a classification task.

Data
    Either ``PATH/<class>/**/<audio>``, or the same below ``PATH/train``, ``PATH/valid`` and ``PATH/test`` (also validation,
    val, dev, testing, eval). A file's extension decides whether it is audio; hidden files are passed over.
Split
    The split folders if they are there. Else 3:1:1, stratified by class, by the sha256 of each file's content: copies of one
    recording never stand in two splits, and renaming a file or moving the folder changes nothing.
Metrics
    accuracy (main), balanced accuracy.
"""

from __future__ import annotations

from pathlib import Path

from marble.audio import is_audio_name
from marble.content import file_hashes, readable, user_path
from marble.errors import MarbleError
from marble.task import SPLITS, Clip, Task
from marble.tasks.splits import ALIASES, stratified_splits


def folder_task(argument: str) -> Task:
    """Return the task of a folder.

    Raises:
        MarbleError: the folder does not exist or holds fewer than two class folders with audio.
    """
    root = user_path(argument)
    if not root.is_dir():
        raise MarbleError(f"folder:{argument} cannot be read: there is no folder {root.absolute()}.")
    files = _files(root)
    labels = tuple(sorted({label for label, _, _ in files}))
    if len(labels) < 2:
        raise MarbleError(f"{root.absolute()} holds {len(labels)} class folders with audio files: a task needs at least two.")
    return Task(
        name=f"folder:{root.absolute().name}",
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
    """Return (label, split or "", path) of all audio files, in the order of their paths."""
    tops = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    given = {ALIASES.get(path.name.lower()) for path in tops}
    if set(SPLITS) <= given:
        classes = [
            (path, ALIASES[top.name.lower()]) for top in tops if top.name.lower() in ALIASES for path in sorted(top.iterdir())
        ]
    else:
        classes = [(path, "") for path in tops]
    return [
        (folder.name, split, path)
        for folder, split in classes
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if is_audio_name(path.name) and not path.name.startswith(".")
    ]


def _clips(root: Path, files: list[tuple[str, str, Path]]) -> list[Clip]:
    """Return the clips; files that cannot be read keep a split of their own and are reported when they are decoded."""
    contents = {} if files[0][1] else file_hashes([path for _, _, path in files])
    unit = {path: str(contents.get(path)) for _, _, path in files}
    splits = stratified_splits({unit[path]: label for label, _, path in reversed(files)}, str(root)) if contents else {}
    return [
        Clip(readable(path.relative_to(root)), path, splits.get(unit[path]) or split, label)  # ty: ignore[invalid-argument-type]
        for label, split, path in files
    ]
