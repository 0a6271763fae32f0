"""The files of the tasks: what is there, and how to get the rest.

Conventions
-----------
- A task declares its files as `marble.task.Resource`: files and folders below the data root. A file is there if its checksum
  is right, a folder if it holds a name that fits its pattern; `marble.data.archives` turns archives into folders.
- `prepare` fetches only missing files that have an address: a second time it does nothing. It removes an archive when the
  folder is in place.
- A mirror is a folder that replaces the network: each file, folder or archive is looked for at its path below the data root,
  and by its bare name. Checksums are compared all the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from marble.data.archives import copy_folder, unpack
from marble.data.download import CHUNK, NotTheFileError, copy, download, file_name
from marble.errors import MarbleError, reason
from marble.system.files import has_checksum, partial_of, writing
from marble.system.progress import Reporter
from marble.task import Resource, Task


def status(tasks: Sequence[Task], root: Path) -> list[dict[str, Any]]:
    """Return one row for each file or folder of some tasks: its tasks, path below the data root, state, size, source."""
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        for resource in task.resources:
            if resource.path not in rows:
                rows[resource.path] = _row(resource, root, task.name)
            rows[resource.path]["tasks"].append(task.name)
        if not task.resources:
            rows[task.name] = {
                "tasks": [task.name], "path": None, "state": "nothing to fetch", "bytes": None, "licence": task.licence,
                "get": task.source, "urls": [], "checksum": None,
            }  # fmt: skip
    return list(rows.values())


def prepare(
    tasks: Sequence[Task], root: Path, *, mirror: Path | None = None, offline: bool = False, reporter: Reporter | None = None
) -> list[str]:
    """Fetch and unpack the files of some tasks, except those that must be fetched by hand.

    Args:
        tasks: the tasks whose files are fetched.
        root: the data root.
        mirror: a folder to take the files from instead of the network.
        offline: only unpack archives that are there.
        reporter: shows the progress; silent by default.

    Returns:
        One sentence for each file or folder whose fetching failed.

    Raises:
        MarbleError: the mirror does not exist, another process prepares the same data root, or it cannot be written.
    """
    if mirror and not mirror.is_dir():
        raise MarbleError(f"There is no folder {mirror.absolute()}: name one with the files for --mirror.")
    complaints = []
    resources = {resource.path: resource for task in tasks for resource in task.resources}.values()
    if all(state(resource, root) == "there" for resource in resources):
        return complaints
    with _alone(root):
        for resource in resources:
            try:
                if state(resource, root) != "there":
                    _Source(root, mirror, offline, reporter or Reporter()).fetch(resource)
            except MarbleError as error:
                complaints.append(str(error))
    return complaints


@contextmanager
def _alone(root: Path) -> Generator[None]:
    """Make a data root and lock it against other processes that prepare it."""
    lock = FileLock(root / ".prepare.lock")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise MarbleError(f"Another marble data prepare fills {root}: wait until it is done.") from error
    try:
        yield
    finally:
        lock.release()


def state(resource: Resource, root: Path, *, thorough: bool = False) -> str:
    """Return "there", or the fault of a file or folder in words.

    Args:
        resource: the file or folder.
        root: the data root.
        thorough: also compare the checksums of the files of a folder.
    """
    if resource.files:
        files = _listed(resource, root)
        there = [(root / file.path).is_file() and (not thorough or state(file, root) == "there") for file in files]
        wrong = [file.path for file, fine in zip(files, there, strict=True) if not fine]
        some = f"{len(wrong)} of {len(files)} are missing or to be removed, first {wrong[0]}" if wrong else "there"
        return "missing" if len(wrong) == len(files) else some
    if resource.holds:
        folders = (root / path for path in (resource.path, *resource.also))
        return "there" if any(next(folder.glob(resource.holds), None) for folder in folders) else "missing"
    file = root / resource.path
    if not file.is_file():
        return "missing"
    try:
        return "there" if not resource.checksum or has_checksum(file, resource.checksum) else "not the published one"
    except OSError as error:
        return f"cannot be read ({reason(error)})"


def _listed(resource: Resource, root: Path) -> Sequence[Resource]:
    """Return the files of a folder; none where their list is not there yet."""
    try:
        return resource.files(root) if resource.files else ()
    except MarbleError:
        return ()


def _row(resource: Resource, root: Path, task: str) -> dict[str, Any]:
    present = state(resource, root)
    fetched = bool(resource.urls or resource.files)
    return {
        "tasks": [],
        "path": resource.path,
        "state": present,
        "bytes": resource.size,
        "licence": resource.licence,
        "get": "" if present == "there" else f"marble data prepare {task}" if fetched else f"by hand: {resource.by_hand}",
        "urls": list(resource.urls),
        "checksum": resource.checksum,
    }


@dataclass(frozen=True)
class _Source:
    """The source of files: the mirror if there is one, else the network, unless offline."""

    root: Path
    mirror: Path | None
    offline: bool
    reporter: Reporter

    @property
    def online(self) -> bool:
        """Tell whether this source uses the network."""
        return not self.mirror and not self.offline

    def fetch(self, resource: Resource) -> None:
        """Put a file or folder in place, if this source has it."""
        if resource.files:
            self._files(resource)
        elif resource.holds:
            self._folder(resource, resource.holds)
        else:
            self._file(resource, self.reporter)

    def _files(self, resource: Resource) -> None:
        absent = [file for file in _listed(resource, self.root) if not (self.root / file.path).is_file()]
        wanted = [file for file in absent if self._mirrored(file.path) or self.online]
        failed = []
        with self.reporter.stage(f"fetch {resource.path}", len(wanted), "files") as advance:
            for file in wanted:
                try:
                    self._file(file, Reporter())
                except NotTheFileError as error:
                    failed.append(error)
                advance(1)
        if failed:
            raise MarbleError(
                f"{len(failed)} files of {self.root / resource.path} could not be fetched, the first: {failed[0]}"
            )

    def _file(self, resource: Resource, reporter: Reporter) -> None:
        file = self.root / resource.path
        mirrored = self._mirrored(resource.path)
        if mirrored:
            copy(mirrored, file, resource.checksum)
        elif resource.urls and self.online:
            download(resource.urls[0], file, resource.checksum, reporter, resource.size)

    def _folder(self, resource: Resource, holds: str) -> None:
        folder = self.root / resource.path
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MarbleError(f"{folder} is there, but holds no {holds}: move it away, or put the right one there.")
        ready = self._mirrored(resource.path)
        if ready and next(ready.glob(holds), None):
            copy_folder(ready, folder, holds, resource.convert)
            return
        home = PurePosixPath(resource.path).parent
        parts = [replace(resource, path=str(home / file_name(url)), urls=(url,), holds=None) for url in resource.urls]
        for part in parts:
            if state(part, self.root) != "there":
                self._file(part, self.reporter)
        archives = [self.root / part.path for part in parts]
        if archives and all(archive.is_file() for archive in archives):
            joined = _join(archives)
            try:
                unpack(joined, folder, holds, resource.convert, self.reporter)
            except MarbleError as error:
                if joined in archives:
                    raise
                names = ", ".join(archive.name for archive in archives)
                raise MarbleError(f"{error} It was joined from {names}: remove these.") from error
            finally:
                if joined not in archives:
                    joined.unlink(missing_ok=True)
            for archive in archives:
                archive.unlink(missing_ok=True)

    def _mirrored(self, path: str) -> Path | None:
        """Return the path of a file or folder in the mirror, at its path or by its bare name."""
        candidates = [self.mirror / path, self.mirror / PurePosixPath(path).name] if self.mirror else []
        return next((path for path in candidates if path.exists()), None)


def _join(parts: Sequence[Path]) -> Path:
    """Join the parts of an archive beside the first and return the whole; a single part is the whole."""
    if len(parts) == 1:
        return parts[0]
    joined = partial_of(parts[0])
    with writing(joined), joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file, CHUNK)
    return joined
