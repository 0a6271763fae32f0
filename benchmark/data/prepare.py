"""The files of the tasks: what is there, how the rest is come by, and whether it is what it should be.

Conventions
-----------
- A task declares what it reads as `marble.task.Resource`: files and folders below the data root. A file is there when its
  checksum is right, a folder when it holds what it is known by; an archive becomes a folder as `marble.data.archives` says.
- `prepare` fetches what has an address, and only what is not there: a second time it does nothing. An archive that it
  fetched is removed when its folder is in place.
- A mirror is a folder that stands in for the network: each file, folder or archive is looked for at its path below the data
  root, and by its bare name. Checksums are asked for all the same.
- `verify` reads everything: checksums, sizes of splits, artists in training and elsewhere, every clip (decoded), and
  recordings whose bytes stand in two splits.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from marble.audio.workers import Request, WorkerPool
from marble.data.archives import copy_folder, unpack
from marble.data.download import CHUNK, NotTheFileError, copy, download, file_name, has_checksum, partial_of
from marble.errors import MarbleError, reason, writing
from marble.files import file_hashes, readable
from marble.progress import Reporter
from marble.task import SPLITS, Clip, Resource, Task

_RATE = 16_000


def status(tasks: Sequence[Task], root: Path) -> list[dict[str, Any]]:
    """Return one row for each file or folder of some tasks: who reads it, where below the data root, its state, and more."""
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
    """Bring the files of some tasks below a data root, as far as they can be had.

    Args:
        tasks: whose files.
        root: the data root.
        mirror: a folder to take them from instead of the network.
        offline: only unpack what is there.
        reporter: shows the progress; silent by default.

    Returns:
        One sentence for each file or folder that could have been had but was not.

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
                    _Source(root, mirror, offline, reporter or Reporter()).obtain(resource)
            except MarbleError as error:
                complaints.append(str(error))
    return complaints


@contextmanager
def _alone(root: Path) -> Generator[None]:
    """Make a data root and keep other processes from preparing it."""
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
    """Return "there", or what is wrong with a file or folder in words.

    Args:
        resource: what is asked for.
        root: the data root.
        thorough: read the files of a folder too, where they have checksums.
    """
    if resource.files:
        files = _listed(resource, root)
        wrong = [one.path for one in files if (state(one, root) != "there" if thorough else not (root / one.path).is_file())]
        some = f"{len(wrong)} of {len(files)} are missing or to be removed, first {wrong[0]}" if wrong else "there"
        return "missing" if len(wrong) == len(files) else some
    if resource.holds:
        places = (resource.path, *resource.also)
        return "there" if any(next((root / place).glob(resource.holds), None) for place in places) else "missing"
    file = root / resource.path
    if not file.is_file():
        return "missing"
    try:
        return "there" if not resource.checksum or has_checksum(file, resource.checksum) else "not the published one"
    except OSError as error:
        return f"cannot be read ({reason(error)})"


def _listed(resource: Resource, root: Path) -> Sequence[Resource]:
    """Return the files of a folder; none where the list of them is not there yet."""
    try:
        return resource.files(root) if resource.files else ()
    except MarbleError:
        return ()


def _row(resource: Resource, root: Path, task: str) -> dict[str, Any]:
    found = state(resource, root)
    fetched = bool(resource.urls or resource.files)
    return {
        "tasks": [],
        "path": resource.path,
        "state": found,
        "bytes": resource.size,
        "licence": resource.licence,
        "get": "" if found == "there" else f"marble data prepare {task}" if fetched else f"by hand: {resource.by_hand}",
        "urls": list(resource.urls),
        "checksum": resource.checksum,
    }


