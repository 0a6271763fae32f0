"""Paths, hashes of files, and writing that is whole or absent.

- `home`, `user_path`, `readable`: marble's own folder, and paths as users type and read them.
- `file_hashes` computes the sha256 of each version of a file once. A SQLite table in marble's home remembers size,
  modification time, change time and inode of every hashed file; a file whose four numbers are unchanged is not read again.
  Files younger than two seconds are not remembered, since a second write could leave the same numbers. Each row carries a
  checksum, so a damaged table costs time and never gives a wrong hash.
- `atomic_write` and `atomic_folder` write beside the target and rename at the end, so that other processes and later runs
  see all or nothing. File and rename are synchronised to disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout

from marble.errors import MarbleError, reason
from marble.system.threads import Threads, usable_cores

_T = TypeVar("_T")
_COLUMNS = ("path", "stamp", "sha256", "checksum")


def home() -> Path:
    """Return marble's own folder: ``$MARBLE_HOME``, or ``~/.cache/marble``.

    Raises:
        MarbleError: there is no home folder.
    """
    folder = user_path(os.environ.get("MARBLE_HOME") or "~/.cache/marble")
    refuse_unknown_home(folder)
    return folder


def refuse_unknown_home(folder: Path | str) -> None:
    """Raise a `MarbleError` where the ``~`` of a path could not be expanded."""
    if str(folder).startswith("~"):
        raise MarbleError(
            f"There is no home folder for {folder} (HOME is not set, and the system does not know this user): set MARBLE_HOME, "
            "for marble's own files, and HF_HOME, for those of the Hugging Face hub, to folders that can be written."
        )


def user_path(text: str) -> Path:
    """Return a typed path with ``~`` expanded; ``~name`` stays as typed if there is no such user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (Path.expanduser raises for unknown users)


def readable(path: Path | str) -> str:
    """Return a path or a part of it as valid UTF-8; other bytes appear as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes, as 64 hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(paths: Iterable[Path], on_file: Callable[[], object] = lambda: None) -> dict[Path, str | OSError]:
    """Return the sha256 of each file, or the error that kept it from being read.

    Args:
        paths: the files. Each is read once, or not at all if unchanged since its last reading; an interrupt keeps the hashes
            that are finished.
        on_file: called after each file.

    Raises:
        MarbleError: a thread cannot be started.
    """
    paths = list(dict.fromkeys(paths))
    known = _remembered()
    fresh: list[tuple[str, ...]] = []
    hashes = {}
    threads = Threads(min(8, usable_cores()))
    try:
        for path, answer in zip(paths, threads.map(lambda path: _hash(path, known, fresh), paths), strict=True):
            hashes[path] = answer
            on_file()
    finally:
        threads.shutdown(cancel_futures=True)
        if fresh:
            _remember(fresh)
    return hashes


def _hash(path: Path, known: dict[str, tuple[str, ...]], fresh: list[tuple[str, ...]]) -> str | OSError:
    """Return the remembered or computed hash of a file, or the error; add a row to `fresh` if it can be remembered."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return OSError(errno.EINVAL, "Not a file")
        name = readable(path.absolute())
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        row = known.get(name, ())
        if row[:2] == (name, stamp) and row == _checked(*row[:3]):
            return row[2]
        sha256 = file_hash(path)
    except OSError as error:
        return error
    if max(status.st_mtime, status.st_ctime) < time.time() - 2:
        fresh.append(_checked(name, stamp, sha256))
    return sha256


def _checked(name: str, stamp: str, sha256: str) -> tuple[str, ...]:
    """Return a row of the memory: its values and a checksum of them."""
    return name, stamp, sha256, hashlib.sha256(f"{name}\n{stamp}\n{sha256}".encode()).hexdigest()[:16]


