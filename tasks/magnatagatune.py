"""MagnaTagATune: which of the 50 most frequent tags listeners gave to a 29 s clip.

Data
    25,863 clips of 29.1 s, 16 kHz mono mp3 (Law et al. 2009): ``annotations_final.csv`` (tab-separated, quoted; compared by
    sha256) in ``<data root>/mtt``, and the three joined archives of clips, ``<0-f>/<name>-<start>-<end>.mp3``, unpacked in
    ``<data root>/mtt/mp3``.
Split
    Folders 0 to b train, c validation, d to f test. ``mtt`` is every clip but the three whose mp3 is empty (MARBLE, jukemir,
    MuQ): 18,706 / 1,825 / 5,329, of which some 4,750 have no tag at all. ``mtt-clean`` is the list of Lee, Pons and Won, which
    OMAR-RQ uses: clips with a tag and of full length, 15,244 / 1,529 / 4,332, from ``{train,valid,test}_list_pub.cP`` beside
    the annotations (compared by sha256; these pickles are never run, only their strings are read). Average precision is not
    comparable between the two (about 40 and 44 to 49).
Labels
    The 50 most frequent tags of all annotations, in that order. Synonyms stay, as in all papers.
Window
    30 s, so each clip is one window.
Metrics
    macro ROC-AUC (main) and macro average precision.
"""

from __future__ import annotations

import csv
import pickletools
from dataclasses import replace
from pathlib import Path

from marble.errors import MarbleError
from marble.task import SPLITS, Clip, Resource, Split, Task
from marble.tasks.official import existing_folder, official_bytes

ADDRESS = "https://mirg.city.ac.uk/datasets/magnatagatune"
LISTS = "https://raw.githubusercontent.com/jongpillee/music_dataset_split/07e855758f180ac8bdc0e3abebbde19277094681/MTAT_split"
SHA256 = {
    "annotations_final.csv": "99b94e95825d4fa576386a5367b9c96e0ec636e9f9c240aceb492f4728f68c3c",
    "train_list_pub.cP": "76c9eec0fdd3d7533adda0cb4be4844996ed7469586b337bfc97f863fd3ec09a",
    "valid_list_pub.cP": "b3528613a6832ce49f11628fd21103dbf266e43086b465798221519ae64c2917",
    "test_list_pub.cP": "43edc3b8951f7c9e613f618ab828ab80036b2e2e604bb20a93e623b186b63b30",
}
SIZES = {"train_list_pub.cP": 1_208_643, "valid_list_pub.cP": 122_390, "test_list_pub.cP": 353_102}
EMPTY = {"35644", "55753", "57881"}
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient", "beat",
    "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals", "harpsichord", "loud",
    "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man", "classic", "choir", "voice",
    "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal",
    "female voice", "choral",
)  # fmt: skip


def _all_clips(root: Path) -> list[Clip]:
    home = root / "mtt"
    annotations = _annotations(home)
    audio = _audio(home)
    return [
        Clip(id=name, path=audio / path, split=_split_of(path), target=tags)
        for name, path, tags in annotations
        if name not in EMPTY
    ]


def _clean_clips(root: Path) -> list[Clip]:
    home = root / "mtt"
    annotated = {path: (name, tags) for name, path, tags in _annotations(home)}
    lists = {split: _names(home / f"{split}_list_pub.cP") for split in SPLITS}
    audio = _audio(home)
    clips = []
    for split, paths in lists.items():
        for path in paths:
            if path not in annotated:
                raise MarbleError(f"The clip {path} of the clean list is not among the annotations in {home.absolute()}.")
            name, tags = annotated[path]
            clips.append(Clip(id=name, path=audio / path, split=split, target=tags))
    return clips


def _audio(home: Path) -> Path:
    return existing_folder([home / "mp3"], "the folders 0 to f of clips", f"{ADDRESS} (mp3.zip.001 to 003, joined, unpacked)")


def _annotations(home: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (id, path, tags among the 50) of every clip."""
    name = "annotations_final.csv"
    rows = csv.reader(official_bytes(home / name, SHA256[name], f"{ADDRESS} ({name})").decode().splitlines(), delimiter="\t")
    columns = {column: number for number, column in enumerate(next(rows))}
    clip_id, path = columns["clip_id"], columns["mp3_path"]
    return [(row[clip_id], row[path], tuple(tag for tag in TAGS if row[columns[tag]] == "1")) for row in rows]


def _names(file: Path) -> list[str]:
    """Return the paths of a list: the strings of a pickle, which is never run, with .mp3 for .npy."""
    content = official_bytes(file, SHA256[file.name], f"{LISTS}/{file.name}")
    strings = [str(value) for operation, value, _ in pickletools.genops(content) if operation.name == "STRING"]
    return [name.removesuffix(".npy") + ".mp3" for name in strings]


def _split_of(path: str) -> Split:
    return "train" if path[0] in "0123456789ab" else "valid" if path[0] == "c" else "test"


RESOURCES = (
    Resource(
        "mtt/annotations_final.csv",
        "CC BY-NC-SA 3.0",
        (f"{ADDRESS}/annotations_final.csv",),
        SHA256["annotations_final.csv"],
    ),
    Resource(
        "mtt/mp3", "CC BY-NC-SA 1.0", tuple(f"{ADDRESS}/mp3.zip.{part:03d}" for part in (1, 2, 3)), holds="[0-9a-f]/*.mp3"
    ),
)
MTT = Task(
    name="mtt",
    version=1,
    description=f"Which of 50 tags a clip of MagnaTagATune has, all clips.\n\n{__doc__}",
    kind="multilabel",
    labels=TAGS,
    metrics=("roc_auc", "average_precision"),
    clips=_all_clips,
    citation="Law et al., Evaluation of algorithms using games: the case of music tagging, ISMIR 2009",
    licence="CC BY-NC-SA 3.0 (annotations), CC BY-NC-SA 1.0 (audio, Magnatune)",
    source=f"{ADDRESS}; clean lists: {LISTS}",
    window=30.0,
    audio_from=("Magnatune",),
    split_sizes={"train": 18_706, "valid": 1_825, "test": 5_329},
    resources=RESOURCES,
)
MTT_CLEAN = replace(
    MTT,
    name="mtt-clean",
    description=f"Which of 50 tags a clip of MagnaTagATune has, clips with at least one.\n\n{__doc__}",
    clips=_clean_clips,
    split_sizes={"train": 15_244, "valid": 1_529, "test": 4_332},
    resources=(
        RESOURCES[0],
        *(Resource(f"mtt/{name}", "MIT", (f"{LISTS}/{name}",), SHA256[name], size) for name, size in SIZES.items()),
        RESOURCES[1],
    ),
)
