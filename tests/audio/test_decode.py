"""Real files of every format, whole and broken in every way we know."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from marble.audio import decode as audio
from marble.audio.decode import BadAudioError, load

RATE = 44_100
FORMATS = {
    "pcm16.wav": ("WAV", "PCM_16", 2e-4),
    "pcm24.wav": ("WAV", "PCM_24", 1e-6),
    "float.wav": ("WAV", "FLOAT", 1e-6),
    "double.wav": ("WAV", "DOUBLE", 1e-6),
    "extensible.wav": ("WAVEX", "PCM_16", 2e-4),
    "rf64.wav": ("RF64", "PCM_16", 2e-4),
    "alaw.wav": ("WAV", "ALAW", 0.05),
    "take.flac": ("FLAC", "PCM_16", 2e-4),
    "take.ogg": ("OGG", "VORBIS", 0.05),
    "take.opus": ("OGG", "OPUS", 0.05),
    "take.mp3": ("MP3", "MPEG_LAYER_III", 0.05),
    "take.aiff": ("AIFF", "PCM_16", 2e-4),
    "take.AIFC": ("AIFF", "FLOAT", 1e-6),
    "take.au": ("AU", "PCM_16", 2e-4),
}


def stereo(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """A different tone in each channel, float32[N, 2]."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 1000 * time)], axis=1).astype(np.float32)


def write(folder: Path, name: str) -> Path:
    """Write the two tones in the format that a name of `FORMATS` stands for."""
    container, subtype, _ = FORMATS[name]
    rate = 48_000 if subtype == "OPUS" else RATE
    soundfile.write(folder / name, stereo(rate=rate), rate, format=container, subtype=subtype)
    return folder / name


def reason(path: Path, start: float = 0.0, stop: float | None = None, rate: int = RATE) -> str:
    """Return why a file is bad."""
    with pytest.raises(BadAudioError) as caught:
        load(path, rate, start, stop)
    return str(caught.value)


def wav(data: bytes, length: int | None = None, before: bytes = b"", after: bytes = b"", outer: int | None = None) -> bytes:
    """Return a 16-bit mono WAV whose headers say what the arguments say."""
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + before
    chunks += b"data" + struct.pack("<I", len(data) if length is None else length) + data + after
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) if outer is None else outer) + b"WAVE" + chunks


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a RIFF chunk, padded."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def noise(samples: int = RATE) -> np.ndarray:
    """int16[N], never silent."""
    return np.random.default_rng(0).integers(-9999, 9999, samples, dtype=np.int16)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_decodes_to_the_mean_of_its_channels(tmp_path, name):
    path = write(tmp_path, name)
    rate = soundfile.info(path).samplerate
    waveform = load(path, rate)
    assert waveform.dtype == np.float32
    assert len(waveform) == rate
    inside = slice(1000, -1000)  # lossy encoders smear the ends
    assert np.abs(waveform - stereo(rate=rate).mean(axis=1))[inside].max() < FORMATS[name][2]
    assert audio.seconds(path) == 1.0


@pytest.mark.parametrize("name", FORMATS)
def test_an_excerpt_is_a_cut_of_the_whole(tmp_path, name):
    path = write(tmp_path, name)
    rate = soundfile.info(path).samplerate
    whole = load(path, rate)
    for start, stop in [(0.3, 0.7501), (0.9, None)]:
        cut = whole[round(start * rate) : None if stop is None else round(stop * rate)]
        # Lossy decoders round differently behind a seek.
        np.testing.assert_allclose(load(path, rate, start, stop), cut, rtol=0, atol=1e-6)


def test_a_stop_barely_behind_the_end_is_the_end(tmp_path):
    path = write(tmp_path, "pcm16.wav")
    assert len(load(path, RATE, 0.5, 1.04)) == RATE // 2
    assert reason(path, 0.5, 1.06) == "is 1.00 s long and ends before the clip from 0.5 s to 1.06 s"
    assert reason(path, 1.0, None) == "is 1.00 s long and ends before the clip from 1 s to its end"


@pytest.mark.parametrize("times", [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (-0.1, None)])
def test_impossible_times_are_refused(tmp_path, times):
    assert "cannot hold the clip from" in reason(write(tmp_path, "pcm16.wav"), *times)