def _remembered() -> dict[str, tuple[str, ...]]:
    """Return the row of each remembered path."""

    def read(database: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
        """Return all rows, none of a table with other columns."""
        known = _columns(database) == _COLUMNS
        return {row[0]: row for row in database.execute("SELECT path, stamp, sha256, checksum FROM file")} if known else {}

    return (_in_memory(read) or {}) if (home() / "files.sqlite").is_file() else {}


def _remember(fresh: Sequence[tuple[str, ...]]) -> None:
    """Add rows to the memory."""

    def write(database: sqlite3.Connection) -> None:
        """Insert the rows; a table with other columns is made again."""
        database.execute("BEGIN IMMEDIATE")
        if _columns(database) != _COLUMNS:
            database.execute("DROP TABLE IF EXISTS file")
            database.execute("CREATE TABLE file (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT, checksum TEXT)")
        database.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", fresh)

    _in_memory(write)


def _columns(database: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(column[1] for column in database.execute("PRAGMA table_info(file)"))


def _in_memory(work: Callable[[sqlite3.Connection], _T]) -> _T | None:
    """Run `work` on the database of hashes and return its value; warn and return None if the database cannot be used."""
    file = home() / "files.sqlite"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=60)) as database, database:
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            return work(database)
    except (OSError, sqlite3.Error, ValueError, MemoryError) as error:
        warnings.warn(f"cannot use {file} ({error}), so every file is read again: make it writable or remove it", stacklevel=4)
        return None


def digest(value: object) -> str:
    """Return the sha256 of a value's canonical JSON, as 64 hex digits; a dataclass counts as its fields."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=asdict).encode()).hexdigest()


@contextmanager
def locked(path: Path, *, wait: bool) -> Generator[bool]:
    """Hold the lock of a file; yield False if another process holds it and `wait` is not set.

    A killed process leaves its lock free.

    Raises:
        MarbleError: the folder cannot be written.
    """
    lock = FileLock(path.with_suffix(".lock"))
    with writing(path), suppress(Timeout):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Raise a `MarbleError` in place of an OSError from writing a file or folder."""
    try:
        yield
    except OSError as error:
        raise MarbleError(
            f"Cannot write {path} ({reason(error)}): make room or choose another folder, "
            "then run the same command again; what was finished is kept."
        ) from error


def refuse_unwritable(folder: Path) -> None:
    """Raise a `MarbleError` where nothing can be written into a folder, or it cannot be made; nothing stays behind."""
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with writing(folder), TemporaryFile(dir=present):
        pass


@contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` at the end, remove it on any error.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            put_in_place(beside, path)
    finally:
        with suppress(OSError):  # even its folder may be missing
            beside.unlink()


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Yield an empty folder beside `path` to fill; rename it to `path` at the end, remove it on any error.

    The remains of a killed process are removed first, so only one process at a time may write a folder: take a lock. The
    files inside are not synchronised to disk.

    Raises:
        MarbleError: the disk is full, the folder cannot be written, or `path` exists and is not empty.
    """
    with fresh_folder(path) as beside:
        yield beside
        put_in_place(beside, path)


@contextmanager
def fresh_folder(path: Path) -> Generator[Path]:
    """Yield an empty folder beside `path` and remove it at the end, unless it was renamed; errors as `atomic_folder`."""
    beside = partial_of(path)
    try:
        with writing(path):
            if beside.exists():
                shutil.rmtree(beside)
            beside.mkdir(parents=True)
            yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def put_in_place(beside: Path, path: Path) -> None:
    """Rename a complete file or folder to `path` and synchronise the rename to disk.

    Raises:
        OSError: it cannot be renamed or synchronised.
    """
    if beside.is_file():
        with beside.open("rb") as file:
            os.fsync(file.fileno())
    beside.replace(path)
    with suppress(OSError):  # not every system opens or synchronises folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def partial_of(path: Path) -> Path:
    """Return the path of a file or folder before it is complete."""
    return path.with_name(f".{path.name}.partial")


def has_checksum(file: Path, checksum: str) -> bool:
    """Tell whether a file has this sha256 or md5 (in hex; the length decides which).

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5" if len(checksum) == 32 else "sha256").hexdigest() == checksum
