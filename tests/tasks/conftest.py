"""Stand-ins for the data sets: little trees in the official layouts and file formats, played so that they tell their labels.

Each writer below `TREES` makes the tree of one data set below a data root and returns what a test has to put in place of the
published checksums: a table name -> sha256. `stand_in` writes a tree, puts those in place, and returns the task; `spoilt` gives
a copy in which some files are damaged. The sound is that of the soundfont which plays the embedded tasks.
"""

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
import soxr

from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks import giantsteps, gtzan, magnatagatune, mtg_jamendo, piano_difficulty
from marble.tasks.synth.soundfont import RATE, Note, mix

# General MIDI programs.
PIANO, GLOCKENSPIEL, ORGAN, GUITAR, DISTORTED, BASS = 0, 9, 19, 24, 30, 33
STRINGS, CHOIR, TRUMPET, FLUTE, LEAD = 48, 52, 56, 73, 80
# Windows of the longest track of the stand-in of MTG-Jamendo; ten would be five minutes of music to encode.
MOST_WINDOWS = 2


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def sound(
    path: Path, voices: list[tuple[int, int]], take: int = 0, rate: int = 22_050, channels: int = 1, seconds: int = 1
) -> None:
    """Write a file in which programs play keys together, in a little noise; each take is tuned, timed and struck differently.

    The music lasts one second and repeats.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    random = Random(f"{voices} {take}")
    notes = [Note(random.uniform(0, 0.1), 0.8, key, random.randint(80, 120), program) for program, key in voices]
    audio = mix(notes, 1, tuning=random.uniform(-20, 20))
    audio /= 2 * max(np.abs(audio).max(), 0.1)
    audio += 0.001 * np.random.default_rng(random.getrandbits(32)).standard_normal(len(audio))
    audio = np.tile(soxr.resample(audio, RATE, rate)[:, None], (seconds, channels))
    soundfile.write(path, audio, rate, **FORMATS[path.suffix])


FORMATS = {".wav": {"subtype": "PCM_16"}, ".mp3": {"subtype": "MPEG_LAYER_III", "format": "MP3"}}


def write(path: Path, text: str | bytes) -> str:
    """Write a file and return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return sha256(text)


def write_gtzan(root: Path) -> dict[str, str]:
    bands = {"blues": (PIANO, 48), "metal": (DISTORTED, 40), "pop": (FLUTE, 84), "rock": (GUITAR, 57)}
    hashes = {}
    for split, takes in (("train", range(5)), ("valid", range(5, 7)), ("test", range(7, 10))):
        names = [f"{genre}/{genre}.{take:05d}.wav" for genre in bands for take in takes]
        hashes[split] = write(root / f"gtzan/{split}_filtered.txt", "\n".join(names) + "\n")
        for name in names:
            program, key = bands[name.split("/")[0]]
            sound(root / "gtzan/genres" / name, [(program, key), (program, key + 7)], int(name[-5]), 22_050)
    return hashes


def artist(wanted: bool, number: int) -> str:
    """Return the `number`-th name that the rule of jukemir puts into validation, or not."""
    names = (f"Artist No {count}" for count in range(100_000))
    fitting = (name for name in names if (int(hashlib.sha1(name.lower().encode()).hexdigest(), 16) % 116 >= 100) == wanted)
    return next(name for place, name in enumerate(fitting) if place == number)


def write_giantsteps(root: Path) -> dict[str, str]:
    chords = {"C major": (60, 64, 67), "F# minor": (66, 69, 73), "A major": (69, 73, 76)}
    mtg, test = (root / f"giantsteps/giantsteps-{name}-dataset" for name in ("mtg-key", "key"))
    rows, keys, tracks = [], ["ID\tMANUAL KEY\tC"], ["ID\tARTIST\tSONG TITLE"]
    for take in range(6):
        rows += [(f"{take}{place}", key, "2", artist(take > 3, 3 * take + place)) for place, key in enumerate(chords)]
    rows += [("900", "C major", "1", "Unsure"), ("901", "C major / A minor", "2", "Both"), ("902", "-", "0", "Nobody")]
    # Read against its direction, a chain of collaborators needs one pass for each link.
    linked = [artist(True, 0), *(artist(False, place) for place in (900, 901, 902, 903))]
    rows += [(f"91{place}", "A major", "2", f"{linked[place + 1]}, {linked[place]}") for place in (3, 2, 1, 0)]
    for name, key, confidence, artists in rows:
        keys.append(f"{name}\t{key}\t{confidence}")
        tracks.append(f"{name}\t{artists}\tA Title")
        if key in chords:
            sound(mtg / f"audio/{name}.LOFI.mp3", [(ORGAN, pitch) for pitch in chords[key]], int(name), channels=2)
    listed = ""
    for take in range(9):
        key = list(chords)[take % 3]
        sound(test / f"audio/{2000 + take}.LOFI.mp3", [(ORGAN, pitch) for pitch in chords[key]], take, channels=2)
        write(test / f"annotations/key/{2000 + take}.LOFI.key", key.replace("F#", "Gb"))
        listed += f"{2000 + take}\t{key.replace('F#', 'Gb')}\n"
    return {
        "annotations.txt": write(mtg / "annotations/annotations.txt", "\n".join(keys) + "\n"),
        "beatport_metadata.txt": write(mtg / "annotations/beatport_metadata.txt", "\n".join(tracks) + "\n"),
        "key": sha256(listed),
    }


