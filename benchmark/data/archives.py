"""Zip and tar.gz archives, unpacked with care.

Conventions
-----------
- Only regular files come out. A link, a device, an absolute name, one with ``..`` or a backslash, a name twice or below a
  file: the whole archive is refused.
- What comes out is bounded: `MOST_FILES` files, and `GROWTH` times the archive plus `SLACK` bytes, counted while written.
- All goes into ``.<name>.partial`` beside the folder. The one folder that was wanted is renamed at the end, the rest removed:
  the folder is whole or absent.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from marble.data.download import CHUNK
from marble.errors import MarbleError
from marble.files import partial_of, writing
from marble.progress import Reporter

MOST_FILES = 1_000_000
GROWTH = 20
SLACK = 100 * 2**20


def unpack(
    archive: Path, folder: Path, holds: str, convert: Callable[[Path], None] | None = None, reporter: Reporter | None = None
) -> None:
    """Put one folder of an archive in its place.

    Args:
        archive: zip or tar.gz.
        folder: where to; must not exist, or be empty.
        holds: pattern of a name by which the folder is known in the archive; one of the same name is preferred, then the
            one nearest to the top.
        convert: repairs the folder before it is renamed.
        reporter: shows the progress; silent by default.

    Raises:
        MarbleError: the archive is unsafe, damaged, too large or holds no such folder, or the folder cannot be written.
    """
    size, read = archive.stat().st_size, 0
    limit = GROWTH * size + SLACK
    stage = (reporter or Reporter()).stage(f"unpack {archive.name}", size / 1e6, "MB")
    with _fresh(folder) as partial, stage as advance, archive.open("rb") as content:
        for number, (name, chunks) in enumerate(_members(content, archive)):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
                raise _refused(archive, f"holds '{name}', which leads out of its folder")
            if number >= MOST_FILES:
                raise _refused(archive, f"holds more than {MOST_FILES:,} files")
            with writing(partial / path):
                try:
                    (partial / path).parent.mkdir(parents=True, exist_ok=True)
                    file = (partial / path).open("xb")
                except (FileExistsError, NotADirectoryError) as error:
                    raise _refused(archive, f"holds '{name}' twice, or below a file") from error
                with file:
                    for chunk in chunks:
                        limit -= len(chunk)
                        if limit < 0:
                            raise _refused(archive, f"of {size:,} bytes unpacks to more than {GROWTH} times as much")
                        file.write(chunk)
            advance((content.tell() - read) / 1e6)
            read = content.tell()
        _place(partial, folder, holds, convert, archive)


def copy_folder(source: Path, folder: Path, holds: str, convert: Callable[[Path], None] | None = None) -> None:
    """Put a copy of a folder in its place; as `unpack`."""
    with _fresh(folder) as partial:
        with writing(folder):
            shutil.copytree(source, partial, dirs_exist_ok=True)
        _place(partial, folder, holds, convert, source)


@contextmanager
def _fresh(folder: Path) -> Generator[Path]:
    """Give an empty folder beside `folder`, and remove what is left of it."""
    partial = partial_of(folder)
    with writing(folder):
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _place(partial: Path, folder: Path, holds: str, convert: Callable[[Path], None] | None, origin: Path) -> None:
    fitting = [path for path in (Path(place) for place, _, _ in os.walk(partial)) if next(path.glob(holds), None)]
    if not fitting:
        raise _refused(origin, f"holds no folder with {holds}")
    found = min(fitting, key=lambda path: (path.name != folder.name, len(path.parts), path))
    with writing(folder):
        if convert:
            convert(found)
        found.rename(folder)


def _members(content: IO[bytes], origin: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and content of each file."""
    with _reading(origin):
        if content.read(2) == b"PK":
            with zipfile.ZipFile(content) as unzipped:
                for info in unzipped.infolist():
                    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                        raise _refused(origin, f"holds '{info.filename}', which is a link or a device")
                    if not info.is_dir():
                        with unzipped.open(info) as stream:
                            yield info.filename, _chunks(stream, origin)
            return
        content.seek(0)
        with tarfile.open(fileobj=content, mode="r:gz") as untarred:
            for member in untarred:
                stream = untarred.extractfile(member) if member.isreg() else None
                if stream:
                    yield member.name, _chunks(stream, origin)
                elif not member.isdir():
                    raise _refused(origin, f"holds '{member.name}', which is a link or a device")
            # A damaged header looks like the end to tarfile; the checksum behind the real end tells.
            for _ in _chunks(untarred.fileobj, origin):  # ty: ignore[invalid-argument-type]
                pass


def _chunks(stream: IO[bytes], origin: Path) -> Iterator[bytes]:
    with _reading(origin):
        while chunk := stream.read(CHUNK):
            yield chunk


@contextmanager
def _reading(origin: Path) -> Generator[None]:
    """Turn whatever the two libraries raise at a damaged archive, which is anything, into a sentence."""
    try:
        yield
    except MarbleError:
        raise
    except Exception as error:
        raise MarbleError(
            f"The archive {origin} is damaged ({error or type(error).__name__}): remove it and fetch it anew."
        ) from error


def _refused(origin: Path, reason: str) -> MarbleError:
    return MarbleError(f"{origin} {reason}, so nothing of it was unpacked: remove it and fetch the published one.")
