"""Files that the owners of a dataset publish: found under the data root, checked by content, and missed in one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from marble.errors import MarbleError, reason


def official_bytes(file: Path, sha256: str | None, address: str) -> bytes:
    """Return the content of a published annotation file.

    Args:
        file: where it is expected.
        sha256: of its content; None where no checksum is known.
        address: where it is to be had, for the error.

    Raises:
        MarbleError: the file is not there, or is not the published one.
    """
    if not file.is_file():
        raise MarbleError(f"{file.absolute()} is missing: fetch {address} and put it there, or see marble data status.")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MarbleError(f"{file.absolute()} cannot be read ({reason(error)}): mend that.") from error
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise MarbleError(f"{file.absolute()} is not the published one: fetch {address} anew.")
    return content


def existing_folder(candidates: Iterable[Path], what: str, address: str) -> Path:
    """Return the first of some folders that exists.

    Args:
        candidates: the preferred one first; the error names that one.
        what: what should be in it.
        address: where that is to be had.

    Raises:
        MarbleError: none of them exists.
    """
    wanted = list(candidates)
    found = next((folder for folder in wanted if folder.is_dir()), None)
    if found is None:
        raise MarbleError(
            f"There is no folder {wanted[0].absolute()} with {what}: get it from {address}, or see marble data status."
        )
    return found
