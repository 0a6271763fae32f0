"""From an audio file to a mono waveform at the wanted rate, or to the reason why not.

Conventions
-----------
- Formats: what libsndfile reads (wav, flac, ogg, opus, mp3, aiff, au). Channels are averaged; soxr "HQ" resamples.
- A waveform is float32, nominally in [-1, 1]; nothing is normalised.
- A file is *bad*, with a reason in words, when it is missing, unreadable, empty, no audio, wrongly named (mp3 data in a
  .wav), truncated, without samples, not finite, or silent (no sample above -100 dB). Bad audio is never repaired.
- Windows: consecutive pieces of a fixed length every `hop`; the rest behind the last one is a shorter window of its own
  where it lasts at least `tail`. A clip shorter than one window is one window. Nothing is padded or wrapped.

`VERSION` is part of the key of the feature cache: raise it whenever a change here changes a sample.
This module imports no torch, so that decoding workers start at once.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

VERSION = 1
EXTENSIONS = {
    ".wav": ("WAV", "WAVEX", "RF64", "W64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".oga": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3", "MPEG"),
    ".aif": ("AIFF",),
    ".aiff": ("AIFF",),
    ".aifc": ("AIFF",),
    ".au": ("AU",),
    ".snd": ("AU",),
}
SILENCE = 1e-5
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)


class BadAudioError(Exception):
    """Audio that must not be used; its text is the reason, ready to follow "PATH: "."""


def load(path: Path, sample_rate: int, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    """Return the excerpt of a file between two times as a mono waveform.

    Args:
        path: the file.
        sample_rate: of the result, in Hz.
        start: in seconds.
        stop: in seconds; None is the end of the file.

    Returns:
        float32[N], at `sample_rate`.

    Raises:
        BadAudioError: with the reason.
    """
    samples, rate = _decode(path, start, stop)
    if not len(samples):
        raise BadAudioError("holds 0 samples")
    if not np.isfinite(samples).all():
        raise BadAudioError("holds samples that are not finite numbers")
    mono = samples.mean(axis=1, dtype=np.float32)
    if np.abs(mono).max() < SILENCE:
        raise BadAudioError("is silent (no sample of the mono mix above -100 dB)")
    return mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate, quality="HQ")


def seconds(path: Path) -> float:
    """Return the length of a file in seconds, as its header tells it.

    Raises:
        BadAudioError: with the reason.
    """
    with _open(path) as file:
        return file.frames / file.samplerate


def windows(samples: int, length: int | None, hop: int, tail: int) -> list[slice]:
    """Cut a waveform into windows.

    Args:
        samples: length of the waveform.
        length: of a window, in samples; None is the whole waveform.
        hop: distance of two windows, in samples.
        tail: the rest behind the last full window is kept from this length on, in samples.

    Returns:
        At least one slice; all but the last have `length` samples.
    """
    if length is None or samples <= length:
        return [slice(0, samples)]
    full = [slice(begin, begin + length) for begin in range(0, samples - length + 1, hop)]
    if samples - full[-1].stop >= max(tail, 1):
        full.append(slice(full[-1].start + hop, samples))
    return full


def _decode(path: Path, start: float, stop: float | None) -> tuple[np.ndarray, int]:
    """Return samples float32[N, channels] and the rate in Hz."""
    with _open(path) as file:
        begin = round(start * file.samplerate)
        end = file.frames if stop is None else round(stop * file.samplerate)
        length = file.frames / file.samplerate
        if begin >= file.frames > 0 or end > file.frames + 0.05 * file.samplerate:
            raise BadAudioError(
                f"is {length:.2f} s long and ends before the clip from {start:g} s to {end / file.samplerate:g} s"
            )
        end = min(end, file.frames)
        try:
            file.seek(begin)
            samples = file.read(end - begin, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise BadAudioError(f"is corrupt or truncated ({error.error_string.strip(' .')})") from error
        if len(samples) < end - begin:
            raise BadAudioError(
                f"is truncated: its header tells {length:.2f} s, its data ends at {len(samples) / file.samplerate:.2f} s"
            )
        return samples, file.samplerate


def _open(path: Path) -> soundfile.SoundFile:
    try:
        size = path.stat().st_size
        if not size:
            raise BadAudioError("is an empty file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise BadAudioError(f"cannot be read ({(error.strerror or str(error)).lower()})") from error
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise BadAudioError("is not audio that libsndfile reads, or is corrupt from its first byte") from error
    try:
        _refuse_wrong_name(path, file.format)
        _refuse_truncation(path, file.format, size)
    except BadAudioError:
        file.close()
        raise
    return file


def _refuse_wrong_name(path: Path, found: str) -> None:
    expected = EXTENSIONS.get(path.suffix.lower())
    if expected and found not in expected:
        raise BadAudioError(f"is wrongly named: it holds {found} data")


def _refuse_truncation(path: Path, found: str, size: int) -> None:
    """Refuse what libsndfile reads to the end without a word: RIFF and AIFF data or Ogg pages that stop early."""
    with path.open("rb") as file:
        if found in ("WAV", "WAVEX", "AIFF"):
            missing = _missing_chunk_bytes(file.read(12), file, size)
            if missing > 0:
                raise BadAudioError(f"is truncated: {missing} bytes of its audio data are missing")
        elif found == "OGG":
            file.seek(max(0, size - 2**17))
            page = file.read()
            last = page.rfind(b"OggS")
            if last < 0 or len(page) < last + 27 or not page[last + 5] & 4:
                raise BadAudioError("is truncated: its last Ogg page is not marked as the end")


def _missing_chunk_bytes(head: bytes, file, size: int) -> int:
    """Return how many bytes the data chunk of a RIFF or AIFF file lacks."""
    order, data = (">", b"SSND") if head[:4] in (b"FORM", b"RIFX") else ("<", b"data")
    data = b"data" if head[:4] == b"RIFX" else data
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == data:
            return 0 if length in _UNKNOWN_SIZES else position + 8 + length - size
        position += 8 + length + length % 2
    return 0


def is_audio_name(name: str) -> bool:
    """Tell whether a file name has the extension of a format that marble reads."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122  (names, not paths: a folder walk calls this often)
