"""The files of tasks: what is said about them, how they are fetched, and what a check of them finds."""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from typer.testing import CliRunner

from marble import registry
from marble.cli.app import app
from marble.data import prepare as data
from marble.data.verify import Finding, verify
from marble.errors import MarbleError
from marble.task import Clip, Resource, Task

REAL = [name for name in registry.complete_task_names() if not registry.load_task(name).synthetic]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sound(number: int) -> bytes:
    """Return a wav of half a second, another one for each number."""
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(number).standard_normal(8000), 16_000, format="WAV")
    return file.getvalue()


SOUNDS = {f"{name}.wav": sound(number) for number, name in enumerate("abcdef")}
LISTED = {f"{name}.wav": sound(number) for number, name in enumerate("gh", 10)}
SPLIT_OF = dict(zip("abcdefgh", ("train", "train", "train", "valid", "test", "test", "valid", "train"), strict=True))
SPLITS = "".join(f"{name} {split}\n" for name, split in SPLIT_OF.items()).encode()


def packed() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in SOUNDS.items():
            info = tarfile.TarInfo(f"toy-1.0/sounds/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def list_of(address: str) -> bytes:
    return json.dumps({f"{address}/more/{name}": hashlib.md5(content).hexdigest() for name, content in LISTED.items()}).encode()


def listed_files(root: Path) -> list[Resource]:
    file = root / "toy/list.json"
    if not file.is_file():
        raise MarbleError("The list is not there.")
    return [
        Resource(f"toy/more/{url.rpartition('/')[2]}", "CC0", (url,), md5) for url, md5 in json.loads(file.read_text()).items()
    ]


def toy_clips(root: Path) -> list[Clip]:
    lines = [line.split() for line in (root / "toy/splits.txt").read_text().splitlines()]
    place = {name: root / ("toy/more" if f"{name}.wav" in LISTED else "toy/sounds") / f"{name}.wav" for name in SPLIT_OF}
    return [Clip(name, place[name], split, "x", artist=f"artist {name}") for name, split in lines]


@pytest.fixture
def toy(web) -> Task:
    """A task of every kind of resource, all on the server but the last."""
    archive, table = packed(), list_of(web.address)
    web.files = {"/toy.tar.gz": archive, "/splits.txt": SPLITS, "/list.json": table}
    web.files |= {f"/more/{name}": content for name, content in LISTED.items()}
    return Task(
        name="toy", version=1, description="d", kind="multiclass", labels=("x",), metrics=("accuracy",), clips=toy_clips,
        citation="c", licence="l", source="s", split_sizes={"train": 4, "valid": 2, "test": 2},
        resources=(
            Resource("toy/splits.txt", "MIT", (f"{web.address}/splits.txt",), sha256(SPLITS), len(SPLITS)),
            Resource("toy/sounds", "CC BY", (f"{web.address}/toy.tar.gz",), sha256(archive), holds="*.wav"),
            Resource("toy/list.json", "MIT", (f"{web.address}/list.json",), sha256(table)),
            Resource("toy/more", "CC0", files=listed_files),
            Resource("toy/gated", "on request", holds="*.mp3", also=("toy/old",), by_hand="ask them"),
        ),
    )  # fmt: skip


def states(task: Task, root: Path) -> dict[str, str]:
    return {row["path"].removeprefix("toy/"): row["state"] for row in data.status([task], root)}


def held(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".prepare.lock"}


WHOLE = {
    "toy/splits.txt",
    "toy/list.json",
    *(f"toy/sounds/{name}" for name in SOUNDS),
    *(f"toy/more/{name}" for name in LISTED),
}
ALL_THERE = {"splits.txt": "there", "sounds": "there", "list.json": "there", "more": "there", "gated": "missing"}


def test_everything_that_is_offered_is_fetched_once(toy, web, tmp_path):
    assert set(states(toy, tmp_path).values()) == {"missing"}
    assert data.prepare([toy, replace(toy, name="twin")], tmp_path) == []
    assert held(tmp_path) == WHOLE
    assert states(toy, tmp_path) == ALL_THERE
    assert {name: (tmp_path / "toy/sounds" / name).read_bytes() for name in SOUNDS} == SOUNDS
    asked = len(web.asked)
    assert asked == 5
    assert data.prepare([toy], tmp_path) == []
    assert len(web.asked) == asked


def test_one_failure_does_not_stop_the_others_and_the_next_run_does_the_rest(toy, web, tmp_path):
    lost = {name: web.files.pop(name) for name in ("/splits.txt", "/more/g.wav")}
    web.files["/toy.tar.gz"], archive = b"another one", web.files["/toy.tar.gz"]
    complaints = data.prepare([toy], tmp_path)
    assert len(complaints) == 3
    assert "splits.txt answers 404" in complaints[0]
    assert "toy.tar.gz is not the published file" in complaints[1]
    assert "1 files of " in complaints[2]
    assert "more/g.wav answers 404" in complaints[2]
    assert held(tmp_path) == {"toy/list.json", "toy/more/h.wav"}
    assert states(toy, tmp_path)["more"] == "1 of 2 are missing or to be removed, first toy/more/g.wav"
    web.files |= lost | {"/toy.tar.gz": archive}
    assert data.prepare([toy], tmp_path) == []
    assert held(tmp_path) == WHOLE


def test_a_file_that_was_changed_is_replaced(toy, tmp_path):
    data.prepare([toy], tmp_path)
    (tmp_path / "toy/splits.txt").write_text("a train\n")
    assert states(toy, tmp_path)["splits.txt"] == "not the published one"
    data.prepare([toy], tmp_path)
    assert states(toy, tmp_path) == ALL_THERE


@pytest.mark.parametrize("flat", [True, False])
def test_a_mirror_stands_in_for_the_network(toy, web, tmp_path, flat):
    mirror, root = tmp_path / "mirror", tmp_path / "root"
    contents = {name.removeprefix("/"): content for name, content in web.files.items()}
    for name, content in contents.items():
        file = mirror / (Path(name).name if flat else f"toy/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (mirror / "gated").mkdir()
    (mirror / "gated/x.mp3").write_text("sound")
    before = held(mirror)
    assert data.prepare([toy], root, mirror=mirror) == []
    assert held(root) == WHOLE | {"toy/gated/x.mp3"}
    assert held(mirror) == before
    assert web.asked == []


def test_a_mirror_with_unpacked_folders_gaps_and_wrong_files(toy, web, tmp_path):
    mirror, root = tmp_path / "mirror", tmp_path / "root"
    (mirror / "toy/sounds").mkdir(parents=True)
    for name, content in SOUNDS.items():
        (mirror / "toy/sounds" / name).write_bytes(content)
    (mirror / "toy/splits.txt").write_text("other\n")
    complaints = data.prepare([toy], root, mirror=mirror)
    assert len(complaints) == 1
    assert "mirror/toy/splits.txt is not the published file" in complaints[0]
    assert held(root) == {f"toy/sounds/{name}" for name in SOUNDS}
    assert web.asked == []
    with pytest.raises(MarbleError, match=r"There is no folder .*nowhere"):
        data.prepare([toy], root, mirror=tmp_path / "nowhere")


def test_offline_unpacks_what_is_there(toy, web, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/toy.tar.gz").write_bytes(web.files["/toy.tar.gz"])
    assert data.prepare([toy], tmp_path, offline=True) == []
    assert held(tmp_path) == {f"toy/sounds/{name}" for name in SOUNDS}
    assert web.asked == []


def test_an_archive_in_parts_is_joined(toy, web, tmp_path):
    archive = web.files["/toy.tar.gz"]
    urls = []
    for part in range(3):
        web.files[f"/toy.zip.00{part}"] = archive[part * 40_000 : (part + 1) * 40_000 if part < 2 else None]
        urls.append(f"{web.address}/toy.zip.00{part}")
    parted = replace(toy, resources=(Resource("toy/sounds", "CC BY", tuple(urls), holds="*.wav"),))
    assert data.prepare([parted], tmp_path) == []
    assert held(tmp_path) == {f"toy/sounds/{name}" for name in SOUNDS}


def test_a_folder_of_something_else_is_left_alone(toy, web, tmp_path):
    (tmp_path / "toy/sounds").mkdir(parents=True)
    (tmp_path / "toy/sounds/mine.txt").write_text("mine")
    complaints = data.prepare([toy], tmp_path)
    assert len(complaints) == 1
    assert "toy/sounds is there, but holds no *.wav: move it away" in complaints[0]
    assert ("/toy.tar.gz", None) not in web.asked
    assert (tmp_path / "toy/sounds/mine.txt").read_text() == "mine"


def test_a_folder_in_another_place_counts(toy, tmp_path):
    (tmp_path / "toy/old").mkdir(parents=True)
    assert states(toy, tmp_path)["gated"] == "missing"
    (tmp_path / "toy/old/x.mp3").write_text("sound")
    assert states(toy, tmp_path)["gated"] == "there"


def test_two_at_once_do_not_mix(toy, tmp_path):
    with FileLock(tmp_path / ".prepare.lock"), pytest.raises(MarbleError, match="Another marble data prepare fills"):
        data.prepare([toy], tmp_path)


def test_what_is_there_needs_no_writing(prepared, tmp_path):
    (tmp_path / ".prepare.lock").unlink(missing_ok=True)
    assert data.prepare([prepared], tmp_path) == []
    assert not (tmp_path / ".prepare.lock").exists()


def found(task: Task, root: Path) -> dict[str, Finding]:
    return {finding.check: finding for finding in verify(task, root, workers=1)}


@pytest.fixture
def prepared(toy, tmp_path) -> Task:
    data.prepare([toy], tmp_path)
    return replace(toy, resources=toy.resources[:-1])


def test_a_good_data_set_is_found_good(prepared, tmp_path):
    findings = found(prepared, tmp_path)
    assert list(findings) == ["files", "splits", "artists", "audio", "leakage", "labels"]
    assert all(finding.good and not finding.wrong for finding in findings.values())
    assert findings["splits"].found == "4 train, 2 valid, 2 test (as declared)"
    assert findings["audio"].found == "8 of 8 clips can be decoded"


def test_everything_that_is_wrong_is_found(prepared, tmp_path):
    sounds = tmp_path / "toy/sounds"
    shutil.copy(sounds / "a.wav", sounds / "e.wav")  # of train and of test
    shutil.copy(tmp_path / "toy/more/h.wav", sounds / "b.wav")  # both of train
    (sounds / "c.wav").write_bytes(SOUNDS["c.wav"][:-5000])
    (sounds / "d.wav").unlink()
    (tmp_path / "toy/more/g.wav").write_bytes(sound(99))

    def clips(root):
        return [replace(clip, artist="of both" if clip.id in "ad" else clip.artist) for clip in toy_clips(root)]

    findings = found(replace(prepared, clips=clips), tmp_path)
    assert findings["files"].wrong == (f"{tmp_path}/toy/more: 1 of 2 are missing or to be removed, first toy/more/g.wav",)
    assert findings["splits"].good
    assert findings["artists"].wrong == ("of both",)
    assert [line.split("/")[-1].split(",")[0] for line in findings["audio"].wrong] == [
        "c.wav is truncated: at least 5000 bytes of its audio are missing", "d.wav cannot be read (no such file or directory)"
    ]  # fmt: skip
    assert findings["leakage"].found == "1 recordings stand in two splits, 1 twice in one"
    assert findings["leakage"].wrong == (f"{sounds}/a.wav (train), {sounds}/e.wav (test)",)


def test_one_excerpt_with_two_labels_is_found(prepared, tmp_path):
    def clips(root):
        first, *rest = toy_clips(root)
        return [first, *rest, *(replace(first, id=str(start), start=start, target="y") for start in (0.0, 0.2))]

    finding = found(replace(prepared, clips=clips, labels=("x", "y"), split_sizes=None), tmp_path)["labels"]
    assert not finding.good
    assert finding.found == "1 clips have the audio of another and other labels than it"
    assert len(finding.wrong) == 1


def test_excerpts_of_one_file_in_two_splits_are_leakage(prepared, tmp_path):
    def clips(root):
        first, *rest = toy_clips(root)
        return [replace(first, stop=0.2), *rest, replace(first, id="a again", start=0.2, split="test", artist=None)]

    findings = found(replace(prepared, clips=clips, split_sizes=None), tmp_path)
    assert findings["leakage"].found == "1 recordings stand in two splits, 0 twice in one"
    file = tmp_path / "toy/sounds/a.wav"
    assert findings["leakage"].wrong == (f"{file} (train), {file} (test)",)


def test_artists_may_be_shared_by_validation_and_test_alone(prepared, tmp_path):
    def clips(root):
        return [replace(clip, artist="fit" if clip.split == "train" else "held out") for clip in toy_clips(root)]

    assert found(replace(prepared, clips=clips), tmp_path)["artists"].good


def test_splits_of_another_size_end_the_check(prepared, tmp_path):
    findings = found(replace(prepared, split_sizes={"train": 5, "valid": 2, "test": 2}), tmp_path)
    assert list(findings) == ["files", "splits"]
    assert "has 4 tracks where 5 are declared" in findings["splits"].found


MODULE = """
from pathlib import Path
from marble.task import Clip, Resource, Task

def clips(root):
    return [Clip(f.stem, f, {"a": "train", "b": "valid", "c": "test"}[f.stem[0]], "x")
            for f in sorted((root / "mini").glob("*.wav"))]

TASK = Task(name="mini", version=1, description="d", kind="multiclass", labels=("x",), metrics=("accuracy",), clips=clips,
    citation="c", licence="l", source="s", resources=(Resource("mini", "CC0", ("%s/mini.zip",), holds="*.wav"),))
"""


def test_the_command_line_from_nothing_to_a_verified_set(web, tmp_path, monkeypatch):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("a.wav", "b.wav", "c.wav"):
            archive.writestr(f"mini/{name}", SOUNDS[name])
    web.files["/mini.zip"] = file.getvalue()
    (tmp_path / "mini_task.py").write_text(MODULE % web.address)
    monkeypatch.chdir(tmp_path)

    def marble(*words):
        return CliRunner().invoke(app, ["data", *words, "mini_task:TASK", "--data-root", str(tmp_path / "root")])

    before = marble("status", "--json")
    assert before.exit_code == 0
    assert json.loads(before.stdout) == [
        {
            "tasks": ["mini"], "path": "mini", "state": "missing", "bytes": None, "licence": "CC0",
            "get": "marble data prepare mini", "urls": [f"{web.address}/mini.zip"], "checksum": None,
        }
    ]  # fmt: skip
    failed = marble("verify")
    assert isinstance(failed.exception, MarbleError)
    assert "2 of 2 checks failed" in str(failed.exception)
    del web.files["/mini.zip"]
    assert "answers 404" in str(marble("prepare").exception)
    web.files["/mini.zip"] = file.getvalue()
    assert "there" in marble("prepare").stdout
    done = marble("verify", "--json")
    assert done.exit_code == 0
    assert [(one["check"], one["good"]) for one in json.loads(done.stdout)] == [
        ("files", True), ("splits", True), ("audio", True), ("leakage", True), ("labels", True),
    ]  # fmt: skip
    assert marble("verify").stdout.startswith("ok     mini, files: 1 of 1 are there\n")


def test_all_tasks_have_a_status_from_an_empty_root(tmp_path):
    done = CliRunner().invoke(app, ["data", "status", "all", "--json", "--data-root", str(tmp_path)])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    named = {name for row in rows for name in row["tasks"]}
    assert named == set(registry.complete_task_names())
    assert all(row["state"] == ("missing" if row["path"] else "nothing to fetch") and row["get"] for row in rows)
    assert held(tmp_path) == set()


@pytest.mark.parametrize("name", REAL)
def test_every_task_of_real_data_declares_its_files(name):
    resources = registry.load_task(name).resources
    assert resources
    for one in resources:
        assert not Path(one.path).is_absolute()
        assert ".." not in one.path
        assert bool(one.by_hand) == (not one.urls and not one.files)
        assert all(url.startswith(("http://", "https://")) for url in one.urls)
        assert one.checksum is None or len(bytes.fromhex(one.checksum)) in (16, 32)
        assert one.licence


def test_vocalset_is_repaired_and_its_split_is_that_of_the_archive_as_it_is(tmp_path):
    names = [
        "female1/scales/belt/f1_scales_belt_a.wav", "female2/arpeggios/lip_trill/lip_trill_arps.wav",
        "male3/scales/lip_trill/m3_scales_lip_trill.wav", "male8/excerpts/straight/row_straight.wav",
        "female1/excerpts/vibrato/row_vibrato.wav", "female2/scales/vibrato/f2_scales_vibrato_a(1).wav",
        *(f"male10/scales/fast_piano/scales_c_fast_piano_{vowel}.wav" for vowel in "aeiou"),
    ]  # fmt: skip
    (tmp_path / "mirror").mkdir()
    with zipfile.ZipFile(tmp_path / "mirror/VocalSet11.zip", "w") as archive:
        for name in names:
            archive.writestr(f"FULL/{name}", "sound")
            file = tmp_path / "raw/vocalset/FULL" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("sound")
    task = registry.load_task("vocalset-singer")
    assert data.prepare([task], tmp_path / "root", mirror=tmp_path / "mirror") == []
    repaired = held(tmp_path / "root/vocalset/FULL")
    assert repaired == {
        "female1/scales/belt/f1_scales_belt_a.wav", "female2/arpeggios/lip_trill/f2_lip_trill_arps.wav",
        "male3/scales/lip_trill/m3_scales_lip_trill.wav", "male8/excerpts/straight/m8_row_straight.wav",
        *(f"male10/scales/fast_piano/m10_scales_c_fast_piano_{vowel}.wav" for vowel in "aeiou"),
    }  # fmt: skip
    splits = [{clip.id: clip.split for clip in task.clips(tmp_path / root)} for root in ("raw", "root")]
    assert splits[0] == splits[1]
    assert len(splits[0]) == 9


@pytest.mark.parametrize(
    ("task", "mirror", "missing"),
    [
        ("gtzan", "", {"gtzan/genres"}),
        ("giantsteps-key", "giantsteps", {f"giantsteps/giantsteps-{name}key-dataset/audio" for name in ("mtg-", "")}),
        ("mtg-top50", "mtg-jamendo", {"mtg-jamendo/audio"}),
        ("mtg-genre", "mtg-jamendo", {"mtg-jamendo/audio"}),
        ("mtg-instrument", "mtg-jamendo", {"mtg-jamendo/audio"}),
        ("mtg-mood", "mtg-jamendo", {"mtg-jamendo/audio"}),
    ],
)
def test_the_published_annotations_come_from_a_mirror(shared, tmp_path, task, mirror, missing):
    loaded = registry.load_task(task)
    assert data.prepare([loaded], tmp_path, mirror=shared / "data" / mirror) == []
    assert {row["path"] for row in data.status([loaded], tmp_path) if row["state"] != "there"} == missing


def test_the_previews_of_giantsteps_have_addresses_and_checksums(shared, tmp_path):
    loaded = registry.load_task("giantsteps-key")
    data.prepare([loaded], tmp_path, mirror=shared / "data/giantsteps")
    listed = {}
    for resource, count in zip(loaded.resources[-2:], (1486, 604), strict=True):
        (tmp_path / resource.path).mkdir(parents=True)
        files = {file.path: file for file in resource.files(tmp_path)}
        assert len(files) == count
        assert all(len(file.checksum) == 32 and file.urls[0].startswith("http://www.cp.jku.at/") for file in files.values())
        listed |= files
    assert {clip.path.relative_to(tmp_path).as_posix() for clip in loaded.read(tmp_path)} <= set(listed)
