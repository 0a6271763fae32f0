"""Small real data for the tests of the harness."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


def write_tones(root: Path, each: int = 8, seconds: float = 0.3) -> Path:
    """Write `each` tones in a little noise for each of three class folders below `root` and return it."""
    for number, (name, frequency) in enumerate({"low": 220.0, "middle": 880.0, "high": 3520.0}.items()):
        (root / name).mkdir(parents=True)
        for take in range(each):
            time = np.arange(round(seconds * RATE)) / RATE
            noise = 0.02 * np.random.default_rng(100 * number + take).standard_normal(len(time))
            soundfile.write(
                root / name / f"{take}.wav", 0.4 * np.sin(2 * np.pi * frequency * (1 + 0.01 * take) * time) + noise, RATE
            )
    return root


@pytest.fixture
def tones(tmp_path):
    """A folder of three class folders with eight tones each."""
    return write_tones(tmp_path / "tones")
