"""MARBLE v2 manifests and Hugging Face datasets as the source of the same task."""

import io
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from huggingface_hub import constants

import marble
from marble.audio import decode as audio
from marble.errors import MarbleError
from marble.jobs.run import prepare
from marble.registry import load_task
from marble.tasks.own.manifest import with_manifest

RATE = 16_000
TONES = {"blues": 220.0, "metal": 880.0, "rock": 3520.0}
TAKES = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}
QUICK = {"seeds": 1, "settings": ["probe.epochs=60", "probe.hidden=64", "probe.learning_rates=1e-3,1e-2"], "layers": "0"}


def tone(hertz: float, take: int) -> np.ndarray:
    noise = np.random.default_rng([take, int(hertz)]).standard_normal(RATE // 2)
    return 0.3 * (np.sin(2 * np.pi * hertz * (1 + 0.002 * take) * np.arange(RATE // 2) / RATE) + 0.02 * noise)


def jsonl(file: Path, rows: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def gtzan():
    """The task of three genres, with the sizes of the stand-ins as official ones."""
    return replace(load_task("gtzan"), split_sizes={"train": 12, "valid": 6, "test": 6})


@pytest.fixture
def v2(tmp_path):
    """The folder ``data`` of a MARBLE v2 checkout: GTZAN as it is downloaded, with a manifest of another task beside it."""
    home = tmp_path / "MARBLE/data/GTZAN"
    for split, takes in TAKES.items():
        rows = []
        for genre, hertz in TONES.items():
            for take in takes:
                name = f"{genre}/{genre}.{take:05d}.wav"
                (home / "genres" / genre).mkdir(parents=True, exist_ok=True)
                soundfile.write(home / "genres" / name, tone(hertz, take), RATE)
                about = {"duration": 0.5, "sample_rate": RATE, "num_samples": 8000, "bit_depth": 16, "channels": 1}
                rows.append({"audio_path": f"data/GTZAN/genres/{name}", "label": genre, **about})
        jsonl(home / f"GTZANGenre.{split}.jsonl", rows)
        jsonl(home / f"GTZANBeatTracking.{split}.jsonl", [row | {"label": {"beat": [0.5]}} for row in rows])
    return tmp_path / "MARBLE/data"


@pytest.mark.parametrize("source", [".", "GTZAN", "GTZAN/GTZANGenre.val.jsonl"])
def test_a_marble_v2_manifest_is_found_from_its_folder_its_data_folder_or_a_file(v2, gtzan, source, tmp_path):
    task = with_manifest(gtzan, str(v2 / source))
    clips = task.read(tmp_path)
    assert task.name == "gtzan@GTZANGenre"
    assert (task.labels, task.metrics, task.window, task.kind) == (gtzan.labels, gtzan.metrics, 30.0, "multiclass")
    assert [len([clip for clip in clips if clip.split == split]) for split in ("train", "valid", "test")] == [12, 6, 6]
    assert clips[0].id == "data/GTZAN/genres/blues/blues.00000.wav"
    assert (clips[0].path, clips[0].target) == (v2 / "GTZAN/genres/blues/blues.00000.wav", "blues")


def test_a_preset_knows_a_task_of_a_manifest(v2, gtzan, tmp_path):
    job = prepare("constant", with_manifest(gtzan, str(v2)), protocol="muq", cache_dir=tmp_path)
    assert job.windows.seconds == 10.0
    assert job.protocol.probe.learning_rates == (5e-3,)


def test_a_dataset_with_a_script_is_one_sentence(gtzan, tmp_path):
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted/scripted.py").write_text("raise SystemExit('the script ran')")
    with pytest.raises(MarbleError, match="nor a dataset that can be loaded") as caught:
        with_manifest(gtzan, str(tmp_path / "scripted")).read(tmp_path)
    assert "\n" not in str(caught.value)


def test_audio_is_found_by_the_end_of_its_path_below_manifest_current_folder_and_data_root(v2, gtzan, tmp_path, monkeypatch):
    def paths(manifest, root=tmp_path / "nothing"):
        return {clip.path.resolve() for clip in with_manifest(gtzan, str(manifest)).read(root)}

    expected = {path.resolve() for path in (v2 / "GTZAN/genres").glob("*/*.wav")}
    away = tmp_path / "lists"
    away.mkdir()
    for split in TAKES:
        (away / f"GTZANGenre.{split}.jsonl").write_bytes((v2 / f"GTZAN/GTZANGenre.{split}.jsonl").read_bytes())
    with pytest.raises(MarbleError, match=r"data/GTZAN/genres/blues/blues\.\d+\.wav' for one.*--data-root"):
        paths(away)
    assert paths(away, v2) == paths(away, v2.parent) == paths(away, v2 / "GTZAN") == expected
    monkeypatch.chdir(v2.parent)
    assert paths(away) == expected
    monkeypatch.chdir(tmp_path)
    v2.rename(tmp_path / "lists/data")
    assert len(paths(away)) == 24
    absolute = [{"audio_path": str(path), "label": "rock"} for path in sorted(away.glob("data/GTZAN/genres/rock/*.wav"))]
    for split, row in zip(TAKES, absolute, strict=False):
        jsonl(tmp_path / f"abs/{split}.jsonl", [row])
    with pytest.warns(UserWarning, match="abs has 1 / 1 / 1 tracks"):
        assert paths(tmp_path / "abs") == {Path(row["audio_path"]).resolve() for row in absolute[:3]}


def test_another_size_than_the_official_split_is_said_and_the_task_is_another_one(v2, gtzan, tmp_path):
    task = with_manifest(gtzan, str(v2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.read(tmp_path)
    with pytest.warns(UserWarning, match=r"GTZANGenre has 12 / 6 / 6 tracks .* of gtzan has 442 / 197 / 290"):
        result = marble.run("constant", load_task("gtzan", str(v2)), results=tmp_path / "results", limit=2, **QUICK)
    assert result.task.name == "gtzan@GTZANGenre"
    assert result.path.parts[:2] == ("constant", "gtzan-GTZANGenre")


def test_clips_of_one_original_are_one_track_and_keys_and_ratings_are_read(tmp_path):
    wave = tone(440.0, 1)
    for name in ("0-0", "0-1", "1-0", "2-0"):
        (tmp_path / "GS/wav").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"GS/wav/{name}.wav", wave, RATE)
    for split, names in (("train", ("0-0", "0-1")), ("val", ("1-0",)), ("test", ("2-0",))):
        rows = [{"audio_path": f"data/GS/wav/{name}.wav", "ori_uid": name[0], "label": "Eb minor"} for name in names]
        jsonl(tmp_path / f"GS/GS.{split}.jsonl", rows)
        jsonl(tmp_path / f"EMO/EMO.{split}.jsonl", [row | {"label": [-0.25, 1]} for row in rows])
        jsonl(tmp_path / f"MTG/MTGGenre.{split}.jsonl", [row | {"label": ["genre---rock", "pop"]} for row in rows])
        jsonl(tmp_path / f"MTG/MTGMood.{split}.jsonl", [row | {"label": []} for row in rows])
    read = {}
    for name in ("giantsteps-key", "emomusic", "mtg-genre", "mtg-mood"):
        with pytest.warns(UserWarning, match="1 / 1 / 1 tracks"):
            read[name] = load_task(name, str(tmp_path)).read(tmp_path)
    assert [clip.track for clip in read["giantsteps-key"]] == ["0", "0", "1", "2"]
    targets = [read[name][0].target for name in read]
    assert targets == ["Eb minor", (-0.25, 1.0), ("rock", "pop"), ()]


def test_a_file_may_tell_the_split_in_each_line_and_missing_files_are_bad_clips(v2, gtzan, tmp_path):
    rows = []
    for split in TAKES:
        lines = (v2 / f"GTZAN/GTZANGenre.{split}.jsonl").read_text().splitlines()
        rows += [json.loads(line) | {"split": {"val": "Validation"}.get(split, split)} for line in lines]
    file = jsonl(v2 / "GTZAN/mine.jsonl", rows)
    (v2 / "GTZAN/genres/rock/rock.00001.wav").unlink()
    task = with_manifest(gtzan, str(file))
    assert task.name == "gtzan@mine"
    result = marble.run("fbank-chroma", task, data_root=tmp_path, results=tmp_path / "results", skip_bad=True, **QUICK)
    assert [(clip.id, clip.reason) for clip in result.bad_clips] == [
        ("data/GTZAN/genres/rock/rock.00001.wav", "cannot be read (no such file or directory)")
    ]
    assert result.selected.test["accuracy"].mean > 0.9


GOOD = '{"audio_path": "genres/rock/rock.00000.wav", "label": "rock"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"Genre.val.jsonl line 7 is not a JSON object \(Expecting"),
        ("[1]", "Genre.val.jsonl line 7 is not a JSON object"),
        ("[" * 100_000, "Genre.val.jsonl line 7 is not a JSON object"),
        ('{"label": "rock"}', "Genre.val.jsonl line 7 names no audio"),
        ('{"audio_path": 3, "label": "rock"}', "line 7 names no audio"),
        (
            '{"audio_path": "a.wav", "label": "polka"}',
            "line 7 has the target 'polka' where gtzan needs one of its labels",
        ),
        ('{"audio_path": "a.wav", "label": ["rock", "pop"]}', "line 7 has the target"),
        ('{"audio_path": "a.wav"}', "line 7 has no target: write it into a field label, labels, target"),
        ("\xff", "The manifest .*GTZANGenre.val.jsonl cannot be read: .*utf-8"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(v2, gtzan, line, message, tmp_path):
    file = v2 / "GTZAN/GTZANGenre.val.jsonl"
    file.write_bytes(file.read_bytes() + b"\n" + line.encode("latin-1"))
    file.write_bytes(file.read_bytes().replace(b"\n\n", b"\n", 1))
    with pytest.raises(MarbleError, match=message):
        with_manifest(gtzan, str(v2)).read(tmp_path)


def test_numbers_have_to_be_numbers_and_as_many_as_the_task_has(v2, tmp_path):
    emomusic = load_task("emomusic")
    for value in ([1.0], [1.0, "x"], [1.0, float("nan")], 1.0):
        jsonl(tmp_path / "e.jsonl", [{"audio_path": "x.wav", "split": "train", "label": value}])
        with pytest.raises(MarbleError, match=r"e.jsonl line 1 has the target .* needs a finite number for each of its labels"):
            with_manifest(emomusic, str(tmp_path / "e.jsonl")).read(tmp_path)


def test_a_manifest_that_is_not_there_not_whole_or_not_clear_is_one_sentence(v2, gtzan, tmp_path):
    with pytest.raises(MarbleError, match="There is no manifest /no/such"):
        with_manifest(gtzan, "/no/such")
    jsonl(tmp_path / "part/X.train.jsonl", [])
    with pytest.raises(MarbleError, match=r"X.train.jsonl has no manifest of test and valid beside it"):
        with_manifest(gtzan, str(tmp_path / "part"))
    with pytest.raises(MarbleError, match="called GTZANBeatTracking, GTZANGenre, none or several of them for nsynth-pitch"):
        with_manifest(load_task("nsynth-pitch"), str(v2))
    jsonl(tmp_path / "x.jsonl", [{"audio_path": "a", "label": "rock"}])
    with pytest.raises(MarbleError, match=r"x.jsonl line 1 is of no known split \(''\)"):
        with_manifest(gtzan, str(tmp_path / "x.jsonl")).read(tmp_path)


def encoded(hertz: float, take: int, form: str) -> bytes:
    file = io.BytesIO()
    subtype = {"MP3": "MPEG_LAYER_III"}.get(form)
    soundfile.write(file, tone(hertz, take), RATE, format=form, subtype=subtype)
    return file.getvalue()


@pytest.fixture
def parts():
    """The stand-in of GTZAN as a Hugging Face dataset of bytes; genres are class labels in an order of their own."""
    features = datasets.Features(
        {
            "audio": datasets.Audio(),
            "genre": datasets.ClassLabel(names=["rock", "metal", "blues"]),
            "note": datasets.Value("string"),
        }
    )
    found = {}
    for split, takes in {"train": TAKES["train"], "validation": TAKES["val"], "test": TAKES["test"]}.items():
        rows = [
            {
                "audio": {
                    "bytes": encoded(hertz, take, ("OGG", "MP3", "WAV", "FLAC")[min(take, 2 + take % 2)]),
                    "path": "0.wav",
                },
                "genre": genre,
                "note": "x",
            }
            for genre, hertz in TONES.items()
            for take in takes
        ]
        found[split] = datasets.Dataset.from_list(rows).cast(features)
    return datasets.DatasetDict(found)


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def test_a_dataset_of_bytes_runs_without_torchcodec_and_is_written_out_once(parts, gtzan, tmp_path, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    parts.save_to_disk(tmp_path / "mine")
    task = with_manifest(gtzan, f"hf:{tmp_path}/mine", offline=True)
    assert task.name == "gtzan@mine"
    result = marble.run("fbank-chroma", task, data_root=tmp_path, results=tmp_path / "results", **QUICK)
    assert result.selected.test["accuracy"].mean > 0.6
    assert not result.bad_clips
    clips = task.read(tmp_path)
    heard = [audio.load(clip.path, RATE)[:8000] for clip in clips if clip.split == "train"]
    played = [tone(hertz, take) for hertz in TONES.values() for take in TAKES["train"]]
    alike = [np.corrcoef(one, other[: len(one)])[0, 1] for one, other in zip(heard, played, strict=True)]
    assert min(alike[2::4] + alike[3::4]) > 0.99999  # WAV and FLAC
    assert min(alike[::4]) > 0.98  # Ogg Vorbis
    files = sorted(path for path in (home / "audio").glob("*/*"))
    assert len(files) == 24
    assert {path.name for path in files} == {clip.path.name for clip in clips}
    stamps = [path.stat().st_mtime_ns for path in files]
    assert [clip.target for clip in task.read(tmp_path)] == [clip.target for clip in clips]
    assert [path.stat().st_mtime_ns for path in files] == stamps
    assert [(clip.id, clip.target) for clip in clips[3:5]] == [("mine train row 4", "blues"), ("mine train row 5", "metal")]


def test_a_folder_of_parquet_or_json_is_a_dataset_too(parts, gtzan, v2, tmp_path):
    for split, part in parts.items():
        part.to_parquet(tmp_path / f"parquet/{split}.parquet")
    clips = with_manifest(gtzan, str(tmp_path / "parquet")).read(tmp_path)
    assert [clip.target for clip in clips] == [clip.target for clip in with_manifest(gtzan, str(v2)).read(tmp_path)]
    lines = [json.loads(line) for line in (v2 / "GTZAN/GTZANGenre.train.jsonl").read_text().splitlines()]
    rows = [row | {"split": ("train", "dev", "test")[place % 3]} for place, row in enumerate(lines)]
    (tmp_path / "json").mkdir()
    (tmp_path / "json/all.json").write_text(json.dumps(rows))
    with pytest.warns(UserWarning, match="json has 4 / 4 / 4 tracks"):
        clips = with_manifest(gtzan, str(tmp_path / "json")).read(v2.parent)
    assert clips[1].path == v2 / "GTZAN/genres/blues/blues.00001.wav"
    assert clips[1].split == "valid"


def test_datasets_that_lack_a_split_a_label_or_anything_are_one_sentence(parts, gtzan, tmp_path):
    parts["train"].save_to_disk(tmp_path / "one")
    with pytest.raises(MarbleError, match="no clip in its valid split"), pytest.warns(UserWarning, match="12 / 0 / 0"):
        with_manifest(gtzan, str(tmp_path / "one")).read(tmp_path)
    datasets.DatasetDict({"train": parts["train"], "extra": parts["test"]}).save_to_disk(tmp_path / "extra")
    with pytest.raises(MarbleError, match=r"extra row 1 is of no known split \('extra'\)"):
        with_manifest(gtzan, str(tmp_path / "extra")).read(tmp_path)
    parts["train"].remove_columns("genre").save_to_disk(tmp_path / "none")
    with pytest.raises(MarbleError, match="none train row 1 has no target"):
        with_manifest(gtzan, str(tmp_path / "none")).read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MarbleError, match=r"empty holds neither the JSONL manifests .* nor a dataset that can be loaded"):
        with_manifest(gtzan, str(tmp_path / "empty")).read(tmp_path)


def test_a_dataset_of_the_hub_comes_from_its_cache_when_offline(v2, gtzan, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    with pytest.raises(MarbleError, match="hf:m-a-p/GTZAN is no folder here and cannot be had from the Hugging Face hub"):
        with_manifest(gtzan, "hf:m-a-p/GTZAN", offline=True)
    revision = "0" * 40
    repository = cache / "datasets--m-a-p--GTZAN"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(revision)
    (repository / "snapshots").mkdir()
    (v2 / "GTZAN").rename(repository / "snapshots" / revision)
    for source in ("hf:m-a-p/GTZAN", f"hf:m-a-p/GTZAN@{revision}"):
        task = with_manifest(gtzan, source, offline=True)
        assert task.name == "gtzan@GTZANGenre"
        assert task.read(tmp_path)[0].path == repository / "snapshots" / revision / "genres/blues/blues.00000.wav"
