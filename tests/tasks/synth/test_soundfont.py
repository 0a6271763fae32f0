"""The sampler is in tune, loud as told, repeatable, and says so when its soundfont is not there."""

import math

import numpy as np
import pytest

from marble.errors import MarbleError
from marble.tasks.synth import soundfont
from marble.tasks.synth.pieces import LOWEST_PITCH, PITCH_PROGRAMS
from marble.tasks.synth.soundfont import RATE, Note, mix, zones


def fundamental(audio):
    """The fundamental in Hz: the first high peak of the normalised autocorrelation (McLeod and Wyvill 2005)."""
    audio = audio.astype(np.float64) - audio.mean()
    power = np.concatenate([[0], np.cumsum(audio**2)])
    lags = np.arange(RATE // 40)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(audio, 2 * len(audio))) ** 2)[lags]
    similarity = 2 * correlation / (power[len(audio) - lags] + power[-1] - power[lags])
    falls = int(np.argmax(similarity < 0))
    middle = similarity[1:-1]
    peaks = 1 + np.flatnonzero((middle > similarity[:-2]) & (middle >= similarity[2:]))
    peaks = peaks[peaks > falls]
    peak = peaks[similarity[peaks] > 0.9 * similarity[peaks].max()][0]
    before, at, after = similarity[peak - 1 : peak + 2]
    return RATE / (peak + (before - after) / (2 * (before - 2 * at + after)))


def decibels(audio):
    return 10 * math.log10(np.square(audio, dtype=np.float64).mean())


@pytest.mark.parametrize("program", [program for programs in PITCH_PROGRAMS.values() for program in programs])
def test_every_pitch_program_sounds_at_the_key_that_is_played(program):
    for key in range(LOWEST_PITCH, LOWEST_PITCH + 36, 7):
        heard = fundamental(mix([Note(0, 1, key, 100, program)], 1)[RATE // 10 : RATE // 2])
        assert 12 * math.log2(heard / 440) + 69 == pytest.approx(key, abs=0.2)


def test_tuning_moves_instruments_and_leaves_drums():
    sharp, flat = (fundamental(mix([Note(0, 1, 60, 100, 73)], 1, tuning=cents)[RATE // 10 :]) for cents in (50, -50))
    assert 1200 * math.log2(sharp / flat) == pytest.approx(100, abs=2)
    drum = [Note(0, 0.2, 38, 100, 0, drum=True)]
    assert np.array_equal(mix(drum, 0.5, tuning=50), mix(drum, 0.5))


def test_a_looped_sample_sounds_as_long_as_the_note_and_then_stops():
    audio = mix([Note(0.5, 4, 60, 100, 19)], 6)
    assert np.all(audio[: RATE // 2] == 0)
    assert decibels(audio[4 * RATE : 4 * RATE + RATE // 4]) == pytest.approx(decibels(audio[RATE : RATE + RATE // 4]), abs=2)
    assert np.abs(audio[round(4.7 * RATE) :]).max() < 0.01 * np.abs(audio).max()
    assert np.all(audio[round(5.01 * RATE) :] == 0)


def test_a_struck_string_dies_away():
    audio = mix([Note(0, 4, 60, 100, 24)], 4)
    assert decibels(audio[3 * RATE :]) < decibels(audio[:RATE]) - 6


def test_loudness_is_the_square_of_velocity():
    loud, soft = (mix([Note(0, 0.5, 60, velocity, 0)], 1) for velocity in (120, 60))
    np.testing.assert_allclose(loud, 4 * soft, rtol=1e-5, atol=1e-9)


def test_the_envelope_follows_the_specification():
    zone = zones(19, 60)[0]
    envelope = soundfont._envelope(zone, Note(0, 1, 60, 127, 19))
    sustain = zone.gain * 10 ** (-zone.sustain / 20)
    after = round(0.1 * zone.release * RATE)
    assert envelope[RATE - 1] == pytest.approx(sustain, rel=1e-3)
    assert envelope[RATE + after] == pytest.approx(sustain * 10 ** (-100 * 0.1 / 20), rel=1e-2)
    half_risen = round((zone.delay + zone.attack / 2) * RATE)
    assert envelope[half_risen] == pytest.approx(zone.gain / 2, rel=0.05)


def test_notes_add_up_and_are_cut_at_both_ends():
    first, second = Note(0.1, 0.3, 60, 90, 0), Note(0.2, 0.4, 64, 90, 40)
    np.testing.assert_allclose(mix([first, second], 1), mix([first], 1) + mix([second], 1), atol=1e-6)
    early = mix([Note(-0.25, 0.5, 60, 90, 40)], 0.5)
    whole = mix([Note(0, 0.5, 60, 90, 40)], 0.75)
    assert np.array_equal(early, whole[RATE // 4 :])
    assert np.array_equal(
        mix([Note(0, 0.5, 60, 90, 40), Note(7, 1, 60, 90, 40), Note(-9, 1, 60, 90, 40)], 0.2), whole[: RATE // 5]
    )


def test_a_note_does_not_depend_on_what_was_played_before():
    note = [Note(0, 0.4, 62, 90, 1)]
    soundfont._steady.cache_clear()
    alone = mix(note, 1)
    soundfont._steady.cache_clear()
    mix([Note(0, 2, 62, 90, 0), Note(0, 0.4, 62, 50, 1), Note(0, 0.4, 62, 90, 3)], 1)  # programs that share recordings
    assert np.array_equal(mix(note, 1), alone)


def test_a_key_without_a_recording_is_an_error():
    with pytest.raises(ValueError, match="Program 65 has no recording for key 64"):
        mix([Note(0, 1, 64, 100, 65)], 1)


@pytest.mark.parametrize(
    ("name", "value", "message"), [("SOUNDFONT", "no.sf2", "is missing"), ("SHA256", "0" * 64, "not the expected")]
)
def test_a_missing_or_foreign_soundfont_is_named(monkeypatch, name, value, message):
    monkeypatch.setattr(soundfont, name, value)
    with pytest.raises(MarbleError, match=message):
        soundfont._soundfont()
