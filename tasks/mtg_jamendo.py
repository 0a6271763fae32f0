"""MTG-Jamendo: which tags a piece of freely licensed music has (top 50, genre, instrument, mood and theme).

Data
    55k full tracks of Jamendo, mp3 (Bogdanov et al. 2019). ``<data root>/mtg-jamendo`` holds the split lists at their place in
    the repository, ``data/splits/split-0/autotagging_<subset>-<part>.tsv`` (checked by sha256), and the audio as
    ``scripts/download/download.py --dataset raw_30s`` leaves it, ``audio/<NN>/<id>.low.mp3`` (``--type audio-low``, mono) or
    ``audio/<NN>/<id>.mp3``; the low one is preferred.
Split
    split-0, artists disjoint: top 50 32,136 / 10,888 / 11,356; genre 32,572 / 11,043 / 11,479; instrument
    14,395 / 5,466 / 5,115; mood and theme 9,949 / 3,802 / 4,231.
Labels
    The tags of the lists in alphabetical order: 50, 87, 40 and 56 (the paper counts 95, 41 and 59 for the last three, before
    the filter of the splits). The number of columns varies from row to row.
Window
    30 s. Tracks last 30 s to 69 min; a track of more than 10 windows is represented by 10, evenly spaced from its beginning
    to its end, any other by all (``--set windows.most=all``: all windows of every track, as MARBLE has them). The mean of the
    logits is the track's answer.
Metrics
    macro ROC-AUC (main) and macro average precision.
"""

from __future__ import annotations

from pathlib import Path

from marble.task import SPLITS, Clip, Resource, Split, Task
from marble.tasks.official import existing_folder, official_bytes

