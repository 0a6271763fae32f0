"""The audio files that a user's table names, as they lie on the disk.

A path is relative to the table's folder, or absolute. Where no file lies at a path as it is written, that one counts whose path
differs only in case, in Unicode form (as between a Mac and others), in spaces at its ends, in ``/`` for a backslash, or in an
extension of audio that the path leaves out. Audio that is in the table itself, as bytes, is written once to
``$MARBLE_HOME/audio``, named after its sha256.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

from marble.audio.decode import is_audio_name
from marble.errors import MarbleError
from marble.system.files import atomic_write, home, readable, user_path
from marble.tasks.own.table_file import Table

_Names = dict[Path, dict[str, list[str]]]


def audio_paths(table: Table) -> tuple[list[Path], list[str]]:
    """Return the audio file of each row, and a note on those that are found under another name than is written.

    Raises:
        MarbleError: a path is no text, or none of the files is there.
    """
    written = [_written(table, row, value) for row, value in enumerate(table.rows["path"], start=1)]
    paths = {text: table.folder / user_path(text) for text in dict.fromkeys(written)}
    absent = [text for text, path in paths.items() if not path.is_file()]
    names: _Names = {}
    near = {text: file for text in absent if (file := _near_file(table.folder, text, names))}
    if len(absent) == len(paths) and not near:
        advice = f"write paths that are absolute or relative to {table.folder.absolute()}"
        if "://" in absent[0]:
            local = absent[0].startswith("file:")
            advice = "write paths, without file://" if local else "download the files, and write where they are"
        raise MarbleError(
            f"None of the {len(paths)} audio files that the table {table.name} names is there, '{absent[0]}' for one: {advice}."
        )
    notes = [
        f"{len(near)} paths are not there as written, but in other case, Unicode form, slashes or extension, first '{text}' as "
        f"{readable(file)}"
        for text, file in near.items()
    ]
    return [near.get(text) or paths[text] for text in written], notes[:1]


def stored(content: bytes) -> Path:
    """Write the bytes of an audio file, once, and return where."""
    digest = hashlib.sha256(content).hexdigest()
    file = home() / "audio" / digest[:2] / digest
    if not file.exists():
        with atomic_write(file) as beside:
            beside.write_bytes(content)
    return file.absolute()


def _written(table: Table, row: int, value: Any) -> str:
    """Return a path as it is written; that of audio in the table itself is where it is stored."""
    if isinstance(value, dict):
        value = stored(value["bytes"]) if value.get("bytes") else value.get("path")
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise MarbleError(f"The table {table.name} has no path in row {row} but {value!r:.40}: write the path of a file.")
    return str(value)


def _near_file(folder: Path, text: str, names: _Names) -> Path | None:
    """Return the one file whose path is nearly as written; `names` keeps the names in folders that were looked into."""
    here, *parts = (folder.absolute() / user_path(text.strip().replace("\\", "/"))).parts
    path = Path(here)
    for part in parts:
        if not (path / part).exists():
            present = _names_in(path, names)
            near = present.get(_folded(part)) or present.get(f"{_folded(part)}/", [])
            if len(near) != 1:
                return None
            part = near[0]
        path /= part
    return path if path.is_file() else None


def _names_in(folder: Path, names: _Names) -> dict[str, list[str]]:
    """Return the names in a folder by what they have in common with near ones; with "/", those of audio without extension."""
    if folder not in names:
        present = names.setdefault(folder, {})
        with suppress(OSError):
            for name in os.listdir(folder):
                present.setdefault(_folded(name), []).append(name)
                if is_audio_name(name):
                    present.setdefault(f"{_folded(name.rpartition('.')[0])}/", []).append(name)
    return names[folder]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()
