"""NSynth: the family of an instrument that plays one note (11), and the pitch of the note (128).

Data
    305,979 notes of 4 s, 16 kHz mono wav (Engel et al. 2017), the three official archives unpacked in ``<data root>/nsynth``:
    ``nsynth-<train|valid|test>/examples.json`` and ``nsynth-<train|valid|test>/audio/<note>.wav``.
Split
    Official: 289,205 / 12,678 / 4,096. No instrument of training is in the other two. The notes of brass_acoustic_046 from
    MIDI 84 to 108, in test alone, are noise (71 of them, github.com/magenta/magenta issue 2092), so no pitch accuracy reaches
    100 %. nsynth-instrument and nsynth-pitch keep them, as all published numbers do; nsynth-instrument-clean and
    nsynth-pitch-clean leave them out.
Labels
    nsynth-instrument: the 11 families; synth_lead occurs in training only, and balanced accuracy leaves it out. nsynth-pitch:
    the MIDI number, 0 to 127.
Window
    4 s, the whole note.
Metrics
    accuracy (main), balanced accuracy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from marble.errors import MarbleError
from marble.task import SPLITS, Clip, Resource, Task
from marble.tasks.official import existing_folder, official_bytes

ADDRESS = "http://download.magenta.tensorflow.org/datasets/nsynth"
FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip


# The notes whose files hold noise: `<instrument>-<pitch>-<velocity>`.
_NOISE = re.compile(r"brass_acoustic_046-(08[4-9]|09\d|10[0-8])-\d{3}")


def _clean(clips: Callable[[Path], Sequence[Clip]], root: Path) -> list[Clip]:
    return [clip for clip in clips(root) if not _NOISE.fullmatch(clip.id)]


def _clips(field: str, root: Path) -> list[Clip]:
    clips = []
    for split in SPLITS:
        home = root / "nsynth" / f"nsynth-{split}"
        address = f"{ADDRESS}/nsynth-{split}.jsonwav.tar.gz"
        file = home / "examples.json"
        try:
            notes = json.loads(official_bytes(file, None, f"{address}, unpack it"))
            targets = {name: str(note[field]) for name, note in notes.items()}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise MarbleError(f"{file.absolute()} is not the table of NSynth: unpack {address} again.") from error
        audio = existing_folder([home / "audio"], "the notes <note>.wav", address)
        clips += [
            Clip(name, audio / f"{name}.wav", split, target, artist=name.rsplit("-", 2)[0]) for name, target in targets.items()
        ]
    return clips


NSYNTH_INSTRUMENT = Task(
    name="nsynth-instrument",
    version=1,
    description=f"Which of 11 families of instruments plays a note of NSynth.\n\n{__doc__}",
    kind="multiclass",
    labels=FAMILIES,
    metrics=("accuracy", "balanced_accuracy"),
    clips=partial(_clips, "instrument_family_str"),
    citation="Engel et al., Neural audio synthesis of musical notes with WaveNet autoencoders, ICML 2017",
    licence="CC BY 4.0",
    source=f"{ADDRESS}/nsynth-{{train,valid,test}}.jsonwav.tar.gz",
    window=4.0,
    split_sizes={"train": 289_205, "valid": 12_678, "test": 4_096},
    resources=tuple(
        Resource(f"nsynth/nsynth-{split}", "CC BY 4.0", (f"{ADDRESS}/nsynth-{split}.jsonwav.tar.gz",), holds="examples.json")
        for split in SPLITS
    ),
)
NSYNTH_PITCH = replace(
    NSYNTH_INSTRUMENT,
    name="nsynth-pitch",
    description=f"Which MIDI pitch a note of NSynth has.\n\n{__doc__}",
    labels=tuple(map(str, range(128))),
    clips=partial(_clips, "pitch"),
)
# One report counts the notes of noise, so the size of the test split is not asserted.
NSYNTH_INSTRUMENT_CLEAN, NSYNTH_PITCH_CLEAN = (
    replace(
        task,
        name=f"{task.name}-clean",
        description=task.description.replace(".", ", without the notes that are noise.", 1),
        clips=partial(_clean, task.clips),
        split_sizes=None,
    )
    for task in (NSYNTH_INSTRUMENT, NSYNTH_PITCH)
)