LISTS = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/1b4fa8c32e076c73b5175c1703ae805b4109309d/data/splits/split-0"
AUDIO = "https://github.com/MTG/mtg-jamendo-dataset (scripts/download/download.py --dataset raw_30s --type audio-low)"
SHA256 = {
    "autotagging_top50tags-train.tsv": "6dee445ddd1901286184c2059d3d5eef7486f083ae80de9011705f852a850dde",
    "autotagging_top50tags-validation.tsv": "4f5f0f0a7662f523b45727476f67d799d6e98151b2c585a8e94e19d980ad93c1",
    "autotagging_top50tags-test.tsv": "3ede06a35e6cb27e1dbe8cfc84708a607622e30e5cd0a7199fce6c081124bc35",
    "autotagging_genre-train.tsv": "c1cddb195ef94a07e67e227bf38e2a79389c1820950702b8c8894a2096f21e54",
    "autotagging_genre-validation.tsv": "3e203b4c573db6ec63a06c7066cf678dcf673a68ad5694c8fed22637c270dbcf",
    "autotagging_genre-test.tsv": "cf917388eebfa7d17d363c2fca037e2379ac027e31aa6dbe92e8dbf409ac5098",
    "autotagging_instrument-train.tsv": "f844a85f0b40bb31a5d5b448ddfc10a68d7b38ecc760673d23df2bd6e7ca0f4c",
    "autotagging_instrument-validation.tsv": "a5060020013ac5ba65c6470ee83fc2a9785db1fe554b55065de08aa9b0cca70d",
    "autotagging_instrument-test.tsv": "8c1ab86f3212b6484106baf2e78f70dd5520b917607487ac98999adbd5d7ab1a",
    "autotagging_moodtheme-train.tsv": "e5e9e798364b34bd241b773e5011809b24429edf471f27cf21dd8181077ba2d4",
    "autotagging_moodtheme-validation.tsv": "ecaa279367153476884d84d686479e566234cef1814bd6892a8755ba0a550dbf",
    "autotagging_moodtheme-test.tsv": "4341b5586bb3e5a80a882ce9ef33cb8b1bdaa7df856246ecc5de188dfe1cf394",
}
# In bytes: train, validation, test.
SIZES = {
    "top50tags": (3_742_433, 1_368_240, 1_349_950),
    "genre": (3_352_194, 1_149_174, 1_178_477),
    "instrument": (1_620_241, 739_141, 591_244),
    "moodtheme": (994_295, 367_846, 421_306),
}
GENRES = (
    "60s", "70s", "80s", "90s", "acidjazz", "alternative", "alternativerock", "ambient", "atmospheric", "blues", "bluesrock",
    "bossanova", "breakbeat", "celtic", "chanson", "chillout", "choir", "classical", "classicrock", "club", "contemporary",
    "country", "dance", "darkambient", "darkwave", "deephouse", "disco", "downtempo", "drumnbass", "dub", "dubstep",
    "easylistening", "edm", "electronic", "electronica", "electropop", "ethno", "eurodance", "experimental", "folk", "funk",
    "fusion", "groove", "grunge", "hard", "hardrock", "hiphop", "house", "idm", "improvisation", "indie", "industrial",
    "instrumentalpop", "instrumentalrock", "jazz", "jazzfusion", "latin", "lounge", "medieval", "metal", "minimal", "newage",
    "newwave", "orchestral", "pop", "popfolk", "poprock", "postrock", "progressive", "psychedelic", "punkrock", "rap",
    "reggae", "rnb", "rock", "rocknroll", "singersongwriter", "soul", "soundtrack", "swing", "symphonic", "synthpop",
    "techno", "trance", "triphop", "world", "worldfusion",
)  # fmt: skip
INSTRUMENTS = (
    "accordion", "acousticbassguitar", "acousticguitar", "bass", "beat", "bell", "bongo", "brass", "cello", "clarinet",
    "classicalguitar", "computer", "doublebass", "drummachine", "drums", "electricguitar", "electricpiano", "flute", "guitar",
    "harmonica", "harp", "horn", "keyboard", "oboe", "orchestra", "organ", "pad", "percussion", "piano", "pipeorgan",
    "rhodes", "sampler", "saxophone", "strings", "synthesizer", "trombone", "trumpet", "viola", "violin", "voice",
)  # fmt: skip
MOODS = (
    "action", "adventure", "advertising", "background", "ballad", "calm", "children", "christmas", "commercial", "cool",
    "corporate", "dark", "deep", "documentary", "drama", "dramatic", "dream", "emotional", "energetic", "epic", "fast",
    "film", "fun", "funny", "game", "groovy", "happy", "heavy", "holiday", "hopeful", "inspiring", "love", "meditative",
    "melancholic", "melodic", "motivational", "movie", "nature", "party", "positive", "powerful", "relaxing", "retro",
    "romantic", "sad", "sexy", "slow", "soft", "soundscape", "space", "sport", "summer", "trailer", "travel", "upbeat",
    "uplifting",
)  # fmt: skip
TOP50 = (
    "genre---alternative", "genre---ambient", "genre---atmospheric", "genre---chillout", "genre---classical", "genre---dance",
    "genre---downtempo", "genre---easylistening", "genre---electronic", "genre---experimental", "genre---folk",
    "genre---funk", "genre---hiphop", "genre---house", "genre---indie", "genre---instrumentalpop", "genre---jazz",
    "genre---lounge", "genre---metal", "genre---newage", "genre---orchestral", "genre---pop", "genre---popfolk",
    "genre---poprock", "genre---reggae", "genre---rock", "genre---soundtrack", "genre---techno", "genre---trance",
    "genre---triphop", "genre---world", "instrument---acousticguitar", "instrument---bass", "instrument---computer",
    "instrument---drummachine", "instrument---drums", "instrument---electricguitar", "instrument---electricpiano",
    "instrument---guitar", "instrument---keyboard", "instrument---piano", "instrument---strings", "instrument---synthesizer",
    "instrument---violin", "instrument---voice", "mood/theme---emotional", "mood/theme---energetic", "mood/theme---film",
    "mood/theme---happy", "mood/theme---relaxing",
)  # fmt: skip


