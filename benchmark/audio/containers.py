"""The content of an audio file by its own structure, where libsndfile trusts a header too much or too little.

`mended` and `marble.audio.mp3.mended` compare each header with the file, before libsndfile reads it.

- *Truncated*: libsndfile reads a cut WAV, AIFF, AU or Ogg file to its end without an error. The file is bad where a header
  promises more than `SLACK` bytes that it lacks, or its last Ogg page is cut. Fewer missing bytes are no loss: programs count
  their header among the samples, leave out the last odd byte, or end inside a frame.
- *Longer than its header*: libsndfile reads the first part of joined files alone. The file is bad where samples go on after
  the length in the header, where a second FLAC stream follows, or where an Ogg stream begins after another one. What may
  follow are chunks, tags and zeros. A FLAC whose header tells too little gets the length of its last frame.
  To find a second stream is to read all of the file, so it is looked for only where the end of the file counts.
- *Without a length*: streaming programs write a placeholder (0, or the largest number), or leave the end of an Ogg file
  unmarked. The length or the mark is written into a copy in memory, which maps the file.

Layouts: RIFF and AIFF (IFF) chunks, EBU Tech 3306 (RF64), RFC 3533 (Ogg pages), RFC 9639 (FLAC), ID3v2.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

SLACK = 128  # bytes: more than the usual headers of WAV (44 to 80) and than a frame of 32 channels
JOINED = "holds more than the length in its header, as joined files do: split it, or write it again as flac"
_FORMS = (b"RIFF", b"RIFX", b"RF64", b"FORM")
_NAME = re.compile(rb"[\w ]{4}|\(c\) ")  # of a chunk; the latter is the copyright of an AIFF
_BLOCK = 2**20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class BadAudioError(Exception):
    """Audio that must not be used; its text is the reason, worded to follow the path."""


class Content:
    """The bytes of a file, read where they are asked for; slices of it are bytes. A context manager.

    A map of the file would be shorter, and end the process where a disk fails.
    """

    def __init__(self, path: Path):
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(self._size)
        return os.pread(self._file.fileno(), max(0, end - begin), begin)

    def number(self, form: str, at: int) -> int:
        """Return the number at a byte, in a form of `struct`; what lies after the end of the file is 0."""
        size = struct.calcsize(form)
        return struct.unpack(form, self[at : at + size].ljust(size, b"\0"))[0]

    def find(self, pattern: bytes, begin: int) -> int:
        """Return where a regular expression first fits from a byte on, at most 64 bytes long; -1 where it does not."""
        while begin < self._size:
            if match := re.search(pattern, self[begin : begin + _BLOCK + 64]):
                return begin + match.start()
            begin += _BLOCK
        return -1


def mended(path: Path, *, whole: bool = True) -> mmap.mmap | None:
    """Return a copy of a WAV, AIFF, AU, Ogg or FLAC file with its true length, None where the file itself is right.

    Args:
        path: the file.
        whole: read all of it, and not its ends alone.

    Raises:
        BadAudioError: the file is truncated, or holds more than libsndfile would read.
        OSError: it cannot be read.
    """
    with Content(path) as content:
        begin = after_id3(content, 0)
        magic = content[begin : begin + 4]
        if magic in _FORMS:
            change = _change_of_chunks(content, begin)
        elif magic in (b".snd", b"dns."):
            form = ">I" if magic == b".snd" else "<I"
            change = _change_of_samples(content, begin + content.number(form, begin + 4), begin + 8, form)
        elif magic == b"OggS":
            change = _change_of_ogg(content, begin, whole)
        else:
            change = _change_of_flac(content, begin, whole) if magic == b"fLaC" else None
    if change is None:
        return None
    with path.open("rb") as file:
        copy = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    copy[change.at : change.at + len(change.content)] = change.content
    return copy


class _Change(NamedTuple):
    """The bytes that are right from a byte on."""

    at: int
    content: bytes


def after_id3(content: bytes | Content, begin: int) -> int:
    """Return the first byte after the ID3v2 tags at a byte."""
    while (head := content[begin : begin + 10])[:3] == b"ID3":
        begin += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False))
    return begin


def _change_of_chunks(content: Content, begin: int) -> _Change | None:
    """Check the chunk of samples of a RIFF, RIFX, RF64 or AIFF file."""
    form = content[begin : begin + 4]
    order, samples = (">" if form in (b"FORM", b"RIFX") else "<"), (b"SSND" if form == b"FORM" else b"data")
    at, long_length = begin + 12, 0
    while at + 8 <= len(content):
        name, length = struct.unpack(f"{order}4sI", content[at : at + 8])
        if name == b"ds64":
            long_length = at + 16
        if name == samples and length == 0xFFFFFFFF and long_length:
            return _change_of_samples(content, at + 8, long_length, "<Q")
        if name == samples:
            return _change_of_samples(content, at + 8, at + 4, f"{order}I")
        at += 8 + length + length % 2
    return None


def _change_of_samples(content: Content, begin: int, field: int, form: str) -> _Change | None:
    """Check the length of the samples that begin at a byte; it stands at `field` in the given form."""
    length, room = content.number(form, field), len(content) - begin
    largest = 2 ** (8 * struct.calcsize(form))
    if length == 0 and not _is_tail(content, begin, form[0]):
        length = largest - 1
    elif largest // 2 - 2**16 <= length <= largest // 2 or length >= largest - 2**16:
        if form[1] == "I":
            return None  # libsndfile knows these
    elif length - room > SLACK:
        raise BadAudioError(f"is truncated: at least {length - room} bytes of its audio are missing")
    elif _is_tail(content, begin + length + length % 2, form[0]) or _is_tail(content, begin + length, form[0]):
        return None
    else:
        raise BadAudioError(JOINED)
    return _Change(field, struct.pack(form, max(0, min(room, length))))


def _is_tail(content: Content, begin: int, order: str) -> bool:
    """Tell whether nothing but chunks, tags and zeros follows from a byte on."""
    while len(content) - begin > SLACK and content.find(rb"[^\0]", begin) >= 0:
        name, length = struct.unpack(f"{order}4sI", content[begin : begin + 8])
        if name.startswith((b"TAG", b"ID3", b"APET", b"LYRI")):
            return True
        if name in (*_FORMS, b"data", b"SSND", b".snd") or not _NAME.fullmatch(name):
            return False
        begin += 8 + length + length % 2
    return True


def _change_of_ogg(content: Content, begin: int, whole: bool) -> _Change | None:
    """Check the pages of an Ogg file, and mark the last one as such."""
    if not whole:
        ends = max(begin, len(content) - 2**17)
        begin = ends + max(0, content[ends:].rfind(b"OggS"))
    last, goes_on = begin, False
    while (at := begin if content[begin : begin + 4] == b"OggS" else content.find(b"OggS", begin)) >= 0:
        head = content[at : at + 27 + 255]
        table = head[27 : 27 + head[26]] if len(head) >= 27 else b""
        if len(head) < 27 or len(table) < head[26]:
            raise BadAudioError("is truncated: at least 27 bytes of its audio are missing")
        first_of_stream = bool(head[5] & 2)
        if first_of_stream and goes_on:
            raise BadAudioError(JOINED)
        goes_on = goes_on or not first_of_stream
        last, begin = at, at + 27 + len(table) + sum(table)
    if begin > len(content):
        raise BadAudioError(f"is truncated: at least {begin - len(content)} bytes of its audio are missing")
    page = bytearray(content[last:begin])
    if page[5] & 4:
        return None
    page[5] |= 4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _ogg_checksum(page))
    return _Change(last, bytes(page))


def _ogg_checksum(page: bytes | bytearray) -> int:
    """Return the CRC-32 of an Ogg page: the polynomial of zlib's, its bits in the other order, without inversion."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)


