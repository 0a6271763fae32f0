"""MP3 files whose tag is missing, wrong, or that of one part."""

import io
import struct
from functools import cache

import numpy as np
import pytest
import soundfile

from marble.audio import decode as audio
from marble.audio import mp3
from marble.audio.decode import BadAudioError, load

RATE = 44_100
ID3 = b"ID3\x03\0\0\0\0\x40\0" + b"Xing Info \xff\xfb\x90\xc4".ljust(8192, b"\0")


@cache
def encode(seed: int = 0, seconds: float = 1.0, mode: str = "CONSTANT", channels: int = 1, rate: int = RATE) -> bytes:
    """Return an MP3 of noise that grows louder, so that its frames differ in size."""
    memory = io.BytesIO()
    samples = round(seconds * rate)
    loud = np.linspace(0.001, 1, samples)[:, None] ** 4 * np.random.default_rng(seed).uniform(-0.9, 0.9, (samples, 1))
    with soundfile.SoundFile(
        memory, "w", rate, channels, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5
    ) as file:
        file.write(np.repeat(loud, channels, axis=1))
    return memory.getvalue()


def bare(content: bytes) -> bytes:
    """Return an MP3 without its tag."""
    return content[mp3.frame_bytes(content, 0) :]


def retagged(content: bytes, frames: int, size: int | None = None) -> bytes:
    """Return an MP3 whose tag tells another number of frames, and perhaps of bytes."""
    at = max(content.find(b"Xing", 0, 100), content.find(b"Info", 0, 100)) + 8
    told = struct.pack(">I", frames) + (content[at + 4 : at + 8] if size is None else struct.pack(">I", size))
    return content[:at] + told + content[at + 8 :]


def heard(folder, content: bytes, rate: int = RATE) -> np.ndarray:
    (folder / "a.mp3").write_bytes(content)
    return load(folder / "a.mp3", rate)


def offset(part: np.ndarray, whole: np.ndarray) -> int:
    """Return where a part stands in the whole, sample by sample."""
    size = 1 << (len(whole) + len(part)).bit_length()
    at = int(np.fft.irfft(np.fft.rfft(whole, size) * np.fft.rfft(part, size).conj()).argmax())
    np.testing.assert_allclose(whole[at : at + len(part)], part, atol=1e-6)
    return at


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 44_100), (2, 44_100), (1, 22_050), (2, 8_000)])
def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path, mode, channels, rate):
    tagged = encode(0, 1.0, mode, channels, rate)
    waveforms = []
    for before, after in [(b"", b""), (b"", b"TAG" + bytes(125)), (ID3, b""), (ID3 + ID3, b""), (b"", b"APETAGEX" + bytes(50))]:
        waveforms.append(heard(tmp_path, before + bare(tagged) + after, rate))
        np.testing.assert_array_equal(waveforms[-1], waveforms[0])
        cut = waveforms[0][round(0.5 * rate) : round(0.8 * rate)]
        np.testing.assert_allclose(load(tmp_path / "a.mp3", rate, 0.5, 0.8), cut, rtol=0, atol=1e-6)
        # The tag also tells how many samples the encoder put before and after; without it they stay.
        right = heard(tmp_path, before + tagged + after, rate)
        assert len(right) == rate
        offset(right, waveforms[0])


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 44_100), (2, 44_100), (1, 22_050), (2, 8_000)])
def test_a_file_that_is_right_is_left_alone(tmp_path, mode, channels, rate):
    for seconds in (0.05, 1.0):
        for before, after in [(b"", b""), (ID3, b"TAG" + bytes(125)), (ID3 + ID3, b"APETAGEX" + bytes(50))]:
            (tmp_path / "a.mp3").write_bytes(before + encode(1, seconds, mode, channels, rate) + after)
            assert mp3.mended(tmp_path / "a.mp3") is None


@pytest.mark.parametrize("junk", [bytes(2000), b"\x01\x02\x03" * 700])
def test_a_tag_behind_junk_counts(tmp_path, junk):
    np.testing.assert_array_equal(heard(tmp_path, junk + encode()), heard(tmp_path, encode()))


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("between", [b"", ID3, b"TAG" + bytes(125), bytes(3000)])
def test_joined_files_are_heard_one_after_the_other(tmp_path, mode, between):
    contents = [encode(seed, seconds, mode) for seed, seconds in enumerate((0.5, 0.3, 0.7))]
    parts = [heard(tmp_path, content) for content in contents]
    for kept in ("tags", "no tags", "the first tag"):
        joined = [content if kept == "tags" or (kept != "no tags" and not number) else bare(content)
                  for number, content in enumerate(contents)]  # fmt: skip
        whole = heard(tmp_path, between.join(joined))
        starts = [offset(part, whole) for part in parts]
        assert starts == sorted(starts)
        assert 1.5 < len(whole) / RATE < 1.7


@pytest.mark.parametrize("second", [{"rate": 22_050}, {"channels": 2}, {"rate": 48_000}])
def test_joined_files_of_two_kinds_are_named(tmp_path, second):
    for contents in ([encode(), encode(**second)], [bare(encode()), bare(encode(**second))]):
        with pytest.raises(BadAudioError, match="changes its rate or its channels"):
            heard(tmp_path, b"".join(contents))


@pytest.mark.parametrize("count", [lambda n: 0, lambda n: n // 3, lambda n: n - 2, lambda n: n + 1])
@pytest.mark.parametrize("size", [None, 0])
def test_a_tag_that_counts_too_few_frames_or_itself_is_replaced(tmp_path, count, size):
    content = encode(seconds=1.5)
    frames = len(list(mp3.mp3_frames(content))) - 1
    whole = heard(tmp_path, retagged(content, count(frames), size))
    offset(heard(tmp_path, content), whole)
    assert 1.5 < len(whole) / RATE < 1.6


def test_the_tag_of_another_file_is_replaced(tmp_path):
    short, long = encode(0, 1.0), encode(1, 3.0)
    whole = heard(tmp_path, short[: mp3.frame_bytes(short, 0)] + bare(long))
    offset(heard(tmp_path, long), whole)


def test_an_excerpt_of_joined_files_is_a_cut_of_the_whole(tmp_path):
    whole = heard(tmp_path, encode(0, 1.0) + encode(1, 1.0))
    for start, stop in [(0.0, 0.2), (0.1, 0.5), (0.9, 1.4), (1.5, 2.0)]:
        cut = whole[round(start * RATE) : round(stop * RATE)]
        np.testing.assert_allclose(load(tmp_path / "a.mp3", RATE, start, stop), cut, atol=1e-6)
    assert audio.seconds(tmp_path / "a.mp3") == len(whole) / RATE


@pytest.mark.parametrize("missing", [1, 300, 5000])
def test_a_truncated_file_is_bad(tmp_path, missing):
    for content in (encode(), retagged(encode(), 2000)):
        with pytest.raises(BadAudioError, match="truncated"):
            heard(tmp_path, content[:-missing])


def test_junk_inside_an_mp3_ends_nothing(tmp_path):
    content = bare(encode(mode="VARIABLE"))
    starts = list(mp3.mp3_frames(content))
    half = starts[len(starts) // 2]
    whole = heard(tmp_path, content)
    for junk in (b"junk \xff\xfb" + bytes(700), ID3, bytes(5000)):
        assert len(list(mp3.mp3_frames(content[:half] + junk + content[half:]))) == len(starts)
        np.testing.assert_array_equal(heard(tmp_path, content[:half] + junk + content[half:]), whole)