def _task(name: str, subset: str, summary: str, labels: tuple[str, ...], sizes: dict[Split, int]) -> Task:
    return Task(
        name=name,
        version=1,
        description=f"{summary}\n\n{__doc__}",
        kind="multilabel",
        labels=labels,
        metrics=("roc_auc", "average_precision"),
        clips=lambda root: _clips(root / "mtg-jamendo", subset),
        citation="Bogdanov et al., The MTG-Jamendo dataset for automatic music tagging, ML4MD workshop at ICML 2019",
        licence="audio: the Creative Commons licence of each track; metadata: CC BY-NC-SA 4.0",
        source=f"audio: {AUDIO}; splits: {LISTS}",
        window=30.0,
        most_windows=10,
        audio_from=("Jamendo",),
        split_sizes=sizes,
        resources=_resources(subset),
    )


def _clips(home: Path, subset: str) -> list[Clip]:
    lists = {split: _rows(home, subset, split) for split in SPLITS}
    audio = existing_folder([home / "audio"], "the tracks as <NN>/<id>.low.mp3 or <NN>/<id>.mp3", AUDIO)
    return [_clip(audio, subset, split, row) for split, rows in lists.items() for row in rows]


def _list(subset: str, split: Split) -> str:
    return f"autotagging_{subset}-{'validation' if split == 'valid' else split}.tsv"


def _resources(subset: str) -> tuple[Resource, ...]:
    lists = {_list(subset, split): size for split, size in zip(SPLITS, SIZES[subset], strict=True)}
    home = "mtg-jamendo/data/splits/split-0"
    return (
        *(
            Resource(f"{home}/{name}", "CC BY-NC-SA 4.0", (f"{LISTS}/{name}",), SHA256[name], size)
            for name, size in lists.items()
        ),
        Resource("mtg-jamendo/audio", "Creative Commons, of each track", holds="*/*.mp3", by_hand=f"{AUDIO}, 156 GB in all"),
    )


def _rows(home: Path, subset: str, split: Split) -> list[list[str]]:
    """Return the columns of each track: id, artist, album, path, duration in seconds, and any number of tags."""
    name = _list(subset, split)
    text = official_bytes(home / "data" / "splits" / "split-0" / name, SHA256[name], f"{LISTS}/{name}").decode()
    return [line.split("\t") for line in text.splitlines()[1:]]


def _clip(audio: Path, subset: str, split: Split, row: list[str]) -> Clip:
    """Return the clip of a row: the whole track."""
    track, artist, _, path, duration, *tags = row
    full = audio / path
    low = full.with_suffix(".low.mp3")
    target = tuple(tags if subset == "top50tags" else [tag.split("---")[1] for tag in tags])
    return Clip(track, low if low.is_file() else full, split, target, artist=artist, seconds=float(duration))


MTG_TOP50 = _task(
    "mtg-top50", "top50tags", "Which of the 50 most frequent tags of MTG-Jamendo a track has.", TOP50,
    {"train": 32_136, "valid": 10_888, "test": 11_356},
)  # fmt: skip
MTG_GENRE = _task(
    "mtg-genre", "genre", "Which of 87 genres of MTG-Jamendo a track has.", GENRES,
    {"train": 32_572, "valid": 11_043, "test": 11_479},
)  # fmt: skip
MTG_INSTRUMENT = _task(
    "mtg-instrument", "instrument", "Which of 40 instruments of MTG-Jamendo a track has.", INSTRUMENTS,
    {"train": 14_395, "valid": 5_466, "test": 5_115},
)  # fmt: skip
MTG_MOOD = _task(
    "mtg-mood", "moodtheme", "Which of 56 moods and themes of MTG-Jamendo a track has.", MOODS,
    {"train": 9_949, "valid": 3_802, "test": 4_231},
)  # fmt: skip