class _FlacFrame(NamedTuple):
    """The header of a FLAC frame: its number (of the frame, or of its first sample), its samples, what all frames share."""

    number: int
    samples: int
    constant: bytes


def _change_of_flac(content: Content, begin: int, whole: bool) -> _Change | None:
    """Check the number of samples in the header of a FLAC file with the last frame."""
    at, is_last = begin + 4, 0
    while not is_last and at + 4 <= len(content):
        block = content.number(">I", at)
        is_last = block >> 31
        at += 4 + (block & 0xFFFFFF)
    if whole and content.find(rb"fLaC[\x00\x80]\x00\x00\x22", at) >= 0:
        raise BadAudioError(JOINED)
    first = _flac_frame(content[at : at + 16])
    last = first and _last_flac_frame(content[max(at, len(content) - _BLOCK) :], first)
    if first is None or last is None:
        return None
    samples = last.number * (1 if first.constant[0] & 1 else first.samples) + last.samples
    field = content.number(">Q", begin + 18)
    stated = field & (2**36 - 1)
    return _Change(begin + 18, (field - stated + samples).to_bytes(8, "big")) if stated < samples < 2**36 else None


def _last_flac_frame(content: bytes, first: _FlacFrame) -> _FlacFrame | None:
    """Return the header of the last frame of the stream of a first one."""
    end = len(content)
    while (end := content.rfind(b"\xff", 0, end)) >= 0:
        frame = _flac_frame(content[end : end + 16])
        if frame and frame.constant == first.constant:
            return frame
    return None


def _flac_frame(head: bytes) -> _FlacFrame | None:
    """Return the frame header that begins with these bytes, None where there is none."""
    head = head.ljust(16, b"\0")
    code, rate, ones = head[2] >> 4, head[2] & 15, 8 - (head[4] ^ 0xFF).bit_length()
    if head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1 or code == 0 or rate == 15 or ones in (1, 8):
        return None
    number, end = head[4] & 0x7F >> ones, 4 + max(ones, 1)  # coded as UTF-8 codes a letter
    for byte in head[5:end]:
        number = number << 6 | byte & 0x3F
    written = {6: 1, 7: 2}.get(code, 0)
    if written:
        samples = int.from_bytes(head[end : end + written], "big") + 1
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    end += written + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if _flac_checksum(head[:end]) != head[end]:
        return None
    return _FlacFrame(number, samples, bytes((head[1], rate, head[3] & 0x0E)))


def _flac_checksum(head: bytes) -> int:
    """Return the CRC-8 of a frame header, polynomial 0x07."""
    value = 0
    for byte in head:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value
