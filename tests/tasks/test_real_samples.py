"""Real recordings run through their tasks: published lists and sizes, real layout, the one recording under a few more names."""

import shutil
from collections import Counter

import pytest

import marble
from marble.data.excerpts import represent
from marble.features.space import DEFAULT_SECONDS
from marble.registry import load_task
from marble.task import SPLITS

# Files of a data set -> where they lie below the data root; the last one is the recording.
FILES = {
    "gtzan": {
        "gtzan/*_filtered.txt": "gtzan",
        "layouts/gtzan_genre/gtzan_genre/genres/*/*.wav": "gtzan/gtzan_genre/genres/country/country.00000.wav",
    },
    "giantsteps-key": {
        "giantsteps/annotations.txt": "giantsteps/giantsteps-mtg-key-dataset/annotations",
        "giantsteps/beatport_metadata.txt": "giantsteps/giantsteps-mtg-key-dataset/annotations",
        "giantsteps/key/*.key": "giantsteps/giantsteps-key-dataset/annotations/key",
        "layouts/giantsteps_key/audio/10089*.mp3": "giantsteps/giantsteps-key-dataset/audio/10089.LOFI.mp3",
    },
    "mtg-mood": {
        "mtg-jamendo/autotagging_moodtheme-*.tsv": "mtg-jamendo/data/splits/split-0",
        "layouts/mtg_jamendo_autotagging_moodtheme/audios/48/948.mp3": "mtg-jamendo/audio/48/948.mp3",
    },
}
REAL = {"gtzan": ("valid", "country"), "giantsteps-key": ("test", "D major"), "mtg-mood": ("train", ("background",))}


@pytest.mark.parametrize("name", FILES)
def test_a_real_recording_runs_in_its_official_layout(name, shared, tmp_path):
    root = tmp_path / "data"
    for pattern, place in FILES[name].items():
        for file in (shared / "data").glob(pattern):
            recording = root / place if pattern.startswith("layouts") else root / place / file.name
            recording.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, recording)
    (root / "giantsteps/giantsteps-mtg-key-dataset/audio").mkdir(parents=True)
    clips = load_task(name).read(root)
    (real,) = [clip for clip in clips if clip.path == recording]
    assert (real.split, real.target) == REAL[name]
    splits = [[clip for clip in clips if clip.split == split and (clip.seconds or 0) < 300] for split in SPLITS]
    kept = {clip.id: clip for own in splits for clip in own[:: max(len(own) // 5, 1)]}
    for clip in (kept | {real.id: real}).values():
        clip.path.parent.mkdir(parents=True, exist_ok=True)
        if clip is not real:
            shutil.copy(recording, clip.path)
    quick = {"seeds": 1, "layers": "0", "settings": ["probe.epochs=1", "probe.hidden=4", "probe.learning_rates=1e-3"]}
    result = marble.run("fbank-chroma", name, data_root=root, results=tmp_path / "results", skip_bad=True, **quick)
    assert result.task.tracks == Counter(clip.split for clip in (kept | {real.id: real}).values())
    task = load_task(name)
    heard = represent(clips, task.most_windows or "all", task.window or DEFAULT_SECONDS)
    assert {bad.id for bad in result.bad_clips} == {clip.id for clip in heard} - set(kept) - {real.id}
    assert {bad.reason for bad in result.bad_clips} == {"cannot be read (no such file or directory)"}
    assert result.cost.clips_encoded == 1  # the one recording, whatever its names