def write_mtg(root: Path) -> dict[str, str]:
    home = root / "mtg-jamendo"
    tags = {"happy": (GLOCKENSPIEL, 96), "dark": (BASS, 31), "film": (STRINGS, 67)}
    subsets = {
        "moodtheme": {tag: f"mood/theme---{tag}" for tag in tags},
        "genre": dict(zip(tags, ("genre---rock", "genre---jazz", "genre---folk"), strict=True)),
        "instrument": dict(zip(tags, ("instrument---piano", "instrument---voice", "instrument---bell"), strict=True)),
        "top50tags": dict(zip(tags, ("genre---rock", "instrument---piano", "mood/theme---film"), strict=True)),
    }
    hashes, number = {}, 0
    lines: dict[tuple[str, str], list[str]] = {}
    for part, count in (("train", 28), ("validation", 7), ("test", 7)):
        for place in range(count):
            number += 1
            chosen = [tag for bit, tag in enumerate(tags) if (1 + place % 7) >> bit & 1]
            name = f"{number % 100:02d}/{number}"
            long = (part, place) == ("test", 0)
            file = home / "audio" / (f"{name}.low.mp3" if number % 2 else f"{name}.mp3")
            sound(file, [tags[tag] for tag in chosen], number, seconds=63 if long else 1)
            for subset, named in subsets.items():
                row = [f"track_{number:07d}", f"artist_{number}", "album_1", f"{name}.mp3", "63.0" if long else "31.0"]
                lines.setdefault((subset, part), []).append("\t".join([*row, *(named[tag] for tag in chosen)]))
    for (subset, part), rows in lines.items():
        file = f"autotagging_{subset}-{part}.tsv"
        text = "\n".join(["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS", *rows]) + "\n"
        hashes[file] = write(home / "data/splits/split-0" / file, text)
    return hashes


def write_mtt(root: Path) -> dict[str, str]:
    home = root / "mtt"
    players = {"guitar": (GUITAR, 45), "no vocals": (FLUTE, 91), "choral": (CHOIR, 67)}
    columns = sorted({*magnatagatune.TAGS, "a rare tag"})
    table = [["clip_id", *columns, "mp3_path"]]
    clean: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number, folder in enumerate("0123456789abccccddeeff" * 2):
        chosen = [tag for bit, tag in enumerate(players) if number % 8 >> bit & 1]
        path = f"{folder}/artist-album-{number:02d}-it's_a_title-0-29.mp3"
        sound(home / "mp3" / path, [players[tag] for tag in chosen], number, 16_000)
        cells = ["1" if column in chosen or column == "a rare tag" else "0" for column in columns]
        table.append([str(100 + number), *cells, path])
        if chosen:
            clean["train" if folder in "0123456789ab" else "valid" if folder == "c" else "test"].append(path)
    table.append(["35644", *("0" for _ in columns), "6/norine_braun-empty-117-146.mp3"])
    file = home / "annotations_final.csv"
    with file.open("w", newline="") as out:
        csv.writer(out, delimiter="\t", quoting=csv.QUOTE_ALL).writerows(table)
    hashes = {file.name: sha256(file.read_bytes())}
    for split, paths in clean.items():
        # Protocol 0, as the published lists were written.
        names = [repr(path.replace(".mp3", ".npy")).encode() for path in paths]
        body = b"(lp1\n" + b"".join(b"S%s\np%d\na" % (name, place) for place, name in enumerate(names, 2)) + b"."
        hashes[f"{split}_list_pub.cP"] = write(home / f"{split}_list_pub.cP", body)
    return hashes