@pytest.mark.parametrize(("source", "wanted"), [(44_100, 16_000), (48_000, 24_000), (22_050, 44_100), (8_000, 24_000)])
def test_resampling_keeps_length_frequency_and_level(tmp_path, source, wanted):
    time = np.arange(source) / source
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), source, subtype="FLOAT")
    waveform = load(tmp_path / "a.wav", wanted)
    assert len(waveform) == wanted
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(wanted)))
    assert spectrum.argmax() == 1000
    assert np.sqrt(2 * np.mean(waveform[wanted // 4 : -wanted // 4] ** 2)) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["pcm16.wav", "take.flac", "take.ogg", "take.opus", "take.mp3"])
@pytest.mark.parametrize("block", [1001, 30_000])
def test_blocks_change_no_bit(tmp_path, monkeypatch, name, block):
    path = write(tmp_path, name)
    wanted = {(start, rate): load(path, rate, start) for start in (0.0, 0.3) for rate in (8000, 24_000, 44_100, 48_000)}
    monkeypatch.setattr(audio, "_BLOCK", block)
    for (start, rate), waveform in wanted.items():
        assert len(list(audio.blocks(path, rate, start))) > 2
        np.testing.assert_array_equal(load(path, rate, start), waveform)
    whole, rate = soundfile.read(path, dtype="float32")
    once = soxr.resample(whole.mean(axis=1, dtype=np.float32), rate, 24_000, quality="HQ")
    np.testing.assert_array_equal(load(path, 24_000), once)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_long_file_is_read_in_pieces_of_one_size(tmp_path, channels):
    """So memory does not grow with its length."""
    frames = 5 * 2**19 // channels
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).integers(-99, 99, (frames, channels), np.int16), 48_000)
    assert [len(piece) * channels for piece in audio.blocks(tmp_path / "a.wav", 48_000)] == [2**20, 2**20, 2**19]


@settings(deadline=None)
@given(
    source=st.sampled_from([1000, 8000, 11_025, 44_100, 48_000, 96_000, 1_000_000]),
    wanted=st.sampled_from([8000, 16_000, 22_050, 24_000, 44_100]),
    samples=st.integers(1, 100_000),
    block=st.integers(500, 60_000),
)
def test_a_stream_is_resampled_as_the_whole(source, wanted, samples, block):
    sound = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    stream = soxr.ResampleStream(source, wanted, 1, dtype="float32", quality="HQ")
    pieces = [stream.resample_chunk(sound[at : at + block], last=at + block >= samples) for at in range(0, samples, block)]
    np.testing.assert_array_equal(np.concatenate(pieces), soxr.resample(sound, source, wanted, quality="HQ"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("missing", ["two thirds", "a tail", "one byte"])
def test_a_truncated_file_is_bad(tmp_path, name, missing):
    path = write(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[: {"two thirds": len(content) // 3, "a tail": len(content) - 300, "one byte": -1}[missing]])
    if missing == "one byte" and FORMATS[name][0] not in ("FLAC", "OGG", "MP3"):
        assert RATE - 1 <= len(load(path, RATE)) <= RATE  # of such files nothing else is missing, see test_containers
    else:
        assert "truncated" in reason(path) or "corrupt" in reason(path)


@pytest.mark.parametrize("suffix", sorted(audio.EXTENSIONS))
@pytest.mark.parametrize("content", [b"<html>not found</html>", np.random.default_rng(1).bytes(50_000), bytes(9_000)])
def test_a_file_that_is_no_audio_is_bad(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert reason(tmp_path / f"a{suffix}") == "is not audio that libsndfile reads, or is corrupt"


@pytest.mark.parametrize("suffix", [".raw", ".vox", ".gsm"])
def test_formats_without_a_header_are_not_guessed(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(noise().tobytes())
    assert "is not audio" in reason(tmp_path / f"a{suffix}")


def test_a_flac_with_a_damaged_frame_is_bad(tmp_path):
    path = write(tmp_path, "take.flac")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    assert "corrupt" in reason(path)


def test_a_wrong_name_is_bad(tmp_path):
    write(tmp_path, "take.mp3").rename(tmp_path / "take.wav")
    assert reason(tmp_path / "take.wav") == "is wrongly named: it holds MP3 data"
    write(tmp_path, "pcm16.wav").rename(tmp_path / "take.FLAC")
    assert reason(tmp_path / "take.FLAC") == "is wrongly named: it holds WAV data"


def test_a_file_that_cannot_be_read_is_bad(tmp_path):
    assert reason(tmp_path / "none.wav") == "cannot be read (no such file or directory)"
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert reason(tmp_path / "loop.wav").startswith("cannot be read (too many levels")
    (tmp_path / "empty.wav").touch()
    assert reason(tmp_path / "empty.wav") == "is an empty file"
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason(tmp_path / "folder.wav") == reason(tmp_path / "pipe.wav") == "is not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_bad(tmp_path):
    write(tmp_path, "pcm16.wav").chmod(0)
    assert reason(tmp_path / "pcm16.wav") == "cannot be read (permission denied)"


def test_samples_that_are_no_sound_are_bad(tmp_path):
    path = tmp_path / "a.wav"
    for value, expected in [(np.nan, "finite"), (np.inf, "finite"), (1e300, "finite"), (0.0, "silent"), (9e-6, "silent")]:
        soundfile.write(path, np.full((RATE, 2), value), RATE, subtype="DOUBLE")
        assert expected in reason(path)
    soundfile.write(path, np.full((10, 2), 3.0e38), RATE, subtype="FLOAT")
    assert "finite" in reason(path)  # each sample is, their sum is not
    soundfile.write(path, np.zeros((0, 2)), RATE)
    assert reason(path) == "holds 0 samples"
    soundfile.write(path, np.array([0.5]), RATE)
    assert len(load(path, RATE)) == 1
    assert reason(path, rate=8000) == "is too short: it holds 1 samples at 44100 Hz, and none at 8000 Hz"
    soundfile.write(path, np.full(RATE, 2e-5), RATE, subtype="FLOAT")
    assert len(load(path, RATE)) == RATE


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "DOUBLE", "MPEG_LAYER_III"])
@pytest.mark.parametrize("loudness", [1.0, 0.003])
def test_channels_that_cancel_are_bad(tmp_path, subtype, loudness):
    tone = loudness * stereo()[:, :1]
    path = tmp_path / ("a.mp3" if subtype == "MPEG_LAYER_III" else "a.wav")
    soundfile.write(path, tone * [1, -1], RATE, subtype=subtype)
    assert "its channels cancel" in reason(path)
    soundfile.write(path, tone * [1, -0.8], RATE, subtype=subtype)  # a tenth of either is left
    assert len(load(path, RATE)) == RATE


@pytest.mark.parametrize("gains", [[1, 0], [0] * 7 + [1] + [0] * 200, [1, 1], [0.5, -0.01]])
def test_silent_or_weak_channels_cancel_nothing(tmp_path, gains):
    soundfile.write(tmp_path / "a.wav", stereo(0.1)[:, :1] * np.float32(gains), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load(tmp_path / "a.wav", RATE), stereo(0.1)[:, 0] * np.mean(gains), atol=1e-6)


def test_one_channel_can_be_heard_alone(tmp_path):
    path, (first, second) = tmp_path / "a.wav", stereo().T
    soundfile.write(path, np.stack([second, -second, first], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load(path, RATE, channels="left"), second)
    np.testing.assert_array_equal(load(path, RATE, channels="loudest"), first)
    np.testing.assert_array_equal(load(path, 24_000, 0.2, 0.4, "loudest"), soxr.resample(first[8820:17640], RATE, 24_000))
    soundfile.write(path, np.where(np.arange(RATE)[:, None] < RATE // 2, [[0.5, 0.1]], [[0.1, 0.4]]), RATE, subtype="FLOAT")
    assert load(path, RATE, 0.6, 0.7, "loudest").min() == np.float32(0.4)  # of the excerpt
    soundfile.write(path, stereo() * [0, 1], RATE)
    assert reason_of_left(path) == "is silent (no sample of the left channel above -100 dB)"
    soundfile.write(path, first, RATE, subtype="FLOAT")
    for channels in ("mean", "left", "loudest"):
        np.testing.assert_array_equal(load(path, RATE, channels=channels), first)


def reason_of_left(path: Path) -> str:
    with pytest.raises(BadAudioError) as caught:
        load(path, RATE, channels="left")
    return str(caught.value)


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_a_rate_that_no_audio_has_is_bad(tmp_path, rate):
    """At 1 Hz these 2.4 kB would become gigabytes at any usual rate."""
    soundfile.write(tmp_path / "a.wav", noise(1200), rate)
    assert reason(tmp_path / "a.wav") == f"has a rate of {rate:,} Hz, which is none of audio (1,000 to 1,000,000 Hz)"
    with pytest.raises(BadAudioError, match="which is none of audio"):
        audio.seconds(tmp_path / "a.wav")
    for good in (1000, 1_000_000):
        soundfile.write(tmp_path / "a.wav", noise(1200), good)
        assert len(load(tmp_path / "a.wav", good)) == 1200


def test_a_header_that_tells_more_than_memory_holds_is_bad(tmp_path):
    path = write(tmp_path, "take.flac")
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the total number of samples: 36 bits of STREAMINFO
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    assert reason(path) == "is truncated: its header tells 1558264.78 s, its data ends at 1.00 s"


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - 36, 0xFFFFFFFF])
@pytest.mark.parametrize("outer", [0, 36, 0xFFFFFFFF])
def test_a_streamed_wav_without_sizes_is_read_to_its_end(tmp_path, length, outer):
    (tmp_path / "a.wav").write_bytes(wav(noise().tobytes(), length, outer=outer))
    np.testing.assert_array_equal(load(tmp_path / "a.wav", RATE), noise() / np.float32(2**15))
    np.testing.assert_array_equal(load(tmp_path / "a.wav", RATE, 0.5, 0.6), noise()[22050:26460] / np.float32(2**15))


def test_a_wav_without_samples_is_not_taken_for_a_streamed_one(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(b"", after=chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"marble"))))
    assert reason(tmp_path / "a.wav") == "holds 0 samples"


@pytest.mark.parametrize("cut", [0, 129])
def test_chunks_around_the_samples_do_not_matter(tmp_path, cut):
    before = chunk(b"junk", b"odd") + chunk(b"bext", bytes(602)) + chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"marble"))
    content = wav(noise().tobytes(), before=before)
    (tmp_path / "a.wav").write_bytes(content[: len(content) - cut])
    if cut:
        assert "truncated: at least 129 bytes" in reason(tmp_path / "a.wav")
    else:
        assert len(load(tmp_path / "a.wav", RATE)) == RATE
        (tmp_path / "a.wav").write_bytes(wav(noise().tobytes(), before=before, after=chunk(b"cart", bytes(99))))
        assert len(load(tmp_path / "a.wav", RATE)) == RATE


@pytest.mark.parametrize("endian", ["BIG", "LITTLE"])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU"])
def test_both_byte_orders(tmp_path, container, endian):
    path = tmp_path / f"a.{container.lower()}"
    path = path.with_suffix(".aiff") if container == "AIFF" else path
    soundfile.write(path, noise(), RATE, format=container, subtype="PCM_16", endian=endian)
    np.testing.assert_array_equal(load(path, RATE), noise() / np.float32(2**15))
    path.write_bytes(path.read_bytes()[:-130])
    assert "truncated" in reason(path)


def test_a_name_that_is_no_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9\xff.wav"))
    write(tmp_path, "pcm16.wav").rename(path)
    assert len(load(path, RATE)) == RATE


@pytest.mark.parametrize(("name", "expected"), [("a.WAV", True), ("b.mp3", True), ("c.txt", False), ("wav", False)])
def test_audio_names(name, expected):
    assert audio.is_audio_name(name) is expected


def test_the_real_one_shots(shared):
    paths = sorted((shared / "data/audio/one-shots").rglob("*.[wW][aA][vV]"))
    assert len(paths) == 292
    bad = {}
    for path in paths:
        try:
            assert load(path, RATE).ndim == 1
        except BadAudioError as error:
            bad[path.name] = str(error)
    assert not bad


def test_the_real_mp3_files(shared):
    paths = sorted((shared / "data/layouts").rglob("*.mp3"))
    assert paths
    for path in paths:
        assert 1.9 < len(load(path, 16_000)) / 16_000 < 2.1
