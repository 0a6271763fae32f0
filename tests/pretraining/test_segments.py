"""Segments: none overlaps, none is lost, all processes together see what one would."""

import threading
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
    """Write samples [N], or [N, channels]."""
    samples = np.asarray(samples, "<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, len(samples), "NONE", "not compressed"))
        file.writeframes(samples.tobytes())


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
    for (name, waveform), (path, start, stop) in zip(
        islice(source.decoded(iter(range(7)), 1, 2), 7), map(source._segment, range(7)), strict=True
    ):
        assert name == f"{path} from {start:g} s"
        if path.name != "silent.wav":
            expected = ramp(stop - start, 1 + round(start * RATE)) / 32768
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
        if max(lengths) < 0.95 * seconds - 1e-9:
            with pytest.raises(
                MarbleError, match=rf"None of the {len(lengths)} audio files .*the longest has {max(lengths):.2f} s"
            ):
                source.__init__(paths, seconds, RATE, seed)
            return
        source.__init__(paths, seconds, RATE, seed)
    for path in paths:
        parts = [(start, stop) for one, start, stop in source.segments if one == path]
        length = lengths[int(path.name)]
        assert all(later >= stop == pytest.approx(start + seconds) for (start, stop), (later, _) in pairwise(parts))
        assert not parts or (parts[0][0] == 0 and 0.95 * seconds - 1e-6 < parts[-1][1] - parts[-1][0] <= seconds + 1e-6)
        assert -1e-6 <= length - max((stop for _, stop in parts), default=0) < 0.95 * seconds + 1e-6
        assert (str(path) in source.refused) == (not parts)
    assert source.hours * 3600 == pytest.approx(sum(stop - start for _, start, stop in source.segments))
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


def test_clips_that_miss_a_little_are_taken_and_counted(tmp_path):
    """The clips of FMA have 29.976 s, those of MagnaTagATune 29.124 s."""
    lengths = {"fma": 29.976, "mtt": 29.124, "two": 59.98, "whole": 30.0, "short": 28.4}
    for name, length in lengths.items():
        write(tmp_path / f"{name}.wav", ramp(length))
    (tmp_path / "text.wav").write_text("no audio")
    source = files(tmp_path, seconds=30.0)
    assert source.summary == (
        "5 segments of 30 s from 4 of 6 files, 3 filled with up to 0.88 s of zeros; "
        "left out: 1 shorter than 28.5 s, 1 unreadable"
    )
    assert source.hours * 3600 == pytest.approx(29.976 + 29.124 + 59.98 + 30.0)
    with Loader(source, 5, 30 * RATE, 0, 1, 1) as loader:
        batch = loader.batch()
    assert loader.refused == {}
    for number, waveform in zip(batch.numbers, batch.waveform, strict=True):
        path, start, _ = source._segment(number)
        end = round((lengths[path.stem] - start) * RATE)
        expected = np.zeros(30 * RATE)
        expected[:end] = (ramp(lengths[path.stem])[round(start * RATE) :] / 32768)[: 30 * RATE]
        np.testing.assert_allclose(waveform, expected, atol=1e-6)


def test_where_no_file_is_long_enough_the_longest_is_told(folder):
    with pytest.raises(MarbleError) as caught:
        files(folder, seconds=60)
    assert str(caught.value) == (
        "None of the 9 audio files holds a segment of 60 s (5 shorter than 57 s, 4 unreadable): the longest has 3.50 s, "
        "so write a shorter --set seconds."
    )


def test_where_no_file_is_audio_the_first_reason_is_told(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(MarbleError, match=r"\(0 shorter than 0\.95 s, 1 unreadable\): .*empty\.wav is an empty file\.$"):
        files(tmp_path)


def test_a_thread_that_cannot_start_is_one_sentence(folder, monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(
        MarbleError, match=r"A thread cannot be started \(RuntimeError: can't start new thread\), for"
    ) as caught:
        files(folder)
    assert "\n" not in str(caught.value)


def test_a_channel_is_drawn_for_each_segment_and_epoch(tmp_path):
    """Whatever the process and wherever a training goes on; without the draw, channels are averaged."""
    for place in range(3):
        left = ramp(2.0, 1 + place)
        write(tmp_path / f"{place}.wav", np.stack([left, np.full_like(left, 9)], 1))
    write(tmp_path / "mono.wav", ramp(1.0))
    paths = sorted(tmp_path.iterdir())

    def heard(numbers, **options):
        source = Files(paths, 1.0, RATE, 0, **options)
        return {number: waveform for number, (_, waveform) in zip(numbers, source.decoded(iter(numbers), 1, 4), strict=True)}

    source, means, drawn = Files(paths, 1.0, RATE, 0), heard(range(42)), heard(range(42), random_channel=True)
    channels = {}
    for number, waveform in drawn.items():
        path, start, _ = source._segment(number)
        left = ramp(2.0, 1 if path.stem == "mono" else 1 + int(path.stem))[round(start * RATE) :][:RATE] / 32768
        right = left if path.stem == "mono" else np.full(RATE, 9 / 32768)
        np.testing.assert_allclose(means[number], (left + right) / 2, atol=1e-6)
        channel = int(not np.allclose(waveform, left, atol=1e-6))
        np.testing.assert_allclose(waveform, (left, right)[channel], atol=1e-6)
        channels.setdefault((path, start), set()).add(channel)
    assert channels.pop((tmp_path / "mono.wav", 0.0)) == {0}
    assert all(both == {0, 1} for both in channels.values())
    for numbers in (range(1, 42, 2), range(30, 42)):
        assert all(np.array_equal(waveform, drawn[number]) for number, waveform in heard(numbers, random_channel=True).items())


def test_a_silent_channel_is_named(tmp_path):
    write(tmp_path / "left.wav", np.stack([ramp(1.0), np.zeros(RATE)], 1))
    said = list(Files([tmp_path / "left.wav"], 1.0, RATE, 0, random_channel=True).decoded(iter(range(20)), 1, 4))
    reasons = {str(waveform) for _, waveform in said if isinstance(waveform, data.BadAudioError)}
    assert reasons == {"is silent (no sample of channel 2 above -100 dB)"}
    assert 0 < sum(isinstance(waveform, np.ndarray) for _, waveform in said) < 20


def test_missing_samples_are_zeros_and_one_too_many_is_dropped():
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
