"""Chords: which of 25 chords (12 major, 12 minor, none) sounds at each moment of a song.

Data
    None of the audio is free: it is the user's own. Annotations are ``.lab`` files (`marble.tasks.lab_files`).

    - ``chords``: 1,217 songs by their ids in the Million Song Dataset, ``<data root>/chords-1217/tracks.csv`` with the columns
      ``id``, ``audio`` and ``lab`` (paths, relative to the table), and the lists ``test00.csv`` to ``test04.csv`` beside it.
    - ``chords-rwc``: RWC Popular Music, 100 songs, below ``<data root>/rwc-pop``: ``RWC_Pop_Chords/N001-M01-T01.lab`` and audio
      as ``rwc-p-m01/1.wav`` (disc and track), ``RM-P001.wav`` or ``N001-M01-T01.wav`` in any folder.
    - ``chords-uspop``: USPop2002, 195 songs, below ``<data root>/uspop``: ``uspopLabels/<artist>/<album>/<nn-title>.lab``.
    - ``chords-isophonics``: Beatles 180, Queen 20, Zweieck 18, Carole King 7, below ``<data root>/isophonics``:
      ``chordlab/<artist>/<album>/<title>.lab`` in any folder.
    - ``chords-billboard``: McGill Billboard, 740 songs in 890 entries, of which the first counts, below
      ``<data root>/billboard``: ``McGill-Billboard/<id>/full.lab``, ``billboard-2.0-index.csv`` and audio as ``<id>.flac`` or
      ``<artist>/<title>/audio.flac`` in any folder.
Labels
    The rule of `marble.chords`, which is that of mir_eval: sevenths count as their triads, and sus, dim, aug and power chords
    are not scored. Of the time, 7 % of RWC, 13 % of USPop and 17 % of Billboard are such.
Split
    ``chords``: folds 0, 1, 2 / 3 / 4 of Jiang et al. (2019), disjoint by artist: 731 / 243 / 243. The others are dealt 3:1:1,
    uspop and billboard by artists, isophonics by albums, rwc by songs: artists of these two stand in several splits.
Frames
    At the upstream's own rate, 25 Hz at most; a frame has the chord that holds its centre.
Metrics
    wcsr (main): seconds that are right over seconds that can be, of the highest logit of each frame; wcsr_mode and
    wcsr_viterbi of decoded frames; chord_root, chord_seg, frame_accuracy. The truth at 25 Hz has a wcsr of .995.
"""

from __future__ import annotations

import csv
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from marble import chords
from marble.errors import MarbleError
from marble.frames import Spans
from marble.task import Clip, Frames, Resource, Split, Task
from marble.tasks.lab_files import audio_of, files_below, read_chords
from marble.tasks.official import official_bytes
from marble.tasks.splits import balanced_splits

FOLDS = (
    "https://raw.githubusercontent.com/music-x-lab/ISMIR2019-Large-Vocabulary-Chord-Recognition/"
    "481f4ce703f8822b99f4037e9104ba1760e21ea3/data"
)
SHA256 = {
    "test00.csv": "68cdb9a58819bb9240157edaa942e7dbecc23d23617bf053aea582301793e184",
    "test01.csv": "e6224b866e0e8f22def9a114ea9efe21d7f15bbb2dc7f56647e69a0a99f54eec",
    "test02.csv": "fb1cf2963e2ba369bc31d1cda00d2dbbe8d3b8668e9d152e3f8f19609b6cec6b",
    "test03.csv": "e01b072676f1a3caf2adfc45edba8c25140c9ef9eae43c34c1b41d434ac34f05",
    "test04.csv": "2573825fcb2f38e6257c0ca8eda64c742c13584d4eb44a63bda3c3622cf1645f",
}
_FOLD_SPLITS: tuple[Split, ...] = ("train", "train", "train", "valid", "test")
LABELS_OF_TMC = "https://github.com/tmc323/Chord-Annotations/archive/4b022ff5a95ff1d9ba1057ea4c982e45484d764f.zip"
ISOPHONICS = "http://isophonics.net/datasets"
BILLBOARD = "https://ddmal.music.mcgill.ca/research/The_McGill_Billboard_Project_(Chord_Analysis_Dataset)"

METRICS = ("wcsr", "wcsr_mode", "wcsr_viterbi", "chord_root", "chord_seg", "frame_accuracy")
FRAMES = Frames(most=25.0, encode=Spans.classes)
SHARES: dict[Split, float] = {"train": 0.6, "valid": 0.2, "test": 0.2}


def _folds(root: Path) -> list[Clip]:
    """Return the songs of the 1,217 list that the user's table names."""
    home = root / "chords-1217"
    split_of: dict[str, Split] = {}
    for name, split in zip(SHA256, _FOLD_SPLITS, strict=True):
        content = official_bytes(home / name, SHA256[name], f"{FOLDS}/{name}").decode()
        split_of.update(dict.fromkeys(content.split(), split))
    files = _table(home / "tracks.csv")
    absent = [name for name in split_of if name not in files]
    if absent:
        raise MarbleError(f"{home / 'tracks.csv'} lacks {len(absent)} of {len(split_of)} songs, {absent[0]} first: add them.")
    targets = read_chords([files[name][1] for name in split_of])
    return [
        Clip(id=name, path=files[name][0], split=split, target=target)
        for (name, split), target in zip(split_of.items(), targets, strict=True)
    ]


