"""The synthesiser as an endless stream of music without labels, to pretrain on.

Segment n is drawn from a random stream of its own and is the same on any machine. It is a medley of movements of 6 s, each of
one kind of piece (`marble.tasks.synth.pieces`), every piece recorded in a room of its own. The pieces are drawn from other
random streams than those of the tasks, and single notes use the programs of the training split only: no clip of a task
appears. Phrases, harmonies and grooves use all programs, as in every split of the tasks.
"""

from __future__ import annotations

from random import Random

import numpy as np
import soxr

from marble.tasks.synth.pieces import PITCH_PROGRAMS, PITCHES, instrument_piece, key_piece, pitch_piece, tempo_piece
from marble.tasks.synth.soundfont import RATE
from marble.tasks.synth.tasks import render

_KINDS = (pitch_piece, instrument_piece, key_piece, tempo_piece)
_MOVEMENT = 6.0  # seconds of one kind: six notes, three phrases, one piece in a key, or one groove
_NUMBERS = len(PITCH_PROGRAMS["train"]) * len(PITCHES)


def segment(number: int, seconds: float, sample_rate: int) -> np.ndarray:
    """Return the segment of this number, ``float32[N]`` at `sample_rate` in Hz.

    Raises:
        MarbleError: the soundfont is not installed.
    """
    random = Random(f"synth stream {number}")
    samples = round(seconds * RATE)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < samples:
        compose = random.choice(_KINDS)
        filled = 0.0
        while filled < _MOVEMENT:
            name = f"synth stream {number} {len(parts)}"
            audio, piece = render(name, compose, "train", random.randrange(_NUMBERS))
            parts.append(audio.astype(np.float32) / 32768)
            filled += piece.seconds
    audio = np.concatenate(parts)[:samples]
    return audio if sample_rate == RATE else soxr.resample(audio, RATE, sample_rate, quality="HQ")
