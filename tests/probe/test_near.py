"""Near-duplicates across splits: takes of one drum are noticed, independent clips and a split by kit are not."""

import numpy as np
import pytest
import soundfile
import torch

import marble
from marble.errors import MarbleError
from marble.probe.near import LIMIT, expected_neighbours

RATE = 16_000
VELOCITIES = (40, 70, 100, 127)
KITS = 20


def drum(name, kit, velocity):
    """A stroke on one drum of a kit: the kit decides pitch, band and decay, the velocity loudness and brightness."""
    kits = np.random.default_rng([kit, len(name)])
    pitch, band, width, decay = kits.uniform((80, 500, 200, 8), (300, 6000, 2500, 40))
    time = np.arange(RATE // 2) / RATE
    spectrum = np.fft.rfft(np.random.default_rng([kit, velocity, len(name)]).standard_normal(len(time)))
    shape = 1 / (1 + ((np.fft.rfftfreq(len(time), 1 / RATE) - band) / width) ** 2)
    noise = np.fft.irfft(spectrum * shape ** (1.5 - velocity / 254))
    tone = 0 if name == "hat" else np.sin(2 * np.pi * pitch * time)
    return 0.4 * (velocity / 127) ** 2 * (noise / noise.std() * 0.3 + tone) * np.exp(-time * decay)


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    """A folder of drums: 20 kits of 3 drums in 4 velocities, and a table that splits them by kit."""
    root = tmp_path_factory.mktemp("kits")
    lines = ["path,label,split"]
    for name in ("kick", "snares", "hat"):
        for kit in range(KITS):
            for velocity in VELOCITIES:
                path = root / "drums" / name / f"kit{kit:02d}-{velocity}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, drum(name, kit, velocity), RATE)
                split = "test" if kit % 5 == 0 else "valid" if kit % 5 == 1 else "train"
                lines.append(f"{path},{name},{split}")
    (root / "by-kit.csv").write_text("\n".join(lines) + "\n")
    return root


def audited(task, tmp_path):
    """The audit of a run, and what its result says of it."""
    options = {"layers": "0", "seeds": 1, "settings": ["probe.epochs=1", "probe.learning_rates=1e-3"]}
    result = marble.run("fbank-chroma", task, results=tmp_path, **options)
    return result.near_duplicates, [doubt for doubt in result.doubts if "near-duplicates of a train track" in doubt]


def kit_of(track):
    return track.rpartition("kit")[2][:2]


def test_takes_of_one_drum_in_two_splits_are_named(kits, tmp_path):
    near, doubts = audited(f"folder:{kits / 'drums'}", tmp_path)
    assert near.test > 0.05
    assert len(near.pairs) >= 5
    assert sum(kit_of(pair.track) == kit_of(pair.near) for pair in near.pairs) >= 0.75 * len(near.pairs)
    assert doubts == [near.caution]


def test_a_split_by_kit_is_silent(kits, tmp_path):
    near, doubts = audited(f"table:{kits / 'by-kit.csv'}", tmp_path)
    assert (near.train_tracks, near.caution, doubts) == (3 * 12 * 4, None, [])


def test_near_duplicates_are_kept_in_one_split(kits, tmp_path):
    options = {"layers": "0", "seeds": 1, "settings": ["probe.epochs=1", "probe.learning_rates=1e-3"], "results": tmp_path}
    options["settings"].append("split.near=group")
    result = marble.run("fbank-chroma", f"folder:{kits / 'drums'}", **options)
    assert result.task.name == "folder:drums@near"
    parted = result.predictions(tmp_path).query("split != 'train'").groupby("split").track.nunique()
    assert parted.to_dict() == {"test": 48, "valid": 48}
    plain, near = audited(f"folder:{kits / 'drums'}", tmp_path)[0], result.near_duplicates
    assert near.test + near.valid < 0.25 * (plain.test + plain.valid)
    again = marble.run("fbank-chroma", f"folder:{kits / 'drums'}", **options)
    assert again == result


def test_data_with_splits_of_its_own_is_not_dealt_again(kits, tmp_path):
    with pytest.raises(MarbleError, match=r"split\.near=group deals the clips to splits, but .*by-kit.csv states its own"):
        marble.run("fbank-chroma", f"table:{kits / 'by-kit.csv'}", results=tmp_path, settings=["split.near=group"])


@pytest.mark.parametrize("width", [3, 10, 100])
@pytest.mark.parametrize("count", [80, 1000])
def test_independent_tracks_are_as_rarely_near_as_stated(width, count):
    generator = torch.Generator().manual_seed(width + count)
    train, tracks = (torch.randn(size, width, generator=generator, dtype=torch.float64) for size in (count, 2000))
    expected = expected_neighbours(tracks, train)[0][:, 0]
    assert float((expected < LIMIT).double().mean()) <= 0.005
    assert float((expected < 0.1).double().mean()) < 0.2
    assert count < 1000 or float((expected < 0.5).double().mean()) > 0.15  # neighbours are about as dense as assumed


def test_near_and_equal_tracks_are_found_whatever_the_units():
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(300, 20, generator=generator, dtype=torch.float64)
    tracks = torch.cat([train[:50], train[50:100] + 1e-3, torch.randn(50, 20, generator=generator, dtype=torch.float64)])
    scale = 10 ** torch.linspace(-6, 6, 20, dtype=torch.float64)
    for factor in (1, scale):
        expected, nearest = expected_neighbours(tracks * factor + 5 * factor, train * factor + 5 * factor)
        assert (expected[:, 0] < LIMIT).tolist() == 100 * [True] + 50 * [False]
        assert nearest[:100, 0].tolist() == list(range(100))


def test_features_that_tell_nothing_are_no_duplicates():
    expected, _ = expected_neighbours(torch.ones(10, 4, dtype=torch.float64), torch.ones(100, 4, dtype=torch.float64))
    assert not (expected < LIMIT).any()
