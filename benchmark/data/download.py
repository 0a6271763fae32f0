"""From an address to a file that is whole, or to a sentence that says why not.

Conventions
-----------
- What arrives grows in ``.<name>.partial`` beside the file and is renamed when it is complete and its checksum is right.
- An interrupted transfer goes on where it ended (HTTP Range, If-Range) if the server still tells the version that is kept in
  ``.<name>.version`` (its ETag, else its Last-Modified); a server that does not know ranges or versions sends it anew.
- http and https alone; certificates are checked; nothing is decompressed.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from marble.errors import MarbleError
from marble.files import has_checksum, partial_of, writing
from marble.progress import Reporter

CHUNK = 1 << 18
_TIMEOUT = 60.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class NotTheFileError(MarbleError):
    """Who was asked answered, but not with the published file."""


def download(url: str, file: Path, checksum: str | None = None, reporter: Reporter | None = None) -> None:
    """Bring what an address gives to a file, which is replaced at the end.

    Args:
        url: the address.
        file: where to.
        checksum: sha256 or md5 of the content, in hex; None where none is known.
        reporter: shows the progress; silent by default.

    Raises:
        NotTheFileError: the server does not have the file, or another one.
        MarbleError: the server cannot be reached or trusted, or ends before the end, or the file cannot be written.
    """
    partial = partial_of(file)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    _transfer(url, partial, reporter or Reporter())
    _put_in_place(partial, file, checksum, url)


def copy(source: Path, file: Path, checksum: str | None = None) -> None:
    """Bring the content of another file to a file; as `download`."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial_of(file))
    _put_in_place(partial_of(file), file, checksum, str(source))


def _put_in_place(partial: Path, file: Path, checksum: str | None, origin: str) -> None:
    with writing(file):
        if checksum and not has_checksum(partial, checksum):
            _forget(partial)
            raise NotTheFileError(
                f"{origin} is not the published file (its checksum is not {checksum}) and was not kept: run the same command "
                "again, or name a folder with the right file with --mirror."
            )
        with partial.open("rb") as content:
            os.fsync(content.fileno())
        partial.replace(file)
        _forget(partial)


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.with_suffix(".version").unlink(missing_ok=True)


def _transfer(url: str, partial: Path, reporter: Reporter) -> None:
    """Complete a partial file."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise NotTheFileError(f"{url} is no http or https address: fetch it by hand.")
    stamp = partial.with_suffix(".version")
    known = stamp.read_text(errors="replace") if partial.exists() and stamp.exists() else ""
    known = known if known.isprintable() and known.isascii() else ""
    begun = partial.stat().st_size - 1 if known else 0  # the last byte is asked for again, so that there always is one to come
    headers = {"User-Agent": "marble", "Accept-Encoding": "identity"}
    if begun > 0:
        headers |= {"Range": f"bytes={begun}-", "If-Range": known}
    request = Request(url, headers=headers)  # noqa: S310  (the scheme is checked above)
    with _talking(url, partial), urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
        version = _version(response)
        length = response.headers.get("Content-Length") or ""
        total = int(length) if length.isdecimal() else 0
        if response.status == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
            if not found or int(found[1]) != begun or version != known:
                _forget(partial)
                raise NotTheFileError(f"{url} has changed since its transfer began: run the same command again.")
            total = int(found[2])
        with writing(partial):
            if response.status == 206:
                os.truncate(partial, begun)
            else:
                _forget(partial)
                begun = 0
                if version:
                    stamp.write_text(version)
            with partial.open("ab") as file, reporter.stage(f"fetch {file_name(url)}", total / 1e6, "MB") as advance:
                advance(begun / 1e6)
                for chunk in _chunks(response, url):
                    file.write(chunk)
                    advance(len(chunk) / 1e6)
    have = partial.stat().st_size
    if have < total:
        raise MarbleError(f"{url} ended after {have:,} of {total:,} bytes: run the same command again, which goes on there.")


def file_name(url: str) -> str:
    """Return the last part of an address."""
    return urlsplit(url).path.rpartition("/")[2]


def _version(response: HTTPResponse) -> str:
    """Return what tells two versions of a file apart, empty where the server says nothing."""
    tag = response.headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    with _talking(url):
        while chunk := response.read(CHUNK):
            yield chunk


@contextmanager
def _talking(url: str, partial: Path | None = None) -> Generator[None]:
    """Turn what goes wrong between two machines into a sentence."""
    mirror = "or fetch it by hand and name its folder with --mirror"
    try:
        yield
    except HTTPError as error:
        error.close()
        if error.code == 416 and partial:  # there is more here than there
            _forget(partial)
        raise NotTheFileError(f"{url} answers {error.code} ({error.reason}): try later, {mirror}.") from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):
            raise MarbleError(
                f"The certificate of {urlsplit(url).hostname} cannot be trusted ({reason.reason}), so {url} is not read: check "
                f"the clock and the certificates of this machine, {mirror}."
            ) from error
        raise MarbleError(
            f"{url} cannot be read ({reason or type(reason).__name__}): check the connection and run the same command again, "
            f"which goes on from there, {mirror}."
        ) from error
