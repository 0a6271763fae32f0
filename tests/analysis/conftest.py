"""A small data set of tones, and what stays of a run over it."""

import numpy as np
import pytest
import soundfile


@pytest.fixture
def noises(tmp_path):
    """Twelve noises of different colour and length in two class folders."""
    for number in range(12):
        folder = tmp_path / "noises" / ("dark" if number % 2 else "bright")
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number)
        noise = np.convolve(random.normal(size=18_000 + 2400 * number), (0.95 if number % 2 else 0.2) ** np.arange(200))
        envelope = np.repeat(random.uniform(0.1, 1, len(noise) // 400 + 1), 400)[: len(noise)]
        soundfile.write(folder / f"{number}.wav", 0.2 * envelope * noise / np.abs(noise).max(), 16_000)
    return tmp_path / "noises"
