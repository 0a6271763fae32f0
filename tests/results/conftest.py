"""One run for all tests of results: every test gets copies of its own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import marble
from marble.results.schema import Result, Summary


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> tuple[Result, Path]:
    """A result of three layers and two seeds, and the folder of all results that holds it."""
    root = tmp_path_factory.mktemp("once")
    time = np.arange(4800) / 16_000
    for label, frequency in (("low", 220), ("middle", 880), ("high", 3520)):
        (root / "tones" / label).mkdir(parents=True)
        for take in range(8):
            tone = 0.4 * np.sin(2 * np.pi * frequency * (1 + 0.01 * take) * time)
            noise = 0.02 * np.random.default_rng(frequency + take).standard_normal(len(time))
            soundfile.write(root / "tones" / label / f"{take}.wav", tone + noise, 16_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARBLE_HOME", str(root / "home"))
        options = {"results": root / "results", "seeds": 2, "settings": ["probe.epochs=3"]}
        return marble.run("fbank-chroma", f"folder:{root / 'tones'}", **options), root / "results"


@pytest.fixture
def result(once) -> Result:
    return once[0].model_copy(deep=True)


@pytest.fixture
def saved(once, tmp_path) -> Path:
    """A folder of all results, with one in it."""
    return Path(shutil.copytree(once[1], tmp_path / "results"))


@pytest.fixture
def changed(result):
    """A function that copies the result for another upstream or task with another selected score."""

    def change(upstream="fbank-chroma", score=0.5, protocol=None, **task):
        copy = result.model_copy(deep=True)
        copy.upstream.name = upstream
        copy.task = copy.task.model_copy(update=task)
        copy.protocol.label = protocol or copy.protocol.label
        copy.selected.test["accuracy"] = Summary(mean=score, std=0.0, ci95=(score, score))
        return copy

    return change
