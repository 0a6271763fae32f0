"""``folder:PATH``: any folder of class folders as a classification task.

Data
    Either ``PATH/<class>/**/<audio>``, or the same below ``PATH/train``, ``PATH/valid`` and ``PATH/test`` (also validation,
    val, dev, testing, eval; and ``train_set`` where all folders are called so). Audio is recognised by its extension; hidden
    files are ignored, a warning counts other files. Folders of systems (``__MACOSX``, ``@eaDir``) and folders that hold other
    files than audio alone are passed over and counted, too; a class folder without any file, or with audio that marble does
    not read, is an error. Links are followed.
Split
    The split folders if there are any. Else 3:1:1, stratified by class, by the sha256 of each file's content: copies of one
    recording are always in one split, and renaming a file or moving the folder changes nothing. ``--group parent`` keeps the
    files of the folders inside the class folders together, over all classes; see `marble.tasks.own.splitting`.
Metrics
    accuracy (main), balanced accuracy.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from marble.audio.decode import is_audio_name
from marble.errors import MarbleError, reason
from marble.system.files import file_hashes, readable, user_path
from marble.task import SPLITS, Clip, Split, SplitRule, Task
from marble.tasks.own.labels import near_labels
from marble.tasks.own.splitting import Row, deal_again, groups_of_paths, split_rows
from marble.tasks.own.table_file import READERS
from marble.tasks.splits import ALIASES, split_in

# What systems leave beside the user's files: macOS's archives, Synology, QNAP, Windows, Linux.
_OF_SYSTEMS = {
    "__macosx", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip
# Audio, or video with audio, that marble does not read: a folder of it is a class that would be lost.
_OTHER_AUDIO = {
    ".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".caf", ".dff", ".dsf", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4",
    ".mpc", ".tta", ".webm", ".wma", ".wv",
}  # fmt: skip
_LIKE_FOLDS = re.compile(r"(batch|cd|cv|disc|disk|fold|part|partition|set|split|subset)[ _-]?\d+", re.IGNORECASE)


class _File(NamedTuple):
    """An audio file: its class, the split of its split folder, its path, and its class folder."""

    label: str
    split: Split | None
    path: Path
    folder: Path


def folder_task(argument: str, rule: SplitRule | None = None) -> Task:
    """Return the task of a folder.

    Args:
        argument: path of the folder.
        rule: how it is split.

    Raises:
        MarbleError: the folder does not exist or cannot be read, holds fewer than two class folders with audio, has a class
            folder whose audio marble does not read, or has folders of some splits but not of all and of nothing else.
    """
    root, rule = user_path(argument), rule or SplitRule()
    if not root.is_dir():
        raise MarbleError(f"folder:{argument} cannot be read: there is no folder {root.absolute()}.")
    if rule.column:
        raise MarbleError(f"A folder has no column '{rule.column}' for --group: write parent or regex:PATTERN.")
    files = _files(root, rule)
    labels = tuple(sorted({file.label for file in files}))
    if len(labels) < 2:
        raise MarbleError(
            f"{root.absolute()} holds {len(labels)} class folders with audio files: a task needs at least two"
            f"{_hint(root, files)}."
        )
    notes = (*near_labels(labels), *_notes(labels, files, rule))
    for note in notes:
        warnings.warn(f"{root.absolute()}: {note}", stacklevel=2)
    return Task(
        name=f"folder:{readable(Path(os.path.normpath(root.absolute())).name)}{rule.suffix}",
        version=1,
        description=f"Which of {len(labels)} class folders a file lies in.\n\n{__doc__}",
        kind="multiclass",
        labels=labels,
        metrics=("accuracy", "balanced_accuracy"),
        clips=lambda _: _clips(root, files, rule),
        citation="the user's own data",
        licence="the user's own data",
        source=readable(os.path.normpath(root.absolute())),
        deal=(lambda units: deal_again(str(root), _clips(root, files, rule), units)) if rule.near else None,
        notes=notes,
    )


def _files(root: Path, rule: SplitRule) -> list[_File]:
    """Return all audio files, class by class in the order of their paths, and warn of what is passed over."""
    passed: Counter[str] = Counter()
    files: list[_File] = []
    classes = _classes(root, rule, passed)
    for folder, split in classes:
        paths = sorted(_visible(folder, root, passed))
        audio = [path for path in paths if is_audio_name(path.name)]
        if not audio and (not paths or any(path.suffix.lower() in _OTHER_AUDIO for path in paths)):
            raise MarbleError(
                f"The class folder '{readable(folder.name)}' of {root.absolute()} holds no audio that marble reads: convert "
                "its files to wav or flac, or move it away."
            )
        passed.update(_kind(path) for path in paths if not is_audio_name(path.name))
        passed.update([] if audio else [f"folder {readable(folder.name)}"])
        files += [_File(readable(folder.name), split, path, folder) for path in audio]
    parents = {root, *(folder.parent for folder, _ in classes)}
    passed.update(_kind(path) for parent in parents for path in parent.iterdir() if path.is_file() and not _hidden(path.name))
    if passed:
        counts = ", ".join(f"{count} {kind}" for kind, count in passed.most_common(5))
        more = f" and {len(passed) - 5} kinds more" if len(passed) > 5 else ""
        warnings.warn(
            f"{root.absolute()}: files that are no audio, or in no class folder, are passed over ({counts}{more})", stacklevel=2
        )
    return files


def _classes(root: Path, rule: SplitRule, passed: Counter[str]) -> list[tuple[Path, Split | None]]:
    """Return the class folders, each with its split where the folders of the root are splits."""
    tops = _folders(root, passed)
    splits = {top: ALIASES[top.name.lower()] for top in tops if top.name.lower() in ALIASES}
    within = {top: split for top in tops if (split := split_in(top.name))}
    if len(within) == len(tops) and len(set(within.values())) > 1:
        splits = within
    present = set(splits.values())
    if len(present) < 2:
        return [(top, None) for top in tops]
    rest = [top.name for top in tops if top not in splits]
    missing = set(SPLITS) - present
    if rest or (missing and not (rule.valid and missing == {"valid"})):
        fault = f"also '{rest[0]}', which is none" if rest else f"no {min(missing)}"
        offer = ", or take a fifth of train for it with --set split.valid=0.2" if not rest and missing == {"valid"} else ""
        raise MarbleError(
            f"{root.absolute()} has folders of splits ({', '.join(sorted(top.name for top in splits))}), but {fault}: "
            f"give it train, valid and test and nothing else, or class folders alone{offer}."
        )
    return [(folder, split) for top, split in splits.items() for folder in _folders(top, passed)]


def _folders(parent: Path, passed: Counter[str]) -> list[Path]:
    """Return the folders in a folder, and count those of systems."""
    try:
        folders = sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        _refuse(error)
    passed.update(f"folder {readable(path.name)}" for path in folders if _hidden(path.name))
    return [path for path in folders if not _hidden(path.name)]


def _visible(folder: Path, root: Path, passed: Counter[str]) -> Iterator[Path]:
    """Yield all files below a class folder but hidden ones; links to folders are followed, each once, and none upwards."""
    seen = {os.path.realpath(root), os.path.realpath(folder.parent)}
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(parent)
        passed.update(f"folder {readable(name)}" for name in folders if _hidden(name) and not name.startswith("."))
        folders[:] = [] if real in seen else sorted(name for name in folders if not _hidden(name))
        names = [] if real in seen else names
        seen.add(real)
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def _kind(path: Path) -> str:
    return path.suffix.lower() or readable(path.name)


def _refuse(error: OSError) -> NoReturn:
    raise MarbleError(f"{error.filename} cannot be read ({reason(error)}): make it readable.")


def _hint(root: Path, files: list[_File]) -> str:
    """Return the advice for a folder with fewer than two classes: its one class folder, or a table in it, may be meant."""
    below = {file.path.relative_to(file.folder).parts[0] for file in files if file.path.parent != file.folder}
    if len(below) > 1:
        return f"; folder:{files[0].folder} holds {len(below)}"
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in READERS)
    if tables or (not files and next(root.rglob("*.parquet"), None)):
        return f"; table:{tables[0] if len(tables) == 1 else root} may be a task"
    beside = not files and any(is_audio_name(path.name) for path in root.iterdir())
    return "; where the name of a file tells its class, write a table with a column path and a column label" if beside else ""


def _notes(labels: tuple[str, ...], files: list[_File], rule: SplitRule) -> list[str]:
    """Return what may be meant otherwise: class folders that look like folds, and folders in them that belong together."""
    notes = []
    if all(map(_LIKE_FOLDS.fullmatch, labels)):
        notes.append(
            f"the class folders are called like folds or parts ({labels[0]}, {labels[1]} …), and this task tells which of them "
            "a file lies in: if its class is in its name, write a table"
        )
    kits = Counter(file.path.parent.name for file in files if file.path.parent != file.folder)
    if kits and {kit.lower() for kit in kits} <= set(ALIASES):
        return [*notes, f"the class folders hold folders of splits ({min(kits)} …), which count above class folders alone"]
    if not rule.group and not files[0].split and len(kits) >= len(SPLITS) and 2 * len(kits) < kits.total() > len(files) / 2:
        notes.append(f"the class folders hold folders ({min(kits)} …), which --group parent keeps in one split each")
    return notes


def _clips(root: Path, files: list[_File], rule: SplitRule) -> list[Clip]:
    """Return the clips; an unreadable file counts as a recording of its own and is reported when it is decoded."""
    contents = {} if files[0].split and not rule.valid else file_hashes([file.path for file in files])
    ids = [readable(file.path.relative_to(root)) for file in files]
    parents = ["" if file.path.parent == file.folder else readable(file.path.parent.name) for file in files]
    groups = groups_of_paths(rule.group, str(root), ids, parents) if rule.group else [None] * len(files)
    rows = [
        Row(label=file.label, tags=(), unit=str(contents.get(file.path)), group=group, split=file.split)
        for file, group in zip(files, groups, strict=True)
    ]
    splits = split_rows(str(root), rows, rule)
    return [
        Clip(name, file.path, split, file.label, artist=group)
        for name, file, split, group in zip(ids, files, splits, groups, strict=True)
    ]