def _table(file: Path) -> dict[str, tuple[Path, Path]]:
    """Return the audio and the annotation of each song in the user's table."""
    if not file.is_file():
        raise MarbleError(
            f"{file.absolute()} is missing: write a table with the columns id, audio and lab, a line for each song."
        )
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        table = csv.DictReader(text)
        absent = [name for name in ("id", "audio", "lab") if name not in (table.fieldnames or ())]
        if absent:
            raise MarbleError(f"{file} has no column '{absent[0]}': its columns are id, audio and lab.")
        return {row["id"]: (file.parent / (row["audio"] or ""), file.parent / (row["lab"] or "")) for row in table}


class Song(NamedTuple):
    """An annotated song: its id, the annotation, the audio if there is some, and what is kept in one split with it."""

    id: str
    lab: Path
    audio: Path | None
    group: str | None


def clips_of(home: Path, songs: Sequence[Song], read: Callable[[Sequence[Path]], list[Spans]]) -> list[Clip]:
    """Return the clips of songs, dealt 3:1:1 with whole groups in one split; warn of those without audio.

    Args:
        home: the folder of the songs.
        songs: all annotated ones, which decide the split whether they have audio or not.
        read: function from annotations to targets.

    Raises:
        MarbleError: there is no song, or an annotation cannot be read.
    """
    if not songs:
        raise MarbleError(f"There are no annotations in {home.absolute()}: see marble data status.")
    sizes = Counter(song.group or song.id for song in songs)
    split_of = balanced_splits({unit: {"songs": size} for unit, size in sizes.items()}, SHARES)
    mute = [song.lab for song in songs if not song.audio]
    if mute:
        warnings.warn(f"{home}: {len(mute)} of {len(songs)} annotations have no audio, first {mute[0]}", stacklevel=2)
    targets = zip(songs, read([song.lab for song in songs]), strict=True)
    return [
        Clip(song.id, song.audio, split_of[song.group or song.id], target, artist=song.group)
        for song, target in targets
        if song.audio
    ]


def _rwc(root: Path) -> list[Clip]:
    labs, audio = files_below(root / "rwc-pop")
    named: dict[tuple[str, str], Path] = {}
    for path in reversed(audio):
        name = path.stem.lower()
        named["", name] = named[path.parent.name.lower(), name.lstrip("0")] = path
    songs = []
    for lab in labs:
        match = re.fullmatch(r"N(\d+)-M(\d+)-T(\d+)", lab.stem)
        if match:
            song, disc, track = match.groups()
            keys = ("", lab.stem.lower()), ("", f"rm-p{song}"), (f"rwc-p-m{disc}", track.lstrip("0"))
            songs.append(Song(lab.stem, lab, next((named[key] for key in keys if key in named), None), None))
    return clips_of(root / "rwc-pop", songs, read_chords)


def _uspop(root: Path) -> list[Clip]:
    labs, audio = files_below(root / "uspop")
    file_of = audio_of(labs, audio)
    songs = [Song("/".join(lab.with_suffix("").parts[-3:]), lab, file_of.get(lab), lab.parent.parent.name) for lab in labs]
    return clips_of(root / "uspop", songs, read_chords)


def isophonics(root: Path, kind: str) -> list[Song]:
    """Return the songs with annotations of a kind, ``chordlab`` or ``keylab``, grouped by album."""
    labs, audio = files_below(root / "isophonics")
    labs = [lab for lab in labs if kind in lab.parts]
    file_of = audio_of(labs, audio)
    names = ["/".join(lab.with_suffix("").parts[-3:]) for lab in labs]
    return [Song(name, lab, file_of.get(lab), name.rpartition("/")[0]) for name, lab in zip(names, labs, strict=True)]


def _billboard(root: Path) -> list[Clip]:
    home = root / "billboard"
    songs: dict[tuple[str, str], str] = {}
    content = official_bytes(home / "billboard-2.0-index.csv", None, BILLBOARD).decode("utf-8", "replace")
    for row in csv.DictReader(content.splitlines()):
        if row["title"]:
            songs.setdefault((_letters(row["artist"]), _letters(row["title"])), row["id"].zfill(4))
    _, audio = files_below(home)
    named = {path.stem.zfill(4): path for path in reversed(audio)}
    titled = {(_letters(path.parent.parent.name), _letters(path.parent.name)): path for path in reversed(audio)}
    labs = {key: home / "McGill-Billboard" / number / "full.lab" for key, number in songs.items()}
    return clips_of(
        home,
        [
            Song(songs[key], lab, named.get(songs[key]) or titled.get(key), key[0].removeprefix("the"))
            for key, lab in labs.items()
            if lab.is_file()
        ],
        read_chords,
    )


