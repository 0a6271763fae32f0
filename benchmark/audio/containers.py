"""The length of audio files by their headers, where libsndfile trusts a header too much or too little.

- libsndfile reads a truncated WAV, AIFF, AU or Ogg file to its end without an error: `missing_bytes` counts the bytes that
  the header promises and the file lacks.
- A streamed WAV has placeholders for sizes; where the placeholder is 0, libsndfile reads no audio.
- An MP3 without a Xing or Info tag has no length at all; libsndfile 1.2 guesses one from the first bit rate and stops there.
  `with_length` returns the bytes of such WAV and MP3 files with the length written in. A truncated MP3 without a tag cannot be
  recognised; it ends with its last whole frame.

Layouts: RIFF and AIFF (IFF) chunks, EBU Tech 3306 (RF64), RFC 3533 (Ogg pages), ISO 11172-3 section 2.4 (MPEG frames).
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_KBIT = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def missing_bytes(path: Path, container: str) -> int:
    """Return the number of bytes of audio that a header promises and the file lacks.

    Args:
        path: the file.
        container: its format as libsndfile calls it; the number is 0 for formats that libsndfile checks itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if container in ("WAV", "WAVEX", "RF64", "AIFF"):
            data = _data_chunk(file, size)
            return 0 if data is None or _is_placeholder(data.length) else data.begin + data.length - size
        if container == "AU":
            magic = file.read(4)
            begin, length = struct.unpack("<2I" if magic == b"dns." else ">2I", file.read(8))
            return 0 if _is_placeholder(length) else begin + length - size
        return _missing_ogg_bytes(file, size) if container == "OGG" else 0


def with_length(path: Path, container: str) -> io.BytesIO | mmap.mmap | None:
    """Return the bytes of a WAV or MP3 file with the length that its header lacks; None where it lacks none.

    A WAV is mapped, not read, whatever its size.
    """
    if container in ("WAV", "WAVEX"):
        return _sized_wav(path)
    return _tagged_mp3(path) if container == "MP3" else None


class _Data(NamedTuple):
    """The first byte of the samples in a chunked file, and their number of bytes."""

    begin: int
    length: int


def _is_placeholder(length: int) -> bool:
    """Tell whether a length is a placeholder of streaming programs: the largest that fits, or a little less."""
    return 0x7FFF0000 <= length <= 0x80000000 or 0xFFFF0000 <= length <= 0xFFFFFFFF


def _data_chunk(file: BinaryIO, size: int) -> _Data | None:
    """Return the data chunk of a RIFF, RIFX, RF64 or AIFF file, None where it has none."""
    form = file.read(12)[:4]
    order, wanted = (">" if form in (b"FORM", b"RIFX") else "<"), (b"SSND" if form == b"FORM" else b"data")
    position, long_length = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"ds64":
            _, long_length = struct.unpack("<2Q", file.read(16))
        if name == wanted:
            return _Data(position + 8, long_length if form == b"RF64" and length == 0xFFFFFFFF else length)
        position += 8 + length + length % 2
    return None


def _missing_ogg_bytes(file: BinaryIO, size: int) -> int:
    """Return the bytes that the last page of an Ogg file lacks; 1 where it is whole but not marked as the last."""
    file.seek(max(0, size - 2**17))
    tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    table = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(table) < page[26]:
        return 27
    lacking = 27 + len(table) + sum(table) - len(page)
    return lacking if lacking > 0 else int(not page[5] & 4)


def _sized_wav(path: Path) -> mmap.mmap | None:
    size = path.stat().st_size
    with path.open("rb") as file:
        data = _data_chunk(file, size)
        if data is None or data.length or data.begin >= size:
            return None
        file.seek(0)
        form, outer = struct.unpack("4sI", file.read(8))
        if form != b"RIFF" or outer + 8 == size:
            return None
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    content[data.begin - 4 : data.begin] = struct.pack("<I", size - data.begin)
    return content


def _tagged_mp3(path: Path) -> io.BytesIO | None:
    with path.open("rb") as file:
        head = file.read(10)
        begin = _id3_bytes(head)
        file.seek(begin)
        if _has_length_tag(file.read(2**12)):
            return None
        file.seek(begin)
        content = file.read()
    frames = list(_mp3_frames(content))
    if not frames:
        return None
    # The tag is a frame of the first one's kind at its ninth bit rate, large enough for it in every version.
    header = bytearray(content[frames[0] : frames[0] + 4])
    header[1] |= 1
    header[2] = header[2] & 0x0D | 0x90
    length = _frame_bytes(header, 0)
    tag = bytes(header) + bytes(_side_bytes(header)) + b"Xing" + struct.pack(">2I", 1, len(frames))
    return io.BytesIO(tag.ljust(length, b"\0") + content[frames[0] :])


def _id3_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 tag at the start of a file."""
    if head[:3] != b"ID3":
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _has_length_tag(frame: bytes) -> bool:
    """Tell whether the first frame of an MP3 is a Xing or Info tag with the number of frames."""
    tag = 4 + _side_bytes(frame) if _frame_bytes(frame, 0) else len(frame)
    return frame[tag : tag + 4] in (b"Xing", b"Info") and bool(frame[tag + 7] & 1)


def _side_bytes(header: bytes | bytearray) -> int:
    """Return the length of the side information after a frame header."""
    mono, first_version = header[3] >> 6 == 3, header[1] >> 3 & 3 == 3
    return (17 if mono else 32) if first_version else (9 if mono else 17)


def _frame_bytes(content: bytes | bytearray, begin: int) -> int:
    """Return the length of the MPEG layer III frame at a byte, 0 where there is none."""
    header = content[begin : begin + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate, hertz = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or hertz == 3:
        return 0
    bits = 1000 * _KBIT[3 if version == 3 else 2][rate - 1]
    return (144 if version == 3 else 72) * bits // _HERTZ[version][hertz] + (header[2] >> 1 & 1)


def _mp3_frames(content: bytes) -> Iterator[int]:
    """Yield the first byte of each whole frame of an MP3; bytes between frames are ignored."""
    begin = 0
    while (length := _frame_bytes(content, begin)) or (begin := _next_frame(content, begin)) >= 0:
        if length and begin + length <= len(content):
            yield begin
        begin += length


def _next_frame(content: bytes, begin: int) -> int:
    """Return the first byte of the next two frames in a row, -1 where there are none."""
    while (begin := content.find(b"\xff", begin + 1)) >= 0:
        length = _frame_bytes(content, begin)
        if length and _frame_bytes(content, begin + length):
            return begin
    return -1
