"""The sha256 of files' contents, computed once per version of a file; and paths: those that users type, and marble's own.

A small SQLite table in marble's home remembers (size, modification time, change time, inode) of every hashed file; a file whose
four numbers are unchanged is not read again. A file touched within the last two seconds is not remembered, since a second
write could leave the same numbers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import stat
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from marble.errors import MarbleError, reason

_SCHEMA = "CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)"


def home() -> Path:
    """Return marble's own folder: ``$MARBLE_HOME``, or ``~/.cache/marble``."""
    return Path(os.environ.get("MARBLE_HOME") or Path.home() / ".cache" / "marble")


def user_path(text: str) -> Path:
    """Return the path that a user typed, ``~`` replaced; the home of nobody stays as it is, and does not exist."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (its namesake raises)


def readable(path: Path | str) -> str:
    """Return a path or a part of it as text that can be written anywhere; bytes that are no UTF-8 appear as escapes."""
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
        paths: the files; each is read once, and not at all where it is unchanged since it was last read. What was read is
            remembered when this is interrupted, too.
        on_file: called after each file.
    """
    paths = list(dict.fromkeys(paths))
    known = _memory()
    fresh: list[tuple[str, str, str]] = []
    found = {}
    threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for path, answer in zip(paths, threads.map(lambda path: _hash(path, known, fresh), paths), strict=True):
            found[path] = answer
            on_file()
    finally:
        threads.shutdown(cancel_futures=True)
        if fresh:
            _memory(fresh)
    return found


def _hash(path: Path, known: dict[str, tuple[str, str]], fresh: list[tuple[str, str, str]]) -> str | OSError:
    """Return the remembered or computed hash of a file, or the error; what is worth remembering joins `fresh`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return OSError(errno.EINVAL, "Not a file")
        name = readable(path.absolute())
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        if known.get(name, ("",))[0] == stamp:
            return known[name][1]
        digest = file_hash(path)
    except OSError as error:
        return error
    if max(status.st_mtime, status.st_ctime) < time.time() - 2:
        fresh.append((name, stamp, digest))
    return digest


def _memory(fresh: Sequence[tuple[str, str, str]] = ()) -> dict[str, tuple[str, str]]:
    """Add rows of (path, stamp, sha256) to the memory and return all of it; nothing and a warning where it cannot be used."""
    file = home() / "files.sqlite"
    try:
        if not fresh and not (file.is_file() and file.stat().st_size):
            return {}
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=60)) as database, database:
            database.execute(_SCHEMA)
            database.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?)", fresh)
            return {path: (stamp, sha256) for path, stamp, sha256 in database.execute("SELECT path, stamp, sha256 FROM file")}
    except (OSError, sqlite3.Error) as error:
        warnings.warn(f"cannot use {file} ({error}), so every file is read anew: make it writable or remove it", stacklevel=3)
        return {}


def digest(value: object) -> str:
    """Return the sha256 of a value's canonical JSON, as 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def locked(path: Path, *, wait: bool) -> Generator[bool]:
    """Hold the lock of a file, or give False where another process holds it and `wait` is not set.

    The lock of a process that was killed is free.

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
    """Turn what keeps a file or folder from being written into a sentence.

    Raises:
        MarbleError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise MarbleError(
            f"Cannot write {path} ({reason(error)}): make room or choose another folder, "
            "then run the same command again; what was finished is kept."
        ) from error


@contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Give a path beside `path` to write to, renamed to `path` at the end, removed on any error.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        with suppress(OSError):  # where even its folder does not exist
            beside.unlink()


def partial_of(path: Path) -> Path:
    """Return where a file or folder grows before it is complete."""
    return path.with_name(f".{path.name}.partial")


def has_checksum(file: Path, checksum: str) -> bool:
    """Tell whether the content of a file has this sha256 or md5 (in hex, told by its length).

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5" if len(checksum) == 32 else "sha256").hexdigest() == checksum
