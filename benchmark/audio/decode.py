"""Decode an audio file to a mono waveform at the wanted rate, or give the reason why it is bad; cut waveforms into windows.

Conventions
-----------
- Formats: wav, flac, ogg, opus, mp3, aiff and au, as libsndfile reads them, once `marble.audio.containers` and
  `marble.audio.mp3` have compared header and file. Channels are averaged unless one is chosen; soxr "HQ" resamples.
- A file is read and resampled in blocks, so memory holds its waveform at the wanted rate and little else. soxr's stream
  gives what it gives for the whole at once, bit by bit.
- A waveform is float32, nominally in [-1, 1]; nothing is normalised.
- A file is *bad*, with a reason in words, when it is missing, unreadable, empty, no audio, wrongly named (mp3 data in a
  .wav), truncated, longer than its header tells, without samples, not finite, silent (no sample above -100 dB), of a rate
  outside `RATES`, or when its channels cancel (their sum has less than `CANCELLED` of the energy of the loudest one). Samples
  are never repaired. The stop of a clip may lie up to 0.05 s after the end of its file, since annotations are rounded.
- Windows: consecutive pieces of a fixed length every `hop`; the rest after the last one is a shorter window of its own
  where it lasts at least `tail`. A clip shorter than one window is one window. Nothing is padded or wrapped.

`VERSION` is part of the key of the feature cache: raise it whenever a change here changes a sample.
This module imports no torch, so that decoding workers start at once.
"""

from __future__ import annotations

import io
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr

from marble.audio import containers, mp3
from marble.audio.containers import BadAudioError
from marble.errors import reason

