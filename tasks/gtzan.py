"""GTZAN genre: which of ten genres a 30 s excerpt belongs to, on the fault-filtered split.

Data
    1000 excerpts of 30 s, 22.05 kHz mono (Tzanetakis and Cook 2002), as ``genres/<genre>/<genre>.<00000..00099>.wav`` below
    ``<data root>/gtzan`` (or in ``genres_original``, as in the Kaggle copy, or ``gtzan_genre/genres``).
Split
    Fault-filtered and artist-aware (Kereliuk, Sturm and Larsen 2015; Sturm 2013): 443 / 197 / 290, from the three lists
    ``{train,valid,test}_filtered.txt`` of github.com/coreyker/dnn-mgr at bdad579 beside the audio, compared by sha256.
    ``jazz.00054.wav`` of the training list is corrupt in every copy still available and is left out: 442 / 197 / 290.
Window
    30 s, so that nearly every excerpt is one window (files last 29.9 to 30.7 s).
Metrics
    accuracy of tracks (main); balanced accuracy. The largest class holds 11.0 % of the test split.
"""

from __future__ import annotations

from pathlib import Path

from marble.errors import MarbleError
from marble.task import SPLITS, Clip, Resource, Task
from marble.tasks.official import official_bytes

LISTS = "https://raw.githubusercontent.com/coreyker/dnn-mgr/bdad579ea6cb37b665ea6019fe1026a6ce20cbc7/gtzan"
SHA256 = {
    "train": "2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa",
    "valid": "f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956",
    "test": "09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72",
}
SIZES = {"train": 10_152, "valid": 4_522, "test": 6_616}
CORRUPT = "jazz/jazz.00054.wav"
FOLDERS = ("genres", "genres_original", "gtzan_genre/genres", "Data/genres_original")


def _clips(root: Path) -> list[Clip]:
    home = root / "gtzan"
    folders = [home / name for name in FOLDERS if (home / name).is_dir()]
    audio = next((folder for folder in folders if next(folder.glob("*/*.wav"), None)), folders[0] if folders else None)
    if audio is None:
        raise MarbleError(f"GTZAN is not there: put its folder 'genres' (one folder a genre) into {home.absolute()}.")
    clips = []
    for split in SPLITS:
        file = f"{split}_filtered.txt"
        for name in official_bytes(home / file, SHA256[split], f"{LISTS}/{file}").decode().split():
            if name != CORRUPT:
                clips.append(Clip(id=Path(name).stem, path=audio / name, split=split, target=name.split("/")[0]))
    return clips


GTZAN = Task(
    name="gtzan",
    version=1,
    description=__doc__,
    kind="multiclass",
    labels=("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"),
    metrics=("accuracy", "balanced_accuracy"),
    clips=_clips,
    citation="Tzanetakis and Cook, Musical genre classification of audio signals, IEEE TSAP 2002; "
    "Kereliuk, Sturm and Larsen, Deep learning and music adversaries, IEEE TMM 2015 (split)",
    licence="not stated for the audio, which is of commercial recordings; research use",
    source="audio: Kaggle (andradaolteanu/gtzan-dataset-music-genre-classification), Hugging Face (marsyas/gtzan); split: "
    + LISTS,
    window=30.0,
    audio_from=("commercial releases",),
    split_sizes={"train": 442, "valid": 197, "test": 290},
    resources=(
        *(
            Resource(
                f"gtzan/{split}_filtered.txt", "not stated", (f"{LISTS}/{split}_filtered.txt",), SHA256[split], SIZES[split]
            )
            for split in SPLITS
        ),
        Resource(
            f"gtzan/{FOLDERS[0]}",
            "not stated, of commercial recordings; research use",
            holds="*/*.wav",
            also=tuple(f"gtzan/{folder}" for folder in FOLDERS[1:]),
            by_hand="from Kaggle (andradaolteanu/gtzan-dataset-music-genre-classification, its folder genres_original) "
            "or Hugging Face (marsyas/gtzan)",
        ),
    ),
)