@dataclass(frozen=True)
class _Source:
    """Where files come from: the mirror if there is one, else the network, unless offline."""

    root: Path
    mirror: Path | None
    offline: bool
    reporter: Reporter

    @property
    def online(self) -> bool:
        """Whether the network is asked."""
        return not self.mirror and not self.offline

    def obtain(self, resource: Resource) -> None:
        """Bring a file or folder to its place, if it can be had here."""
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
        found = self._mirrored(resource.path)
        if found:
            copy(found, file, resource.checksum)
        elif resource.urls and self.online:
            download(resource.urls[0], file, resource.checksum, reporter)

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
        """Return where the mirror holds a file or folder, at its path or by its bare name."""
        candidates = [self.mirror / path, self.mirror / PurePosixPath(path).name] if self.mirror else []
        return next((found for found in candidates if found.exists()), None)


def _join(parts: Sequence[Path]) -> Path:
    """Return the one file that some parts make, which stands beside them."""
    if len(parts) == 1:
        return parts[0]
    joined = partial_of(parts[0])
    with writing(joined), joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file, CHUNK)
    return joined


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: whether it is as it should be, what was found, and what is wrong, one by one."""

    check: str
    good: bool
    found: str
    wrong: tuple[str, ...] = ()


def verify(task: Task, root: Path, *, workers: int | None = None, reporter: Reporter | None = None) -> Iterator[Finding]:
    """Check the files of a task, and yield what was found; arguments as in `prepare`."""
    reporter = reporter or Reporter()
    if task.resources:
        states = {resource.path: state(resource, root, thorough=True) for resource in task.resources}
        wrong = tuple(f"{root / path}: {found}" for path, found in states.items() if found != "there")
        yield Finding("files", not wrong, f"{len(states) - len(wrong)} of {len(states)} are there", wrong)
    try:
        clips = task.read(root)
    except MarbleError as error:
        yield Finding("splits", False, str(error))
        return
    tracks = {split: len({clip.track for clip in clips if clip.split == split}) for split in SPLITS}
    as_declared = "as declared" if task.split_sizes else "the task declares none"
    yield Finding("splits", True, ", ".join(f"{count:,} {split}" for split, count in tracks.items()) + f" ({as_declared})")
    if any(clip.artist for clip in clips):
        yield _artists(clips)
    yield _audio(clips, workers, reporter)
    yield _doubles(clips, reporter)


def _artists(clips: Sequence[Clip]) -> Finding:
    trained, others = ({clip.artist for clip in clips if (clip.split == "train") == fit} for fit in (True, False))
    shared = tuple(sorted(artist for artist in trained & others if artist))
    return Finding("artists", not shared, f"{len(shared)} of {len(trained | others):,} stand in training and elsewhere", shared)


def _audio(clips: Sequence[Clip], workers: int | None, reporter: Reporter) -> Finding:
    requests = list(dict.fromkeys(Request(clip.path, _RATE, clip.start, clip.stop) for clip in clips))
    bad = []
    with WorkerPool(workers) as pool, reporter.stage("decode", len(requests), "clips") as advance:
        for request, answer in zip(requests, pool.map(requests), strict=True):
            if isinstance(answer, Exception):
                bad.append(f"{readable(request.path)} {answer}")
            advance(1)
    return Finding("audio", not bad, f"{len(requests) - len(bad):,} of {len(requests):,} clips can be decoded", tuple(bad))


def _doubles(clips: Sequence[Clip], reporter: Reporter) -> Finding:
    splits = {clip.path: clip.split for clip in clips}
    with reporter.stage("hash", len(splits), "files") as advance:
        hashes = file_hashes(splits, lambda: advance(1))
    held: dict[str, list[Path]] = {}
    for path, content in hashes.items():
        if isinstance(content, str):
            held.setdefault(content, []).append(path)
    doubles = [paths for paths in held.values() if len(paths) > 1]
    crossing = [paths for paths in doubles if len({splits[path] for path in paths}) > 1]
    wrong = tuple(", ".join(f"{readable(path)} ({splits[path]})" for path in paths) for paths in crossing)
    found = f"{len(crossing)} recordings stand in two splits, {len(doubles) - len(crossing)} twice in one"
    return Finding("leakage", not crossing, found, wrong)