def write_emomusic(root: Path) -> dict[str, str]:
    home = root / "emomusic"
    songs = ["song_id,file_name,Artist,Song title,start of the segment (min.sec),Mediaeval 2013 set"]
    ratings = ["song_id,mean_arousal,std_arousal,mean_valence,std_valence"]
    for number in range(60):
        arousal, valence = 1 + 8 * (number % 8) / 7, 1 + 8 * (number * 3 % 8) / 7
        part = "evaluation" if number >= 48 else "development"
        name = "abcdefghijklmnopqrstuvwxyz"[number % 26]
        songs.append(f'{number},{number}.mp3,"\tBänd,  No {name}",Song {number},0.48,{part}\t')
        ratings.append(f"{number}, {arousal},1.0,{valence} ,1.0")
        voices = [(PIANO, round(30 + 3 * arousal)), (FLUTE, round(70 + 3 * valence))]
        sound(home / f"clips_45seconds/{number}.mp3", voices, number, channels=2)
    write(home / "songs_info.csv", "\n".join(songs) + "\n")
    write(home / "static_annotations.csv", "\n".join(ratings) + "\n")
    return {}


def write_nsynth(root: Path) -> dict[str, str]:
    families = {"bass": BASS, "organ": ORGAN, "synth_lead": LEAD}
    for split, takes in (("train", range(6)), ("valid", range(6, 8)), ("test", range(8, 10))):
        home, notes = root / f"nsynth/nsynth-{split}", {}
        for family, program in families.items():
            if family == "synth_lead" and split != "train":
                continue
            for pitch in (45, 57, 69):
                for take in takes:
                    name = f"{family}_acoustic_{take:03d}-{pitch:03d}-100"
                    notes[name] = {"pitch": pitch, "velocity": 100, "instrument_family_str": family, "note_str": name}
                    sound(home / f"audio/{name}.wav", [(program, pitch)], take, 16_000)
        write(home / "examples.json", json.dumps(notes))
    return {}


def write_vocalset(root: Path) -> dict[str, str]:
    full = root / "vocalset/FULL"
    techniques = {"lip_trill": (CHOIR, 0), "trill": (TRUMPET, 24), "messa": (FLUTE, 36)}
    for number, folder in enumerate(("female1", "female2", "female3", "male11", "male2")):
        for technique, (program, higher) in techniques.items():
            for take in range(4):
                name = f"{folder}/scales/{technique}/scales_{technique}_{take}.wav"
                sound(full / name, [(CHOIR, 50 + 2 * number), (program, 50 + 2 * number + higher)], take, seconds=4)
    sound(full / "female2/scales/vibrato/f2_scales_vibrato_a(1).wav", [(CHOIR, 60)])
    (full / "female2/scales/vibrato/._hidden.wav").write_text("no sound")
    return {}


def write_difficulty(root: Path) -> dict[str, str]:
    home, hashes, document = root / "psyllabus", {}, {}
    pieces = {f"Composer {number % 7}.Étude No {number}": number % 11 for number in range(88)}
    for number, (title, grade) in enumerate(pieces.items()):
        sound(home / f"mp3/{title}.mp3", [(PIANO, 36 + 5 * grade)], number, channels=2)
    for split in range(5):
        order = sorted(pieces, key=lambda title, split=split: sha256(f"{split} {title}"))
        # All grades in each part, as in the published ones.
        places = {title: sum(pieces[other] == pieces[title] for other in order[:place]) for place, title in enumerate(order)}
        parts = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}
        document[str(split)] = {
            part: {title: pieces[title] for title in order if places[title] in held} for part, held in parts.items()
        }
        lines = "".join(f"{title}\t{grade}\n" for title, grade in sorted(document[str(split)]["test"].items()))
        hashes[str(split)] = sha256(lines)
    write(home / "split_audio.json", json.dumps(document))
    cuts = {"Composer 0.Étude No 0": {"start": 0.1, "end": 0.9}, "Composer 1.Étude No 1": {"only_start": 0.2}}
    write(home / "new_clean_data.json", json.dumps({title: cuts.get(title, {}) for title in pieces}))
    return hashes


