"""The endless stream: the same everywhere, of the length asked for, never a clip of a task."""

import hashlib

import numpy as np
import pytest

from marble.tasks import STREAMS
from marble.tasks.synth import tasks as synth
from marble.tasks.synth.pieces import pitch_piece
from marble.tasks.synth.stream import segment


def test_it_is_found_by_name():
    assert {"synth": f"{segment.__module__}:{segment.__name__}"} == STREAMS


@pytest.mark.parametrize(("seconds", "rate"), [(2.0, 24_000), (1.5, 16_000)])
def test_length_rate_and_repetition(seconds, rate):
    audio = segment(5, seconds, rate)
    assert audio.dtype == np.float32
    assert len(audio) == round(seconds * rate)
    assert 0.01 < np.abs(audio).max() <= 1.0
    assert np.array_equal(audio, segment(5, seconds, rate))
    assert not np.array_equal(audio, segment(6, seconds, rate))


def test_a_longer_segment_begins_as_a_shorter_one():
    assert np.array_equal(segment(3, 1.0, 24_000), segment(3, 8.0, 24_000)[:24_000])


def test_no_clip_of_a_task_is_heard():
    """A piece depends on the name of its stream, which no task has."""
    heard = {hashlib.sha256(segment(number, 1.0, 24_000).tobytes()).digest() for number in range(12)}
    clips = [synth.render("synth-pitch", pitch_piece, "train", number)[0] / np.float32(32768) for number in range(12)]
    assert not heard & {hashlib.sha256(clip.astype(np.float32)[:24_000].tobytes()).digest() for clip in clips}
