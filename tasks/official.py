"""Published annotation files and audio folders of a dataset: read, compared with their checksums, or reported as missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from marble.errors import MarbleError, reason


def official_bytes(file: Path, sha256: str | None, address: str) -> bytes:
    """Return the content of a published annotation file.

    Args:
        file: its path.
        sha256: of its content; None where no checksum is known.
        address: its URL, for the error.

    Raises:
        MarbleError: the file is missing, cannot be read, or is not the published one.
    """
    if not file.is_file():
        raise MarbleError(f"{file.absolute()} is missing: fetch {address} and put it there, or see marble data status.")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MarbleError(f"{file.absolute()} cannot be read ({reason(error)}): mend that.") from error
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise MarbleError(f"{file.absolute()} is not the published one: fetch {address} again.")
    return content


def existing_folder(candidates: Iterable[Path], what: str, address: str) -> Path:
    """Return the first of some folders that exists.

    Args:
        candidates: in order of preference; the error names the first.
        what: its content, for the error.
        address: the URL of the content, for the error.

    Raises:
        MarbleError: none of them exists.
    """
    folders = list(candidates)
    for folder in folders:
        if folder.is_dir():
            return folder
    raise MarbleError(
        f"There is no folder {folders[0].absolute()} with {what}: get it from {address}, or see marble data status."
    )
