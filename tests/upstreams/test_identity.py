"""What decides hidden states decides the key of the cache: the tensors, and the settings beside them."""

import shutil
from pathlib import Path

from marble.registry import load_upstream

DATA = Path(__file__).parents[1] / "fixtures" / "upstreams"


def test_a_setting_that_moves_numbers_moves_the_hash_too(tmp_path):
    shutil.copytree(DATA / "muq", tmp_path / "muq")
    published = load_upstream(f"muq:{tmp_path / 'muq'}").weights_hash()
    assert load_upstream(f"muq:{tmp_path / 'muq'}").weights_hash() == published
    config = tmp_path / "muq" / "config.json"
    config.write_text(config.read_text().replace("18.41792", "19.41792"))
    assert load_upstream(f"muq:{tmp_path / 'muq'}").weights_hash() != published
