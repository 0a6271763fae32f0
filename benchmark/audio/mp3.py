"""The length of MP3 files: by their frames, where the tag that tells it is missing or wrong.

- An MP3 without a Xing or Info tag has no length; libsndfile 1.2 guesses one from the first bit rate and stops there. With a
  tag it stops where the tag says, so of joined files it reads the first.
- The frames are counted where the end of the file counts, or where the tag does not fit the bytes of the file. Where it counts
  too few, or itself, or where other tags follow, all frames of audio are read as one stream behind a new tag. The silence that
  encoders put around their audio (about 50 ms) stays in such a file, since the new tag does not tell it.
- Where the tag counts more frames than there are, the file is truncated, as its reading tells. A truncated MP3 without a tag
  cannot be recognised; it ends with its last whole frame.

Layout: ISO 11172-3 section 2.4 (MPEG frames); the tags as LAME writes them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from marble.audio.containers import BadAudioError, Content, after_id3

_KBIT = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def mended(path: Path, *, whole: bool = True) -> io.BytesIO | None:
    """Return the content of an MP3 with its true length, None where the file itself is right.

    Args:
        path: the file.
        whole: count its frames even where the tag fits its bytes.

    Raises:
        BadAudioError: its rate or its channels change.
        OSError: it cannot be read.
    """
    with Content(path) as file:
        if not whole and _tag_fits(file, after_id3(file, 0)):
            return None
        content = file[:]
    frames = list(mp3_frames(content))
    if not frames:
        return None
    headers = {content[frame : frame + 4] for frame in frames}
    if len({_kind(header) for header in headers}) > 1:
        raise BadAudioError("changes its rate or its channels, as joined files do: split it")
    tags = _tags(content, frames)
    audio = [frame for frame in frames if frame not in tags]
    end = frames[-1] + frame_bytes(content, frames[-1])
    stated = _stated_frames(content, frames[0]) if tags == {frames[0]} else 0
    counts_itself = stated == len(frames) and not frame_bytes(content, end)
    if stated >= len(audio) - 1 > 0 and not counts_itself:
        return None if frames[0] == after_id3(content, 0) else io.BytesIO(content[frames[0] :])
    stream = b"".join(content[frame : frame + frame_bytes(content, frame)] for frame in audio)
    return io.BytesIO(_new_tag(stream[:4], len(audio)) + stream) if audio else None


def _tag_fits(file: Content, begin: int) -> bool:
    """Tell whether the frame at a byte is a tag that tells a number of frames and the number of bytes that follow."""
    frame = file[begin : begin + 56].ljust(56, b"\0")
    if not frame_bytes(frame, 0):
        return False
    word, flags, _, size = struct.unpack_from(">4s3I", frame, 4 + _side_bytes(frame))
    rest = len(file) - begin - size
    return word in (b"Xing", b"Info") and flags & 3 == 3 and (rest == 0 or (rest == 128 and file[-128:-125] == b"TAG"))


def _tags(content: bytes, frames: Sequence[int]) -> set[int]:
    """Return the frames that are Xing or Info tags."""
    tags, starts = set(), set(frames)
    for word in (b"Xing", b"Info"):
        at = -1
        while (at := content.find(word, at + 1)) >= 0:
            tags |= {
                frame for frame in starts & {at - 13, at - 21, at - 36} if at - frame - 4 == _side_bytes(content[frame:at])
            }
    return tags


def _stated_frames(content: bytes, begin: int) -> int:
    """Return the number of frames that a tag tells, 0 where it does not."""
    at = begin + 8 + _side_bytes(content[begin : begin + 4])
    flags, frames = struct.unpack(">2I", content[at : at + 8].ljust(8, b"\0"))
    return frames if flags & 1 else 0


def _new_tag(header: bytes, frames: int) -> bytes:
    """Return a tag: a frame of the kind of another one at its ninth bit rate, large enough for it in every version."""
    begin = bytearray(header)
    begin[1] |= 1
    begin[2] = begin[2] & 0x0D | 0x90
    tag = bytes(begin) + bytes(_side_bytes(begin)) + b"Xing" + struct.pack(">2I", 1, frames)
    return tag.ljust(frame_bytes(begin, 0), b"\0")


def _side_bytes(header: bytes | bytearray) -> int:
    """Return the length of the side information after a frame header."""
    mono, first_version = header[3] >> 6 == 3, header[1] >> 3 & 3 == 3
    return (17 if mono else 32) if first_version else (9 if mono else 17)


def _kind(header: bytes) -> tuple[int, int, bool]:
    """Return what the frames of one stream share: version, rate, and whether they are mono."""
    return header[1] & 0x18, header[2] & 0x0C, header[3] >> 6 == 3


def frame_bytes(content: bytes | bytearray, begin: int) -> int:
    """Return the length of the MPEG layer III frame at a byte, 0 where there is none."""
    return _length(bytes(content[begin : begin + 3]))


@lru_cache(2**10)
def _length(header: bytes) -> int:
    if len(header) < 3 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate, hertz = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or hertz == 3:
        return 0
    bits = 1000 * _KBIT[3 if version == 3 else 2][rate - 1]
    return (144 if version == 3 else 72) * bits // _HERTZ[version][hertz] + (header[2] >> 1 & 1)


def mp3_frames(content: bytes) -> Iterator[int]:
    """Yield the first byte of each whole frame of an MP3; bytes between frames are passed over."""
    begin = after_id3(content, 0)
    while (length := frame_bytes(content, begin)) or (begin := _next_frame(content, begin)) >= 0:
        if length and begin + length <= len(content):
            yield begin
        begin += length


def _next_frame(content: bytes, begin: int) -> int:
    """Return the first byte of the next two frames of a kind in a row, -1 where there are none."""
    begin = after_id3(content, begin) - 1
    while (begin := content.find(b"\xff", begin + 1)) >= 0:
        following = begin + frame_bytes(content, begin)
        first, second = content[begin : begin + 4], content[following : following + 4]
        if begin < following and frame_bytes(second, 0) and len(second) == 4 and _kind(first) == _kind(second):
            return begin
    return -1
