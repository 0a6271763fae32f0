"""GiantSteps key: which of 24 keys a two-minute excerpt of electronic dance music is in.

Data
    Beatport previews of 2 min, mp3. Training and validation: GiantSteps-MTG-Keys; test: GiantSteps-Key. Both repositories are
    expected in ``<data root>/giantsteps`` as they are cloned or unpacked, their audio in ``audio`` of each:
    ``giantsteps-key-dataset/{annotations/key/<id>.LOFI.key,audio/<id>.LOFI.mp3}`` and
    ``giantsteps-mtg-key-dataset/{annotations/{annotations,beatport_metadata}.txt,audio/<id>.LOFI.mp3}``. The two tables are
    checked by sha256, and so are the 604 keys together.
Labels
    C to B major, then C to B minor, spelled with flats; the sharps of the training annotations are respelled.
Split
    That of jukemir (Castellon, Donahue and Liang 2021): 923 / 236 / 604. The MTG tracks of confidence 2 with one key are used;
    an artist is in validation if the sha1 of the lower-case name is 100 to 115 modulo 116, and so is, in two passes,
    everyone who shares a track with such an artist. No track is in both data sets.
Window
    30 s without overlap. jukemir drops the incomplete last window, as does ``--set windows.tail=30``.
Metrics
    key_score (main): the weighted score of MIREX and mir_eval, in which of the fifths only that above the reference counts;
    accuracy. On the test split "C minor" for every track has 0.158, the largest class 12.1 %.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

from marble.errors import MarbleError
from marble.task import Clip, Resource, Split, Task
from marble.tasks.official import existing_folder, official_bytes

MTG = "https://github.com/GiantSteps/giantsteps-mtg-key-dataset/archive/fd7b8c584f7bd6d720d170c325a6d42c9bf75a6b.zip"
TEST = "https://github.com/GiantSteps/giantsteps-key-dataset/archive/c8cb8aad2cb53f165be51ea099d0dc75c64a844f.zip"
TRAINING = "https://raw.githubusercontent.com/GiantSteps/giantsteps-mtg-key-dataset/fd7b8c584f7bd6d720d170c325a6d42c9bf75a6b"
AUDIO = "http://www.cp.jku.at/datasets/giantsteps"
ASSETS = (
    "https://raw.githubusercontent.com/p-lambda/jukemir/241555645682d18fb909775c54014edfc3a03163/jukemir/assets/giantsteps.json"
)
SHA256 = {
    "annotations.txt": "0cdc4480a74e3eb2be6a38ad474bbf82434874ce2d419d718117080e82944550",
    "beatport_metadata.txt": "56c92617e72669e82189de0e4f774d57f23d078b45d67734f716835432ab7182",
    # The addresses and md5 of all previews; the archive TEST; the lines "<id>\t<key>\n" in the order of the ids as numbers.
    "assets": "9933c402b6aca988b1c67bc71a1e22c149a2b84cd72a6697b8265720414ee93a",
    "archive": "7749bee0f919b0f53db2c540fa6707f322b82a5d140e453f10f9af7875ad5bb8",
    "key": "c09c19836673e15790279e9fa10e112fc9a4d136004431c58cf086e1804b379d",
}
TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)
FLATS = {"C#": "Db", "D#": "Eb", "F#": "Gb", "G#": "Ab", "A#": "Bb"}


def _clips(root: Path) -> list[Clip]:
    home = root / "giantsteps"
    mtg, test = home / "giantsteps-mtg-key-dataset", home / "giantsteps-key-dataset"
    keys = _training_keys(mtg / "annotations")
    keys |= {name: ("test", key) for name, key in _test_keys(test).items()}
    folders = {
        folder: existing_folder([folder / "audio"], "the previews <id>.LOFI.mp3", f"{AUDIO}/{part}")
        for folder, part in ((mtg, "mtg_key_backup"), (test, "backup"))
    }
    return [
        Clip(id=name, path=folders[test if split == "test" else mtg] / f"{name}.LOFI.mp3", split=split, target=key)
        for name, (split, key) in keys.items()
    ]


def _test_keys(repository: Path) -> dict[str, str]:
    """Return the key of each test track."""
    folder = existing_folder([repository / "annotations" / "key"], "the 604 keys of the test split", TEST)
    named = [file for file in folder.glob("*.LOFI.key") if file.name.split(".")[0].isdecimal()]
    files = sorted(named, key=lambda file: int(file.name.split(".")[0]))
    keys = {file.name.split(".")[0]: file.read_text(errors="replace").strip() for file in files}
    if hashlib.sha256("".join(f"{name}\t{key}\n" for name, key in keys.items()).encode()).hexdigest() != SHA256["key"]:
        raise MarbleError(f"The keys in {folder.absolute()} are not the published ones: fetch {TEST} again.")
    return keys


def _training_keys(folder: Path) -> dict[str, tuple[Split, str]]:
    """Return the split and the key of each track of training and validation."""
    artists = {row["ID"]: _artists(row["ARTIST"]) for row in _rows(folder / "beatport_metadata.txt")}
    held_out = _held_out(list(artists.values()))
    return {
        row["ID"]: ("valid" if held_out.intersection(artists[row["ID"]]) else "train", _respelled(row["MANUAL KEY"]))
        for row in _rows(folder / "annotations.txt")
        if row["C"] == "2" and "/" not in row["MANUAL KEY"]
    }


def _rows(file: Path) -> list[dict[str, str]]:
    text = official_bytes(file, SHA256[file.name], MTG).decode("utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def _artists(text: str) -> list[str]:
    return [artist.strip() for artist in text.strip().split(",")]


def _held_out(groups: list[list[str]]) -> set[str]:
    """Return the artists of the validation split, given the artists of every track."""
    everyone = {artist for artists in groups for artist in artists}
    held_out = {artist for artist in everyone if _sha1(artist.lower()) % 116 >= 100}
    for _ in range(2):
        for artists in groups:
            if held_out.intersection(artists):
                held_out.update(artists)
    return held_out


def _sha1(text: str) -> int:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16)


def _respelled(key: str) -> str:
    tonic, mode = key.split()
    return f"{FLATS.get(tonic, tonic)} {mode}"


def _table(name: str, size: int) -> Resource:
    path = f"annotations/{name}"
    return Resource(f"giantsteps/giantsteps-mtg-key-dataset/{path}", "not stated", (f"{TRAINING}/{path}",), SHA256[name], size)


def _previews(repository: str, part: str) -> Resource:
    """Return the folder of the previews of a repository, offered at `AUDIO`/`part`."""
    path = f"giantsteps/{repository}/audio"

    def files(root: Path) -> list[Resource]:
        """Return the previews with the addresses and checksums of the published list."""
        assets = json.loads(official_bytes(root / "giantsteps" / "jukemir-assets.json", SHA256["assets"], ASSETS))
        addresses = {asset["url"]: asset["checksum"] for asset in assets.values() if f"/{part}/" in asset["url"]}
        return [Resource(f"{path}/{url.split('/')[-1]}", "not stated", (url,), md5) for url, md5 in addresses.items()]

    return Resource(path, "not stated, of commercial recordings; research use", files=files)


GIANTSTEPS_KEY = Task(
    name="giantsteps-key",
    version=1,
    description=__doc__,
    kind="multiclass",
    labels=KEYS,
    metrics=("key_score", "accuracy"),
    clips=_clips,
    citation="Knees et al., Two data sets for tempo estimation and key detection in electronic dance music, ISMIR 2015; "
    "Korzeniowski and Widmer, End-to-end musical key estimation, EUSIPCO 2017; "
    "Castellon, Donahue and Liang, Codified audio language modeling, ISMIR 2021 (split)",
    licence="not stated for annotations and audio, which is of commercial recordings; research use",
    source=f"annotations: {MTG} and {TEST}; audio: {AUDIO}/mtg_key_backup and {AUDIO}/backup",
    window=30.0,
    audio_from=("commercial releases",),
    split_sizes={"train": 923, "valid": 236, "test": 604},
    resources=(
        _table("annotations.txt", 26_694),
        _table("beatport_metadata.txt", 132_015),
        Resource(
            "giantsteps/giantsteps-key-dataset/annotations/key", "not stated", (TEST,), SHA256["archive"], holds="*.LOFI.key"
        ),
        Resource("giantsteps/jukemir-assets.json", "MIT", (ASSETS,), SHA256["assets"], 490_326),
        _previews("giantsteps-mtg-key-dataset", "mtg_key_backup"),
        _previews("giantsteps-key-dataset", "backup"),
    ),
)
