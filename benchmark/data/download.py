"""Download a URL to a file that is whole, or raise a `MarbleError` that gives the reason.

Conventions
-----------
- The content grows in ``.<name>.partial`` beside the file and is renamed when it is complete and its checksum is right.
- An interrupted transfer continues where it ended (HTTP Range, If-Range) if the server still names the version that is kept in
  ``.<name>.version`` (its ETag, else its Last-Modified); a server without ranges or versions sends the file again.
- A transfer is bounded: by the known size of the file, else by the length that the server names, else by `MOST_UNKNOWN` bytes.
- It is given up after `PATIENCE` seconds of waiting for the connection, for the whole head of an answer, or for the next
  `LEAST_BYTES` of content. A link that loses packets may be silent for half of that, since TCP waits 1 + 2 + 4 + 8 s.
- http and https alone, after redirects too; certificates are checked; nothing is decompressed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from marble.errors import MarbleError
from marble.system.files import has_checksum, partial_of, put_in_place, writing
from marble.system.progress import Reporter

CHUNK = 1 << 18
MOST_UNKNOWN = 4 * 2**30
PATIENCE = 30.0
LEAST_BYTES = 30_000
_MOST_AT_ONCE = 2**20  # bytes that bring no content: headers, and what frames and ends pieces of content
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class NotTheFileError(MarbleError):
    """The server answered without the published file."""


def download(
    url: str, file: Path, checksum: str | None = None, reporter: Reporter | None = None, size: int | None = None
) -> None:
    """Download a URL to a file, atomically.

    Args:
        url: http or https.
        file: the target; an older file is replaced at the end.
        checksum: sha256 or md5 of the content, in hex; None where none is known.
        reporter: shows the progress; silent by default.
        size: the most bytes to accept; None where the size is not known.

    Raises:
        NotTheFileError: the server does not have the file, or a different one.
        MarbleError: the server cannot be reached or trusted, is too slow, or stops early, or the file cannot be written.
    """
    beside = partial_of(file)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    _transfer(url, beside, size, reporter or Reporter())
    _check_and_place(beside, file, checksum, url)


def copy(source: Path, file: Path, checksum: str | None = None) -> None:
    """Copy a file to a file, atomically; as `download`."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial_of(file))
    _check_and_place(partial_of(file), file, checksum, str(source))


def _check_and_place(beside: Path, file: Path, checksum: str | None, origin: str) -> None:
    with writing(file):
        if checksum and not has_checksum(beside, checksum):
            _forget(beside)
            raise NotTheFileError(
                f"{origin} is not the published file (its checksum is not {checksum}) and was not kept: run the same command "
                "again, or name a folder with the right file with --mirror."
            )
        put_in_place(beside, file)
        _forget(beside)


def _forget(beside: Path) -> None:
    beside.unlink(missing_ok=True)
    beside.with_suffix(".version").unlink(missing_ok=True)


def _transfer(url: str, beside: Path, size: int | None, reporter: Reporter) -> None:
    """Complete a partial file."""
    _refuse_scheme(url, url)
    begun, known = _begun(beside)
    headers = {"User-Agent": "marble", "Accept-Encoding": "identity"}
    if begun > 0:
        headers |= {"Range": f"bytes={begun}-", "If-Range": known}
    request = Request(url, headers=headers)  # noqa: S310  (the scheme is checked above)
    with _failures_explained(url, beside), build_opener(_Redirects, _Http, _Https).open(request, timeout=PATIENCE) as response:
        version = _version(response)
        length = response.headers.get("Content-Length") or ""
        total = int(length) if length.isdecimal() else 0
        if response.status == 206:
            sent = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
            if not sent or int(sent[1]) != begun or version != known:
                _forget(beside)
                raise NotTheFileError(f"{url} has changed since its transfer began: run the same command again.")
            total = int(sent[2])
        with writing(beside):
            if response.status == 206:
                os.truncate(beside, begun)
            else:
                _forget(beside)
                begun = 0
                if version:
                    beside.with_suffix(".version").write_text(version)
            have, most = begun, size or total or MOST_UNKNOWN
            with beside.open("ab") as file, reporter.stage(f"fetch {file_name(url)}", total / 1e6, "MB") as advance:
                advance(begun / 1e6)
                for chunk in _chunks(response, url):
                    have += len(chunk)
                    if max(have, total) > most:
                        _forget(beside)
                        fault = "its published size" if size else "without saying how many"
                        raise NotTheFileError(
                            f"{url} gives more than {most:,} bytes, {fault}: fetch it by hand, "
                            "and name its folder with --mirror."
                        )
                    file.write(chunk)
                    advance(len(chunk) / 1e6)
    if have < total:
        raise MarbleError(f"{url} ended after {have:,} of {total:,} bytes: run the same command again, which goes on there.")


