"""Excerpts of long clips: how many, where they lie, and what says how long a clip is."""

from itertools import pairwise
from pathlib import Path

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from marble.data.excerpts import represent
from marble.task import Clip


def track(seconds: float, **fields) -> Clip:
    return Clip("song", Path("song.mp3"), "test", ("rock",), seconds=seconds, **fields)


@pytest.mark.parametrize("seconds", [301.1, 303.0, 4000.0])
def test_a_long_clip_is_ten_excerpts_from_its_beginning_to_its_end(seconds):
    excerpts = represent([track(seconds, artist="a")], 10, 30.0)
    assert len(excerpts) == len({clip.id for clip in excerpts}) == 10
    assert {(clip.track, clip.path, clip.target, clip.split, clip.artist) for clip in excerpts} == {
        ("song", Path("song.mp3"), ("rock",), "test", "a")
    }
    starts = [clip.start for clip in excerpts]
    assert starts[0] == 0
    assert starts[-1] + 30 == pytest.approx(seconds - 1)
    assert all(later - earlier == pytest.approx((seconds - 31) / 9, abs=0.11) for earlier, later in pairwise(starts))
    assert all(clip.stop - clip.start == pytest.approx(30) for clip in excerpts)
    assert excerpts[3].id == f"song@{starts[3]:g}"


def test_a_clip_of_ten_windows_stays_whole():
    assert represent([track(301.0)], 10, 30.0) == [track(301.0)]
    assert represent([track(4000.0)], "all", 30.0) == [track(4000.0)]


def test_a_clip_is_heard_until_a_time_after_its_beginning():
    begun = track(90.0, start=10.0)
    assert represent([track(45.0), track(29.0), begun], "all", 5.0, until=30.0) == [
        track(45.0, stop=30.0),
        track(29.0),
        track(90.0, start=10.0, stop=40.0),
    ]
    assert [clip.start for clip in represent([track(90.0)], 2, 10.0, until=30.0)] == [0.0, 19.0]


@given(
    seconds=st.floats(1, 5000),
    most=st.integers(1, 20),
    window=st.floats(1, 60),
    start=st.floats(0, 100),
)
def test_excerpts_lie_inside_their_clip_in_order(seconds, most, window, start):
    clip = Clip("song", Path("song.mp3"), "test", "rock", start=start, stop=start + seconds)
    excerpts = represent([clip], most, window)
    if seconds <= most * window + 1:
        assert excerpts == [clip]
        return
    assert len(excerpts) == most
    assert excerpts[0].start == pytest.approx(start, abs=0.06)
    assert all(later.start > earlier.start for earlier, later in pairwise(excerpts))
    assert excerpts[-1].stop < clip.stop + 0.05
    assert {excerpt.track for excerpt in excerpts} == {"song"}


def test_a_header_tells_the_length_that_nothing_else_states(tmp_path):
    soundfile.write(tmp_path / "long.wav", [0.1] * 10_000, 1_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF and nothing else")
    clips = [Clip(name, tmp_path / f"{name}.wav", "train", "a") for name in ("long", "broken", "missing")]
    assert [clip.id for clip in represent(clips, 3, 2.0)] == ["long@0", "long@3.5", "long@7", "broken", "missing"]
    assert [clip.id for clip in represent([Clip("rest", clips[0].path, "train", "a", start=4.0)], 1, 2.0)] == ["rest@4"]


def test_excerpts_of_a_clip_of_a_group_stay_in_the_group():
    grouped = Clip("song", Path("song.mp3"), "test", "rock", group="album", seconds=90.0)
    assert {clip.track for clip in represent([grouped], 2, 30.0)} == {"album"}
