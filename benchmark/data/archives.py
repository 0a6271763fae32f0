"""Unpack zip and tar.gz archives safely, with the standard modules zipfile and tarfile.

- Only regular files are unpacked. An archive is refused as a whole if it holds a link, a device, an absolute name, a name with
  ``..`` or a backslash, a name twice, or a name below a file.
- An archive may hold `MOST_FILES` files, and `GROWTH` times its own size plus `SLACK` bytes.
- Files are unpacked in a fresh folder beside the target. The wanted folder is renamed at the end, the rest removed: the
  target is whole or absent.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from marble.data.download import CHUNK
from marble.errors import MarbleError
from marble.system.files import fresh_folder, put_in_place, writing
from marble.system.progress import Reporter

MOST_FILES = 1_000_000
GROWTH = 20
SLACK = 100 * 2**20


def unpack(
    archive: Path, folder: Path, holds: str, convert: Callable[[Path], None] | None = None, reporter: Reporter | None = None
) -> None:
    """Unpack one folder of an archive.

    Args:
        archive: zip or tar.gz.
        folder: the target; must not exist, or be empty.
        holds: pattern of a name that the wanted folder holds; of several such folders one of the target's name is preferred,
            then the one nearest to the top.
        convert: repairs the folder before it is renamed.
        reporter: shows the progress; silent by default.

    Raises:
        MarbleError: the archive is unsafe, damaged, too large or holds no such folder, or the folder cannot be written.
    """
    with fresh_folder(folder) as beside:
        _extract(archive, beside, reporter or Reporter())
        _place(beside, folder, holds, convert, archive)


def copy_folder(source: Path, folder: Path, holds: str, convert: Callable[[Path], None] | None = None) -> None:
    """Copy one folder of a folder; as `unpack`."""
    with fresh_folder(folder) as beside:
        shutil.copytree(source, beside, dirs_exist_ok=True)
        _place(beside, folder, holds, convert, source)


def _place(beside: Path, folder: Path, holds: str, convert: Callable[[Path], None] | None, origin: Path) -> None:
    fitting = [path for path in map(Path, (top for top, _, _ in os.walk(beside))) if next(path.glob(holds), None)]
    if not fitting:
        raise _refused(origin, f"holds no folder with {holds}")
    wanted = min(fitting, key=lambda path: (path.name != folder.name, len(path.parts), path))
    if convert:
        convert(wanted)
    put_in_place(wanted, folder)


def _extract(archive: Path, folder: Path, reporter: Reporter) -> None:
    size, done = archive.stat().st_size, 0
    left = GROWTH * size + SLACK
    stage = reporter.stage(f"unpack {archive.name}", size / 1e6, "MB")
    with stage as advance, archive.open("rb") as content, _damage_explained(archive):
        for number, (name, is_regular, length, extract) in enumerate(_members(content)):
            path = PurePosixPath(name)
            left -= length
            if not is_regular:
                raise _refused(archive, f"holds '{name}', which is a link or a device")
            if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
                raise _refused(archive, f"holds '{name}', which leads out of its folder")
            if number >= MOST_FILES:
                raise _refused(archive, f"holds more than {MOST_FILES:,} files")
            if left < 0:
                raise _refused(archive, f"of {size:,} bytes unpacks to more than {GROWTH} times as much")
            try:
                if (folder / path).exists():
                    raise FileExistsError
                extract(folder)
            except (FileExistsError, NotADirectoryError) as error:
                raise _refused(archive, f"holds '{name}' twice, or below a file") from error
            except OSError as error:
                if error.errno is None:  # from gzip, about the archive
                    raise
                with writing(folder / path):
                    raise
            advance((content.tell() - done) / 1e6)
            done = content.tell()


def _members(content: IO[bytes]) -> Iterator[tuple[str, bool, int, Callable[[Path], object]]]:
    """Yield name, whether it is a regular file, size in bytes, and the function that extracts it, of all but folders."""
    if content.read(2) == b"PK":
        with zipfile.ZipFile(content) as unzipped:
            for info in unzipped.infolist():
                if not info.is_dir():
                    is_regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                    yield info.filename, is_regular, info.file_size, partial(unzipped.extract, info)
        return
    content.seek(0)
    with tarfile.open(fileobj=content, mode="r:gz") as untarred:
        for member in untarred:
            if not member.isdir():
                extract = partial(untarred.extract, member, set_attrs=False, filter="data")
                yield member.name, member.isreg(), member.size, extract
        # A damaged header looks like the end to tarfile; the checksum after the real end shows the difference.
        while untarred.fileobj and untarred.fileobj.read(CHUNK):
            pass


@contextmanager
def _damage_explained(archive: Path) -> Generator[None]:
    """Raise a `MarbleError` for any error of the two modules: a damaged archive may cause every kind."""
    try:
        yield
    except MarbleError:
        raise
    except Exception as error:
        raise MarbleError(
            f"The archive {archive} is damaged ({error or type(error).__name__}): remove it and fetch it again."
        ) from error


def _refused(origin: Path, reason: str) -> MarbleError:
    return MarbleError(f"{origin} {reason}, so nothing of it was unpacked: remove it and fetch the published one.")