def _begun(beside: Path) -> tuple[int, str]:
    """Return where a transfer continues, in bytes, and the version that it continues."""
    stamp = beside.with_suffix(".version")
    known = stamp.read_text(errors="replace") if beside.exists() and stamp.exists() else ""
    if not known.isprintable() or not known.isascii() or not known:
        return 0, ""
    return beside.stat().st_size - 1, known  # one byte is fetched again, so that the answer is never empty


def _refuse_scheme(url: str, origin: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        way = "is" if url == origin else f"leads to {url}, which is"
        raise NotTheFileError(f"{origin} {way} no http or https address: fetch it by hand.")


class _Redirects(HTTPRedirectHandler):
    """Follow redirects to http and https alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Return the request of a redirect, unless it leaves http and https; what it says in its body is not read."""
        _refuse_scheme(newurl, req.full_url)
        further = super().redirect_request(req, fp, code, msg, headers, newurl)
        fp.close()
        return further


class _Incoming(io.RawIOBase):
    """The bytes from a server, of which each allowance is `PATIENCE` seconds of waiting and `_MOST_AT_ONCE` bytes."""

    def __init__(self, connection: socket.socket, stream: io.RawIOBase):
        self._connection, self._stream = connection, stream
        self.allow(f"no answer in {PATIENCE:g} s")

    def allow(self, why: str) -> None:
        """Begin an allowance; `why` is the reason where its time runs out."""
        self._why, self._seconds, self._bytes = why, PATIENCE, _MOST_AT_ONCE

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # ty: ignore
        """Read some bytes."""
        if self._bytes <= 0:
            raise OSError("its answer has no end")
        began = time.monotonic()
        try:
            self._connection.settimeout(max(self._seconds, 1e-3))
            count = self._stream.readinto(buffer)
        except TimeoutError as error:
            raise TimeoutError(self._why) from error
        self._seconds -= time.monotonic() - began
        self._bytes -= count or 0
        return count

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer whose bytes are `incoming`."""

    def __init__(self, connection: socket.socket, *arguments, **options):
        super().__init__(connection, *arguments, **options)
        self.incoming = _Incoming(connection, self.fp.detach())
        self.fp = io.BufferedReader(self.incoming)


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        """Open an http address."""
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        """Open an https address."""
        return self.do_open(_SecureConnection, req)


def file_name(url: str) -> str:
    """Return the last part of an address."""
    return urlsplit(url).path.rpartition("/")[2]


def _version(response: HTTPResponse) -> str:
    """Return the strong ETag of a file, else its Last-Modified date, else ""."""
    tag = response.headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    """Yield the content as it arrives, as long as it arrives fast enough."""
    count = LEAST_BYTES
    with _failures_explained(url):
        while True:
            if count >= LEAST_BYTES:
                response.incoming.allow(  # ty: ignore
                    f"fewer than {LEAST_BYTES:,} bytes in {PATIENCE:g} s"
                )
                count = 0
            if not (chunk := response.read1(CHUNK)):
                return
            count += len(chunk)
            yield chunk


@contextmanager
def _failures_explained(url: str, beside: Path | None = None) -> Generator[None]:
    """Raise a `MarbleError` for a failure of the network or of the server."""
    mirror = "or fetch it by hand and name its folder with --mirror"
    try:
        yield
    except HTTPError as error:
        error.close()
        if error.code == 416 and beside:  # the partial file is longer than the offered one
            _forget(beside)
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
