"""MERT in a run: the windows that it hears by default, and what their length changes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import marble

WEIGHTS = Path(__file__).parents[1] / "fixtures" / "upstreams" / "mert-95m"


@pytest.fixture
def chords(tmp_path):
    """Two class folders of five chords of 11 s each."""
    time = np.arange(11 * 24_000) / 24_000
    for label, ratio in (("major", 5 / 4), ("minor", 6 / 5)):
        (tmp_path / "chords" / label).mkdir(parents=True)
        for take in range(5):
            chord = sum(np.sin(2 * np.pi * (220 + 9 * take) * step * time) for step in (1, ratio, 3 / 2))
            soundfile.write(tmp_path / "chords" / label / f"{take}.wav", 0.2 * chord * (1 + np.sin(time)) / 2, 24_000)
    return tmp_path / "chords"


def test_five_seconds_are_the_default_and_another_length_gives_other_numbers(chords, tmp_path):
    """Windows of 5, 5 and 1 s against one of 11 s; whoever asks for 5 s finds the features of the default in the cache."""
    runs = {}
    for seconds in (None, 5, 30):
        settings = ["probe.epochs=5", "probe.hidden=16", *([f"windows.seconds={seconds}"] if seconds else [])]
        runs[seconds] = marble.run(
            f"mert-95m:{WEIGHTS}", f"folder:{chords}", layers="0,1", seeds=1, settings=settings, results=tmp_path / "results"
        )
    assert [result.protocol.windows["seconds"] for result in runs.values()] == [5, 5, 30]
    assert [result.cost.clips_encoded for result in runs.values()] == [10, 0, 10]
    logits = {seconds: result.predictions(tmp_path / "results").logits.map(tuple) for seconds, result in runs.items()}
    assert logits[None].equals(logits[5])
    assert not logits[None].equals(logits[30])