VERSION = 2
EXTENSIONS = {
    ".wav": ("WAV", "WAVEX", "RF64"),
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
CANCELLED = 0.01  # of the energy of the loudest channel: 16 bit leave 1e-8 of antiphase channels, and 2e-3 of quiet ones
Channels = Literal["mean", "left", "loudest"]
RATES = range(1_000, 1_000_001)  # Hz; at 1 Hz a WAV of 2 kB would become gigabytes
_OVERHANG = 0.05
_UNKNOWN_FRAMES = 2**62
_BLOCK = 2**20  # samples that are read at once
# An MPEG frame may use up to 511 bytes of those before it (ISO 11172-3, main_data_begin): at most 16 frames of 1152 samples.
_MP3_LEAD = 16 * 1152


class _SoundFile(soundfile.SoundFile):
    """A file to read in blocks: soundfile seeks after each read if it may, and MP3 decodes to other samples after a seek."""

    def seekable(self) -> bool:
        """Return False, which keeps soundfile from the seek."""
        return False


def load(
    path: Path, sample_rate: int, start: float = 0.0, stop: float | None = None, channels: Channels = "mean"
) -> np.ndarray:
    """Return the excerpt of a file between two times as a mono waveform.

    Args:
        path: the file.
        sample_rate: of the result, in Hz.
        start: in seconds.
        stop: in seconds; None is the end of the file.
        channels: which are heard: the mean of all, the left (first) one, or the one with the most energy in the excerpt.

    Returns:
        float32[N], at `sample_rate`.

    Raises:
        BadAudioError: with the reason.
    """
    return np.concatenate(list(blocks(path, sample_rate, start, stop, channels)))


def blocks(
    path: Path, sample_rate: int, start: float = 0.0, stop: float | None = None, channels: Channels | int = "mean"
) -> Iterator[np.ndarray]:
    """Yield the waveform of `load` in pieces, whose sum does not depend on where they are cut.

    A whole number for `channels` is that of one channel, modulo how many there are.

    A `channel` is the number, modulo that of the channels, of the one that is heard instead of their mean.

    Raises:
        BadAudioError: with the reason, perhaps after some pieces, which then must not be used.
    """
    loudest = _loudest(path, start, stop) if channels == "loudest" else 0
    with _open_until(path, stop) as file:
        channel = channels % file.channels if isinstance(channels, int) else loudest
        rate, (begin, end) = file.samplerate, _excerpt(file, start, stop)
        stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ") if rate != sample_rate else None
        peak, length, read = np.float32(0), 0, begin
        products = np.zeros((file.channels, file.channels))
        for samples in _read(file, begin, end):
            read += len(samples)
            with np.errstate(over="ignore", invalid="ignore"):
                if channels == "mean":
                    mono = samples.mean(axis=1, dtype=np.float32)
                    products += samples.T @ samples
                else:
                    mono = np.ascontiguousarray(samples[:, channel])
            peak = np.maximum(peak, np.abs(mono).max())  # NaN where one is NaN
            if stream:
                mono = stream.resample_chunk(mono, last=read == end)
            length += len(mono)
            yield mono
    if not np.isfinite(peak):
        raise BadAudioError("holds samples that are not finite numbers")
    if products.sum() < CANCELLED * products.diagonal().max():  # the energy of the sum, and that of the loudest
        raise BadAudioError(
            "is next to silent in the mono mix, since its channels cancel (--set audio.channels=left hears one of them)"
        )
    if peak < SILENCE:
        names = {"mean": "the mono mix", "left": "the left channel", "loudest": "the loudest channel"}
        heard = names.get(channels) if isinstance(channels, str) else f"channel {channel + 1}"
        raise BadAudioError(f"is silent (no sample of {heard} above -100 dB)")
    if not length:
        raise BadAudioError(f"is too short: it holds {end - begin} samples at {rate} Hz, and none at {sample_rate} Hz")


def _loudest(path: Path, start: float, stop: float | None) -> int:
    """Return the number of the channel with the most energy in an excerpt, the first of equal ones."""
    with _open_until(path, stop) as file:
        energies = np.zeros(file.channels)
        for samples in _read(file, *_excerpt(file, start, stop)):
            energies += np.einsum("nc,nc->c", samples, samples)
    return int(energies.argmax())


def seconds(path: Path) -> float:
    """Return the length of a file in seconds, by its header.

    Raises:
        BadAudioError: with the reason.
    """
    with _open(path, whole=False) as file:
        return file.frames / file.samplerate


def window_slices(samples: int, length: int | None, hop: int, tail: int) -> list[slice]:
    """Cut a waveform into windows.

    Args:
        samples: length of the waveform.
        length: of a window, in samples; None is the whole waveform.
        hop: distance of two windows, in samples.
        tail: the least length of a last, shorter window, in samples.

    Returns:
        At least one slice; all but the last have `length` samples.
    """
    if length is None or samples <= length:
        return [slice(0, samples)]
    full = [slice(begin, begin + length) for begin in range(0, samples - length + 1, hop)]
    begin = full[-1].start + hop
    if samples - max(begin, full[-1].stop) >= max(tail, 1):
        full.append(slice(begin, samples))
    return full


def _excerpt(file: soundfile.SoundFile, start: float, stop: float | None) -> tuple[int, int]:
    """Return the first frame of an excerpt and the first one after it."""
    frames, rate = file.frames, file.samplerate
    if not frames:
        raise BadAudioError("holds 0 samples")
    begin, end = round(start * rate), frames if stop is None else round(stop * rate)
    clip = f"the clip from {start:g} s to {'its end' if stop is None else f'{stop:g} s'}"
    if begin < 0 or (stop is not None and end <= begin):
        raise BadAudioError(f"cannot hold {clip}: times begin at 0 and go forwards")
    if begin >= frames or end > frames + _OVERHANG * rate:
        raise BadAudioError(f"is {frames / rate:.2f} s long and ends before {clip}")
    return begin, min(end, frames)


def _read(file: soundfile.SoundFile, begin: int, end: int) -> Iterator[np.ndarray]:
    """Yield the frames from `begin` to `end` in blocks float32[N, channels]."""
    lead = min(begin, _MP3_LEAD) if file.format == "MP3" else 0
    size = max(1, _BLOCK // file.channels)
    try:
        file.seek(begin - lead)
        file.read(lead, dtype="float32")
        while begin < end:
            wanted = min(size, end - begin)
            samples = file.read(wanted, dtype="float32", always_2d=True)
            begin += len(samples)
            if len(samples) < wanted:
                raise BadAudioError(
                    f"is truncated: its header tells {file.frames / file.samplerate:.2f} s, "
                    f"its data ends at {begin / file.samplerate:.2f} s"
                )
            yield samples
    except soundfile.LibsndfileError as error:
        raise BadAudioError(f"is corrupt or truncated ({error.error_string.strip(' .')})") from error


def _open_until(path: Path, stop: float | None) -> soundfile.SoundFile:
    """Open a file of which an excerpt up to some time, in seconds, is wanted; what lies after it is not looked at."""
    file = _open(path, whole=stop is None)
    if stop is None or round(stop * file.samplerate) <= file.frames:
        return file
    file.close()
    return _open(path, whole=True)


def _open(path: Path, *, whole: bool) -> soundfile.SoundFile:
    """Open a file, mended where its header is wrong; `whole` is that of `marble.audio.containers.mended`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadAudioError("is not a file")
        if not status.st_size:
            raise BadAudioError("is an empty file")
        file = _sound_file(containers.mended(path, whole=whole) or os.fsencode(path))
        try:
            _refuse_what_libsndfile_accepts(path, file)
            content = mp3.mended(path, whole=whole) if file.format == "MP3" else None
        except BadAudioError:
            file.close()
            raise
    except OSError as error:
        raise BadAudioError(f"cannot be read ({reason(error)})") from error
    if content is None:
        return file
    file.close()
    return _sound_file(content)


def _sound_file(source: bytes | io.BytesIO | mmap.mmap) -> soundfile.SoundFile:
    """Open a path (as bytes, since a name may be no UTF-8) or the content of a file."""
    try:
        return _SoundFile(source)  # ty: ignore[invalid-argument-type]
    except (soundfile.LibsndfileError, TypeError) as error:
        raise BadAudioError("is not audio that libsndfile reads, or is corrupt") from error


def _refuse_what_libsndfile_accepts(path: Path, file: soundfile.SoundFile) -> None:
    expected = promised_formats(path)
    if file.format == "RAW":
        raise BadAudioError("is not audio that libsndfile reads, or is corrupt")
    if expected and file.format not in expected:
        raise BadAudioError(f"is wrongly named: it holds {file.format} data")
    if not any(file.format in formats for formats in EXTENSIONS.values()):
        raise BadAudioError(f"holds {file.format} data, which marble does not read: convert it to wav or flac")
    if file.frames >= _UNKNOWN_FRAMES:
        raise BadAudioError("does not tell its length, since it was streamed: write it again with the tool of its format")
    if file.samplerate not in RATES:
        raise BadAudioError(f"has a rate of {file.samplerate:,} Hz, which is none of audio ({RATES[0]:,} to {RATES[-1]:,} Hz)")


def promised_formats(path: Path) -> tuple[str, ...]:
    """Return the formats that fit the extension of a file, as libsndfile calls them; none for other extensions."""
    return EXTENSIONS.get(path.suffix.lower(), ())


def is_audio_name(name: str) -> bool:
    """Tell whether a file name has the extension of a format that marble reads."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122  (names, not paths: a folder walk calls this often)