def write_song(path: Path, parts: list[tuple[float, tuple[int, ...]]], take: int) -> list[tuple[float, float]]:
    """Write a song of an organ, chord after chord: (seconds, keys); return start and stop of each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times, start = [], 0.0
    for seconds, _ in parts:
        times.append((round(start, 3), round(start + seconds, 3)))
        start = times[-1][1]
    pairs = zip(times, parts, strict=True)
    notes = [Note(begin, end - begin - 0.05, key, 90, ORGAN) for (begin, end), (_, keys) in pairs for key in keys]
    audio = mix(notes, start, tuning=take % 20 - 10)
    audio = 0.4 * audio / np.abs(audio).max() + 0.001 * np.random.default_rng(take).standard_normal(len(audio))
    soundfile.write(path, audio, RATE, **FORMATS[path.suffix])
    return times


def write_rwc(root: Path) -> dict[str, str]:
    keys = {"C:maj/5": (55, 60, 64), "F#:min7": (66, 69, 73, 76), "N": (), "G:sus4": (67, 72, 74)}
    for number in range(1, 31):
        random = Random(f"rwc {number}")
        labels = ["C:maj/5", "F#:min7", *random.choices(list(keys), k=4)]
        parts = [(random.uniform(0.5, 1.0), keys[label]) for label in labels]
        times = write_song(root / f"rwc-pop/audio/rwc-p-m01/{number}.wav", parts, number)
        lines = [f"{start}\t{stop}\t{label}\n" for (start, stop), label in zip(times, labels, strict=True)]
        write(root / f"rwc-pop/RWC_Pop_Chords/N{number:03d}-M01-T{number:02d}.lab", "".join(lines))
    return {}


def write_isophonics(root: Path) -> dict[str, str]:
    keys = {"Key C": (60, 64, 67), "Key Eb:minor": (63, 66, 70), "Key D:mixolydian": (62, 66, 72)}
    for number in range(30):
        random = Random(f"isophonics {number}")
        labels = ["Silence", *random.sample(list(keys), 3)]
        times = write_song(
            root / f"isophonics/audio/album {number // 2}/{number}.wav",
            [(random.uniform(1, 3), keys.get(label, ())) for label in labels], number,
        )  # fmt: skip
        lines = [f"{start}\t{stop}\t{label}\n" for (start, stop), label in zip(times, labels, strict=True)]
        write(root / f"isophonics/keylab/The Band/album {number // 2}/{number}.lab", "".join(lines))
    return {}


TREES = {
    "chords": (write_rwc, None),
    "local": (write_isophonics, None),
    "gtzan": (write_gtzan, gtzan),
    "giantsteps": (write_giantsteps, giantsteps),
    "mtg": (write_mtg, mtg_jamendo),
    "mtt": (write_mtt, magnatagatune),
    "emomusic": (write_emomusic, None),
    "nsynth": (write_nsynth, None),
    "vocalset": (write_vocalset, None),
    "piano": (write_difficulty, piano_difficulty),
}


@pytest.fixture
def tones(tmp_path):
    """A folder of three class folders with eight tones each."""
    for name, key in {"low": 45, "middle": 64, "high": 84}.items():
        for take in range(8):
            sound(tmp_path / f"tones/{name}/{take}.wav", [(PIANO, key)], take)
    return tmp_path / "tones"


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """Each tree that was written so far, with its checksums, by the name of its data set."""
    return {}, tmp_path_factory


@pytest.fixture
def stand_in(trees, monkeypatch):
    """From the name of a task to (the task, the data root of its stand-in); the published sizes are left out."""
    written, factory = trees

    def make(name):
        dataset = name.split("-")[0]
        writer, module = TREES[dataset]
        if dataset not in written:
            root = factory.mktemp(dataset)
            written[dataset] = root, writer(root)
        root, hashes = written[dataset]
        if module:
            monkeypatch.setattr(module, "SHA256", hashes)
        task = load_task(name)
        counted = Counter({clip.track: clip.split for clip in task.clips(root)}.values())
        most = MOST_WINDOWS if module is mtg_jamendo else None
        return replace(task, split_sizes={split: counted[split] for split in SPLITS}, most_windows=most), root

    return make


def damaged(path: Path, fault: str) -> bytes:
    """Return what a file would hold after an accident."""
    content, audio = path.read_bytes(), np.zeros(8_000)
    if fault == "not finite":
        audio[100] = np.nan
    if fault == "truncated":
        return content[: len(content) // 2]
    if fault in ("an empty file", "not audio"):
        return b"" if fault == "an empty file" else b"<html>404 Not Found</html>\n" * 99
    beside = path.with_suffix(".damaged")
    form = {"format": "FLAC"} if fault == "wrongly named" else FORMATS[path.suffix] | {"format": path.suffix[1:].upper()}
    if fault == "not finite":
        form["subtype"] = "FLOAT"
    soundfile.write(beside, audio, 16_000, **form)
    content = beside.read_bytes()
    beside.unlink()
    return content


@pytest.fixture
def spoilt(stand_in, tmp_path):
    """From the name of a task to (the task, the data root of a copy with damaged training files, path -> its fault)."""

    def make(name):
        task, clean = stand_in(name)
        root = tmp_path / "data"
        shutil.copytree(clean, root, copy_function=os.link, ignore=shutil.ignore_patterns("cache"))
        files = {clip.path for clip in task.read(root) if clip.split == "train"}
        faults = ["an empty file", "truncated", "wrongly named", "silent", "not audio"]
        faults += ["not finite"] if any(file.suffix == ".wav" for file in files) else []
        fault_of = dict(zip(sorted(files, key=lambda file: sha256(file.name)), faults, strict=False))
        for file, fault in fault_of.items():
            content = damaged(file, fault)
            file.unlink()
            file.write_bytes(content)
        return task, root, {str(file): fault for file, fault in fault_of.items()}

    return make
