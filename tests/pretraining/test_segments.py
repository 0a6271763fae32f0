"""Segments: none overlaps, none is lost, all processes together see what one would."""

import wave
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.pretraining import segments as data
from marble.pretraining.segments import Files, Loader, Stream

RATE = 8000


def write(path, samples, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, len(samples), "NONE", "not compressed"))
        file.writeframes(np.asarray(samples, "<i2").tobytes())


def ramp(seconds, start=1):
    """Samples that tell their place."""
    return np.arange(start, start + round(seconds * RATE)) % 30_000 + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good files of 3.5, 1 and 2.9 s, and one of every kind that is not."""
    folder = tmp_path_factory.mktemp("audio")
    for name, seconds in {"a": 3.5, "b": 1.0, "c": 2.9}.items():
        write(folder / f"{name}.wav", ramp(seconds))
    write(folder / "short.wav", ramp(0.5))
    write(folder / "silent.wav", np.zeros(RATE))
    (folder / "text.wav").write_text("this is no audio" * 100)
    content = (folder / "a.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(content[: len(content) // 2])
    (folder / "wrong.flac").write_bytes(content)
    (folder / "empty.mp3").write_bytes(b"")
    return folder


def files(folder, seconds=1.0, seed=0):
    return Files(sorted(folder.iterdir()), seconds, RATE, seed)


def test_what_cannot_be_used_is_named_with_the_reason(folder):
    source = files(folder)
    reasons = {Path(path).name: reason for path, reason in source.refused.items()}
    assert reasons.keys() == {"short.wav", "text.wav", "truncated.wav", "wrong.flac", "empty.mp3"}
    assert reasons["short.wav"] == "is 0.50 s long and holds no segment of 1 s"
    assert "wrongly named: it holds WAV data" in reasons["wrong.flac"]
    assert "truncated" in reasons["truncated.wav"]
    assert reasons["empty.mp3"] == "is an empty file"
    # Only the samples tell that a file is silent.
    with Loader(source, 7, RATE, 0, 1, 1) as loader:
        batch = loader.batch()
    silent = f"{folder / 'silent.wav'} from 0 s"
    assert loader.refused == {silent: "is silent (no sample of the mono mix above -100 dB)"}
    assert len(batch.numbers) == 7
    assert not {number for number in batch.numbers if source._segment(number)[0].name == "silent.wav"}


def test_a_segment_is_the_audio_of_its_place(folder):
    source = files(folder)
    for (name, waveform), (path, start) in zip(
        islice(source.decoded(iter(range(7)), 1, 2), 7), map(source._segment, range(7)), strict=True
    ):
        assert name == f"{path} from {start:g} s"
        if path.name != "silent.wav":
            expected = ramp(1.0, 1 + round(start * RATE)) / 32768
            np.testing.assert_allclose(waveform, expected, atol=1e-6)


@given(
    lengths=st.lists(st.floats(0.05, 40), min_size=1, max_size=12),
    seconds=st.floats(0.5, 7),
    seed=st.integers(0, 99),
)
def test_segments_do_not_overlap_and_every_epoch_has_each_once(lengths, seconds, seed):
    source = object.__new__(Files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.audio, "seconds", lambda path: lengths[int(path.name)])
        paths = [Path(str(number)) for number in range(len(lengths))]
        if max(lengths) < seconds:
            with pytest.raises(MarbleError, match=f"None of the {len(lengths)} audio files holds a segment"):
                source.__init__(paths, seconds, RATE, seed)
            return
        source.__init__(paths, seconds, RATE, seed)
    for path in paths:
        starts = [start for one, start in source.segments if one == path]
        length = lengths[int(path.name)]
        assert all(later - start >= seconds - 1e-9 for start, later in pairwise(starts))
        assert not starts or (starts[0] >= 0 and starts[-1] + seconds <= length + 1e-6)
        assert length - len(starts) * seconds < seconds + 1e-6
        assert (str(path) in source.refused) == (not starts)
    size = len(source.segments)
    for epoch in range(2):
        assert sorted(map(source._segment, range(epoch * size, (epoch + 1) * size))) == sorted(source.segments)
    if size > 20:
        assert source._order(0) != source._order(1)


class Numbers:
    """Segment n is n everywhere; `bad` ones are not there."""

    hours, refused = None, {}

    def __init__(self, bad=()):
        self.bad = set(bad)

    def decoded(self, numbers, workers, ahead):
        for number in numbers:
            yield str(number), data.BadAudioError("is bad") if number in self.bad else np.full(4, number, np.float32)


@given(
    world=st.integers(1, 5), share=st.integers(1, 4), batches=st.integers(1, 4), bad=st.sets(st.integers(0, 60), max_size=10)
)
def test_processes_split_one_sequence(world, share, batches, bad):
    seen = []
    for rank in range(world):
        with Loader(Numbers(bad), share, 4, rank, world, 1) as loader:
            mine = [loader.batch() for _ in range(batches)]
            assert all(
                float(clip[0]) == number for batch in mine for clip, number in zip(batch.waveform, batch.numbers, strict=True)
            )
            numbers = [number for batch in mine for number in batch.numbers]
            assert loader.position > numbers[-1]
            # Going on from the position gives what follows.
            with Loader(Numbers(bad), share, 4, loader.position, world, 1) as later:
                assert later.batch().numbers == loader.batch().numbers
            seen += numbers
    assert len(set(seen)) == len(seen) == world * share * batches
    assert not bad & set(seen)
    if not bad:
        assert sorted(seen) == list(range(len(seen)))


def test_a_sample_too_few_is_a_zero_and_one_too_many_is_dropped():
    short, long = (data._exactly(np.ones(size, np.float32), 4) for size in (3, 5))
    assert short.tolist() == [1, 1, 1, 0]
    assert long.tolist() == [1, 1, 1, 1]


RENDERERS = """
import os, signal
import numpy as np

def die(number, seconds, rate):
    os.kill(os.getpid(), signal.SIGKILL)

def fail(number, seconds, rate):
    raise KeyError("oops")

def process(number, seconds, rate):
    return np.array([os.getpid(), number])
"""


@pytest.fixture
def renderers(tmp_path, monkeypatch):
    """A module that workers can import."""
    (tmp_path / "renderers.py").write_text(RENDERERS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("die", r"Segment 4 ended two workers in a row \(exit status -9\), .* use fewer --workers"),
        ("fail", r"Segment 4 of the stream failed in its worker \(KeyError: 'oops'\): use fewer --workers"),
    ],
)
def test_a_segment_that_cannot_be_computed_is_one_sentence(renderers, function, reason):
    with pytest.raises(MarbleError, match=reason):
        list(Stream(f"renderers:{function}", 1.0, RATE).decoded(iter(range(4, 7)), 1, 1))


def test_segments_come_in_order_from_all_workers(renderers):
    segments = list(Stream("renderers:process", 1.0, RATE).decoded(iter(range(9)), 2, 4))
    assert [name for name, _ in segments] == [f"segment {number}" for number in range(9)]
    assert [int(waveform[1]) for _, waveform in segments] == list(range(9))
    assert len({int(waveform[0]) for _, waveform in segments}) == 2