def _letters(text: str) -> str:
    """Return the letters and digits of a name, without accents and case: entries of one song are not spelled alike."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text).casefold() if letter.isalnum())


def task_of(**fields: Any) -> Task:
    """Return a task of chords."""
    defaults: dict[str, Any] = {
        "version": 1, "kind": "frame_classes", "labels": chords.LABELS, "metrics": METRICS, "frames": FRAMES,
        "audio_from": ("commercial releases",), "licence": "not stated for annotations; the audio is commercial",
    }  # fmt: skip
    return Task(**(defaults | fields))


def _audio(folder: str, what: str) -> Resource:
    return Resource(folder, "commercial recordings", holds="**/*.*", by_hand=what)


CHORDS = task_of(
    name="chords",
    description=__doc__,
    clips=_folds,
    citation="Jiang, Chen, Li and Xia, Large-vocabulary chord transcription via chord structure decomposition, ISMIR 2019 "
    "(list and folds); Humphrey and Bello, Four timely insights on automatic chord estimation, ISMIR 2015",
    source=f"list and folds: {FOLDS}; audio and annotations: the user's own",
    split_sizes={"train": 731, "valid": 243, "test": 243},
    resources=(
        *(Resource(f"chords-1217/{name}", "MIT", (f"{FOLDS}/{name}",), digest) for name, digest in SHA256.items()),
        Resource("chords-1217/tracks.csv", "yours", by_hand="written by you: columns id, audio, lab; a line for each song"),
    ),
)
CHORDS_RWC = task_of(
    name="chords-rwc",
    description=f"RWC-Pop, 100 songs. {__doc__}",
    clips=_rwc,
    citation="Goto et al., RWC music database: popular, classical, and jazz music databases, ISMIR 2002; "
    "Cho and Bello, On the relative importance of individual components of chord recognition systems, TASLP 2014",
    source=f"annotations: {LABELS_OF_TMC}; audio: RWC, by licence",
    split_sizes={"train": 60, "valid": 20, "test": 20},
    audio_from=(),
    resources=(
        Resource("rwc-pop/RWC_Pop_Chords", "not stated", (LABELS_OF_TMC,), holds="N*.lab"),
        _audio("rwc-pop/audio", "from RWC (https://staff.aist.go.jp/m.goto/RWC-MDB), by licence"),
    ),
    notes=("singers are not kept in one split",),
)
CHORDS_USPOP = task_of(
    name="chords-uspop",
    description=f"USPop2002, 195 songs. {__doc__}",
    clips=_uspop,
    citation="Berenzweig, Logan, Ellis and Whitman, A large-scale evaluation of acoustic and subjective music similarity "
    "measures, CMJ 2004; Cho and Bello, On the relative importance of individual components of chord recognition systems, "
    "TASLP 2014",
    source=f"annotations: {LABELS_OF_TMC}; audio: the user's own",
    split_sizes={"train": 117, "valid": 39, "test": 39},
    resources=(
        Resource("uspop/uspopLabels", "not stated", (LABELS_OF_TMC,), holds="*/*/*.lab"),
        _audio("uspop/audio", "your own copies, <artist>/<album>/<nn-title> as in uspopLabels"),
    ),
)
CHORDS_ISOPHONICS = task_of(
    name="chords-isophonics",
    description=f"Beatles, Queen, Zweieck, Carole King. {__doc__}",
    clips=lambda root: clips_of(root / "isophonics", isophonics(root, "chordlab"), read_chords),
    citation="Harte, Towards automatic extraction of harmony information from music signals, PhD thesis, 2010; "
    "Mauch et al., OMRAS2 metadata project 2009, ISMIR 2009",
    source=f"annotations: {ISOPHONICS}; audio: the user's own",
    resources=(
        Resource("isophonics/annotations", "not stated", holds="**/chordlab/*/*/*.lab", by_hand=f"from {ISOPHONICS}"),
        _audio("isophonics/audio", "your own copies, <album>/<title> as in chordlab"),
    ),
    notes=("artists are not kept in one split: 180 of 225 songs are by the Beatles; albums are",),
)
CHORDS_BILLBOARD = task_of(
    name="chords-billboard",
    description=f"McGill Billboard, 740 songs. {__doc__}",
    clips=_billboard,
    citation="Burgoyne, Wild and Fujinaga, An expert ground truth set for audio chord recognition and music analysis, "
    "ISMIR 2011",
    licence="CC0 (annotations); the audio is commercial",
    source=f"annotations: {BILLBOARD}; audio: the user's own",
    split_sizes={"train": 444, "valid": 148, "test": 148},
    resources=(
        Resource(
            "billboard/McGill-Billboard", "CC0", holds="*/full.lab", by_hand=f"billboard-2.0.1-lab.tar.gz from {BILLBOARD}"
        ),
        Resource("billboard/billboard-2.0-index.csv", "CC0", by_hand=f"from {BILLBOARD}"),
        _audio("billboard/audio", "your own copies, <id>.flac or <artist>/<title>/audio.flac"),
    ),
)
