"""A folder of files that stand for audio: their content tells them apart, nothing decodes them."""

from pathlib import Path

import pytest


@pytest.fixture
def audio(tmp_path) -> Path:
    for number in range(12):
        (tmp_path / f"{number}.wav").write_text(f"content {number}")
    return tmp_path
