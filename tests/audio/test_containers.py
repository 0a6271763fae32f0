"""Headers that do not fit their files: what is whole is heard, whatever its header says; what is not is named."""

import io
import struct
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from marble.audio import containers, mp3
from marble.audio.containers import JOINED, SLACK
from marble.audio.decode import BadAudioError, load, seconds

RATE = 16_000


def sound(seconds: float = 1.0, channels: int = 1) -> np.ndarray:
    """int16[N, channels], never silent."""
    samples = np.random.default_rng(7).integers(-9999, 9999, (round(seconds * RATE), 1), dtype=np.int16)
    return np.repeat(samples, channels, axis=1)


def encode(samples: np.ndarray, container: str, subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    memory = io.BytesIO()
    soundfile.write(memory, samples, rate, format=container, subtype=subtype)
    return memory.getvalue()


def heard(folder: Path, name: str, content: bytes, rate: int = RATE) -> np.ndarray:
    (folder / name).write_bytes(content)
    return load(folder / name, rate)


def reason(folder: Path, name: str, content: bytes) -> str:
    with pytest.raises(BadAudioError) as caught:
        heard(folder, name, content)
    return str(caught.value)


def with_length(content: bytes, name: bytes, length: int, order: str = "<") -> bytes:
    """Return a chunked file whose chunk of this name has another length."""
    at = content.index(name) + 4
    return content[:at] + struct.pack(f"{order}I", length) + content[at + 4 :]


def chunked(container: str, length: int) -> tuple[str, bytes]:
    """Return name and content of a second of sound whose header tells `length` more bytes of it than there are."""
    content = encode(sound(), container)
    if container == "AU":
        return "a.au", content[:8] + struct.pack(">I", 2 * RATE + length) + content[12:]
    if container == "AIFF":
        return "a.aiff", with_length(content, b"SSND", 2 * RATE + 8 + length, ">")
    return "a.wav", with_length(content, b"data", 2 * RATE + length)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU"])
@pytest.mark.parametrize("length", [1, 8, 36, 44, SLACK, SLACK + 1])
def test_a_header_counted_among_the_samples_is_no_loss(tmp_path, container, length):
    name, content = chunked(container, length)
    if length <= SLACK:
        np.testing.assert_array_equal(heard(tmp_path, name, content), sound()[:, 0] / np.float32(2**15))
    else:
        assert reason(tmp_path, name, content) == f"is truncated: at least {length} bytes of its audio are missing"


@pytest.mark.parametrize("missing", [1, 3, 5, 6])
def test_a_cut_last_frame_is_left_out(tmp_path, missing):
    content = encode(sound(channels=2), "WAV", "PCM_24")
    assert len(heard(tmp_path, "a.wav", content[:-missing])) == RATE - 1


def test_an_odd_number_of_bytes_needs_no_padding(tmp_path):
    content = encode(sound()[:-1], "WAV", "PCM_U8")
    end = content.index(b"data") + 8 + RATE - 1
    assert len(heard(tmp_path, "a.wav", content)) == len(heard(tmp_path, "a.wav", content[:end])) == RATE - 1


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_any_number_of_channels(tmp_path, channels):
    np.testing.assert_allclose(
        heard(tmp_path, "a.wav", encode(sound(channels=channels), "WAV")), sound()[:, 0] / np.float32(2**15), atol=1e-6
    )


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU"])
def test_samples_after_the_length_in_the_header_are_named(tmp_path, container):
    assert reason(tmp_path, *chunked(container, -RATE)) == JOINED
    name, content = chunked(container, 0)
    for between in (b"", bytes(10), b"LIST\x04\0\0\0INFO" if container == "WAV" else b""):
        assert reason(tmp_path, name, content + between + content) == JOINED


def test_a_second_chunk_of_samples_is_named(tmp_path):
    content = encode(sound(), "WAV")
    assert reason(tmp_path, "a.wav", content + content[content.index(b"data") :]) == JOINED


@pytest.mark.parametrize(
    "tail",
    [bytes(5000), b"TAG" + b"title".ljust(125, b" "), b"ID3\x03" + b"x" * 300, b"APETAGEX" + b"x" * 300, b"\x01" * SLACK,
     b"LIST\x90\x01\0\0INFO" + bytes(396), b"LIST\x90\x01\0\0INFO" + b"x" * 300, b"_PMX\xc8\0\0\0" + b"x" * 200 + bytes(300)],
)  # fmt: skip
@pytest.mark.parametrize("samples", [RATE, RATE - 1])
def test_tags_chunks_and_zeros_after_the_samples_do_not_matter(tmp_path, tail, samples):
    content = encode(sound()[:samples], "WAV", "PCM_U8")
    assert len(heard(tmp_path, "a.wav", content + tail)) == samples
    end = content.index(b"data") + 8 + samples
    assert len(heard(tmp_path, "a.wav", content[:end] + tail)) == samples  # without padding


def test_an_aiff_may_end_with_a_copyright(tmp_path):
    content = encode(sound(), "AIFF") + b"NAME\0\0\0\x64" + b"n" * 100 + b"(c) \0\0\0\x64" + b"c" * 100
    assert len(heard(tmp_path, "a.aiff", content)) == RATE


@pytest.mark.parametrize(("content", "name"), [
    (with_length(encode(sound(), "WAV"), b"data", 0), "a.wav"),
    (with_length(encode(sound(), "WAV"), b"data", 2**32 - 1), "a.wav"),
    (encode(sound(), "AU").replace(struct.pack(">I", 2 * RATE), bytes(4), 1), "a.au"),
    (encode(sound(), "AU").replace(struct.pack(">I", 2 * RATE), b"\xff" * 4, 1), "a.au"),
    (with_length(encode(sound(), "AIFF"), b"SSND", 0, ">"), "a.aiff"),
    (with_length(encode(sound(), "RF64"), b"data", 2**32 - 1).replace(struct.pack("<Q", 2 * RATE), bytes(8), 1), "a.wav"),
    (with_length(encode(sound(), "RF64"), b"data", 2**32 - 1).replace(struct.pack("<Q", 2 * RATE), b"\xff" * 8, 1), "a.wav"),
])  # fmt: skip
def test_a_placeholder_for_the_length_is_replaced(tmp_path, content, name):
    np.testing.assert_array_equal(heard(tmp_path, name, content), sound()[:, 0] / np.float32(2**15))


def test_a_format_whose_length_nobody_checks_is_not_read(tmp_path):
    content = encode(sound(), "W64")
    assert reason(tmp_path, "a.w64", content) == "holds W64 data, which marble does not read: convert it to wav or flac"


OGG = {"a.ogg": "VORBIS", "a.opus": "OPUS"}


def pages(content: bytes) -> list[bytes]:
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def without_end(content: bytes) -> bytes:
    """Return an Ogg file whose last page is not marked as such."""
    *others, last = pages(content)
    last = bytearray(last)
    last[5] &= ~4
    last[22:26] = bytes(4)
    last[22:26] = struct.pack("<I", containers._ogg_checksum(bytes(last)))
    return b"".join([*others, last])


def test_the_checksum_of_pages_is_that_of_the_format():
    for page in pages(encode(sound(), "OGG", "VORBIS")):
        bare = page[:22] + bytes(4) + page[26:]
        assert containers._ogg_checksum(bare) == struct.unpack_from("<I", page, 22)[0]


@pytest.mark.parametrize("name", OGG)
@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_an_ogg_file_without_its_end_mark_is_whole(tmp_path, name, seconds):
    content = encode(sound(seconds), "OGG", OGG[name])
    whole = heard(tmp_path, name, content)
    assert len(whole) == round(seconds * RATE)
    np.testing.assert_array_equal(heard(tmp_path, name, without_end(content)), whole)
    np.testing.assert_array_equal(heard(tmp_path, name, without_end(content) + bytes(500)), whole)


@pytest.mark.parametrize("name", OGG)
def test_an_ogg_file_that_ends_between_pages_is_heard_to_its_last_page(tmp_path, name):
    """A recorder that was stopped leaves such a file; nothing tells it from a copy that was cut there."""
    content = encode(sound(5), "OGG", OGG[name])
    whole, cut = heard(tmp_path, name, content), heard(tmp_path, name, b"".join(pages(content)[:-1]))
    assert len(whole) / 2 < len(cut) < len(whole)
    np.testing.assert_array_equal(cut, whole[: len(cut)])


@pytest.mark.parametrize("name", OGG)
def test_an_ogg_file_cut_inside_a_page_is_bad(tmp_path, name):
    content = encode(sound(3), "OGG", OGG[name])
    for missing in (1, 300, len(pages(content)[-1]) - 10):
        assert "is truncated" in reason(tmp_path, name, content[:-missing])


@pytest.mark.parametrize("first", [encode(sound(), "OGG", "VORBIS"), without_end(encode(sound(), "OGG", "VORBIS"))])
@pytest.mark.parametrize("second", [
    encode(sound(), "OGG", "VORBIS"), encode(sound(), "OGG", "OPUS"), encode(sound(channels=2), "OGG", "VORBIS", 22_050),
])  # fmt: skip
def test_joined_ogg_streams_are_named(tmp_path, first, second):
    assert reason(tmp_path, "a.ogg", first + second) == JOINED
    assert reason(tmp_path, "a.ogg", first + b"junk" + second + first) == JOINED


@pytest.mark.parametrize(("name", "container", "subtype"), [
    ("a.ogg", "OGG", "VORBIS"), ("a.opus", "OGG", "OPUS"), ("a.flac", "FLAC", "PCM_16"),
])  # fmt: skip
def test_an_excerpt_of_the_first_of_joined_streams_is_heard(tmp_path, name, container, subtype):
    """What lies after an excerpt is not read: there may be hours of it, and a thousand excerpts."""
    content = encode(sound(), container, subtype)
    excerpt = heard(tmp_path, name, content)[: RATE // 2]
    (tmp_path / name).write_bytes(content + content)
    np.testing.assert_allclose(load(tmp_path / name, RATE, 0.0, 0.5), excerpt, atol=1e-6)
    for start, stop in [(0.0, None), (0.0, 1.5), (1.2, 1.5)]:
        with pytest.raises(BadAudioError, match="holds more than the length in its header"):
            load(tmp_path / name, RATE, start, stop)
    assert seconds(tmp_path / name) > 0.9


def test_ogg_streams_side_by_side_are_not_joined(tmp_path):
    one, two = pages(encode(sound(), "OGG", "VORBIS")), pages(encode(sound(), "OGG", "OPUS"))
    (tmp_path / "a.ogg").write_bytes(b"".join([one[0], two[0], *one[1:-1], *two[1:], one[-1]]))
    assert containers.mended(tmp_path / "a.ogg") is None


def told(content: bytes, change) -> bytes:
    """Return a FLAC file whose header tells another number of samples."""
    field = int.from_bytes(content[18:26], "big")
    samples = field & (2**36 - 1)
    return content[:18] + (field - samples + change(samples)).to_bytes(8, "big") + content[26:]


@pytest.mark.parametrize("change", [lambda n: 0, lambda n: 1, lambda n: n // 3, lambda n: n - 1])
@pytest.mark.parametrize("samples", [100, 4096, 4097, 3 * RATE])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_that_tells_too_little_is_heard_to_its_end(tmp_path, change, samples, channels):
    tone = np.sin(np.arange(3 * RATE) / 10) * np.linspace(0.1, 0.9, 3 * RATE)
    content = encode(np.repeat(tone[:samples, None], channels, axis=1), "FLAC")
    whole = heard(tmp_path, "a.flac", content)
    assert len(whole) == samples
    for before, after in [(b"", b""), (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), b"TAG" + bytes(125))]:
        np.testing.assert_array_equal(heard(tmp_path, "a.flac", before + told(content, change) + after), whole)


def test_a_flac_without_a_length_that_was_cut_is_bad(tmp_path):
    content = told(encode(sound(3), "FLAC"), lambda samples: 0)
    for missing in (1, 300, 20_000):
        assert "corrupt or truncated" in reason(tmp_path, "a.flac", content[:-missing])


@pytest.mark.parametrize("second", [encode(sound(), "FLAC"), encode(sound(2), "FLAC", "PCM_24")])
def test_joined_flac_streams_are_named(tmp_path, second):
    assert reason(tmp_path, "a.flac", encode(sound(), "FLAC") + second) == JOINED


@settings(max_examples=300)
@given(
    container=st.sampled_from([("WAV", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("FLAC", "PCM_16"),
                               ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]),
    end=st.integers(1, 4000), changes=st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=8)), max_size=4),
)  # fmt: skip
def test_whatever_stands_in_a_header_ends_in_sound_or_in_words(container, end, changes):
    content = bytearray(encoded_once(*container)[:end] if end < 3000 else encoded_once(*container))
    for at, new in changes:
        content[at : at + len(new)] = new
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").write_bytes(content)
        for work in (containers.mended, mp3.mended):
            for whole in (True, False):
                with suppress(BadAudioError):
                    work(Path(folder) / "a", whole=whole)


@cache
def encoded_once(container: str, subtype: str) -> bytes:
    return b"ID3\x03\0\0\0\0\0\x0a" * (container == "MP3") + encode(sound(0.2), container, subtype)


@pytest.mark.parametrize("samples", [1, 2, 100, 4095, 4096, 4097, 50_000])
@pytest.mark.parametrize("loudness", [0, 9, 9999])
@pytest.mark.parametrize(("container", "subtype"), [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("WAV", "MS_ADPCM"),
    ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
])  # fmt: skip
def test_a_file_that_is_right_is_left_alone(tmp_path, samples, loudness, container, subtype):
    noise = np.random.default_rng(samples).integers(-loudness - 1, loudness + 1, samples, dtype=np.int16)
    (tmp_path / "a").write_bytes(encode(noise, container, subtype))
    assert containers.mended(tmp_path / "a") is None
