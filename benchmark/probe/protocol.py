"""The protocol: how windows are cut, how probes are trained and how a result is chosen.

Every number of marble stands beside its protocol. The default, ``marble``, is the constrained track of the MARBLE
benchmark (one hidden layer of 512, Adam, six learning rates) with the selection rule

    train -> fit;  validation -> epoch, learning rate, layer;  test -> once.

A protocol is data: `--set probe.hidden=256` changes one value, is recorded in the result and changes its identity.
Other people's protocols are presets (`marble.probe.presets`), made of the values that their sources state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from marble.audio.decode import Channels
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows
from marble.probe.settings import Probe
from marble.registry import protocols
from marble.settings import STRICT, change, validated


class Audio(BaseModel):
    """What is heard of a file: its `channels` as in `marble.audio.decode.load`."""

    model_config = STRICT
    channels: Channels = "mean"


def _known_pooling(name: str) -> str:
    if name not in REDUCTIONS:
        raise ValueError(f"write one of {', '.join(REDUCTIONS)}")
    return name


class Protocol(BaseModel):
    """A named protocol.

    Attributes:
        name: how the command line calls it.
        description: for people, and part of no result.
        by_task: settings that replace values for the task of this name; part of a result only by their effect.
        audio: what is heard of a file; part of a document only where it is not the default.
        windows: how clips are cut.
        pooling: the reduction of each window; see `marble.features.reduction`.
        probe: the head and its training.
        changes: the values that ``--set`` replaced.
    """

    model_config = STRICT
    name: str
    description: str = Field(default="", exclude=True)
    by_task: dict[str, tuple[str, ...]] = Field(default={}, exclude=True)
    audio: Audio = Audio()
    windows: Windows = Windows()
    pooling: Annotated[str, AfterValidator(_known_pooling)] = "mean"
    probe: Probe = Probe()
    changes: dict[str, Any] = {}

    def identity(self) -> dict[str, Any]:
        """Return everything that decides numbers; see `Probe.identity`."""
        return self.model_dump(mode="json") | {"probe": self.probe.identity()}

    @model_serializer(mode="wrap")
    def _without_default_audio(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if key != "audio" or self.audio != Audio()}

    @property
    def label(self) -> str:
        """The name with its changes, to print beside every number."""
        typed = {
            key: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value for key, value in self.changes.items()
        }
        changed = ", ".join(f"{key}={value}" for key, value in sorted(typed.items()))
        return f"{self.name} ({changed})" if changed else self.name


# marble-v1: MARBLE, branch main-v1-archived at d9300e3, benchmark/models/probers.py and its configs: Linear-512, ReLU, dropout
# .2, Linear on raw features; Adam at 1e-3, batch 64, at most 100 epochs, patience 20. By task, the configs and preprocessing of
# benchmark/tasks: GTZAN at 5e-3; patience 10 for tags, NSynth (50 epochs) and vocal technique; GiantSteps and VocalSet are cut
# into 30 s and 3 s and lose the rest. Windows of 30 s are stated where a task has them, since MERT hears them there, too.
_MARBLE_V1 = Probe(learning_rates=(1e-3,), standardise=False)
_MARBLE_V1_BY_TASK = {
    "gtzan": ("windows.seconds=30", "probe.learning_rates=5e-3"),
    "giantsteps-key": ("windows.seconds=30", "windows.tail=30"),
    "vocalset-singer": ("windows.tail=3",),
    "vocalset-technique": ("windows.tail=3", "probe.patience=10"),
    **dict.fromkeys(
        ("mtt", "mtg-top50", "mtg-genre", "mtg-instrument", "mtg-mood"), ("windows.seconds=30", "probe.patience=10")
    ),
    **dict.fromkeys(
        ("nsynth-instrument", "nsynth-pitch", "nsynth-instrument-clean", "nsynth-pitch-clean"),
        ("probe.patience=10", "probe.epochs=50"),
    ),
}

_PRESETS = (
    Protocol(
        name="marble",
        description="The constrained track of MARBLE: 512 hidden units, Adam, six learning rates; standardised features.",
    ),
    Protocol(
        name="marble-v1",
        probe=_MARBLE_V1,
        by_task=_MARBLE_V1_BY_TASK,
        description=(
            "MARBLE v1: one learning rate, raw features; patience, epochs, rate and the rest of a clip by task. Not expressed: "
            "the rate halved on a plateau; batches of 64 tracks with all their windows (here 64 windows); the weighted sum "
            "without layer 0; emomusic without its last 15 s; leading silence of VocalSet trimmed."
        ),
    ),
    # muq: Appendix I of MuQ says that most tasks are based on the implementation of MARBLE, which was v1 then. Its main text
    # says "linear probe"; the layer-wise paper, Section 3.1, states one hidden layer of 512, consistent with prior work. The
    # windows of GTZAN (10 s), EmoMusic (5 s) and vocal technique (3 s) stand in the same appendix.
    Protocol(
        name="muq",
        probe=_MARBLE_V1,
        by_task=_MARBLE_V1_BY_TASK
        | {
            "gtzan": (*_MARBLE_V1_BY_TASK["gtzan"], "windows.seconds=10"),
            "emomusic": ("windows.seconds=5",),
            "vocalset-technique": ("windows.seconds=3", *_MARBLE_V1_BY_TASK["vocalset-technique"]),
        },
        description=(
            "MuQ and the layer-wise study: probes of marble-v1, on which they build; stated are 512 hidden units, 5 runs, and "
            "windows of 10 s for gtzan, 5 s for emomusic, 3 s for vocalset-technique. Not expressed: the best layer apparently "
            "chosen on test; what marble-v1 does not express."
        ),
    ),
    # omar: MTG/omar-rq at c110659, the probe of MagnaTagATune: dropout .2, rate 1e-4, batch 64, raw features; of 20,000 steps
    # without early stop the best checkpoint is tested, and 20,000 steps are 84 epochs of 15,244 clips. Inputs of 30 s: the same
    # code, and Sections 3.1 and 4.2 of the paper. By task, its configs: pitch at 1e-3 without dropout, batch 32, 100,000 steps
    # (11 epochs of 289,205 notes); windows of PSyllabus that overlap by half.
    Protocol(
        name="omar",
        windows=Windows(seconds=30.0),
        probe=Probe(learning_rates=(1e-4,), epochs=84, patience=84, standardise=False),
        by_task={
            **dict.fromkeys(
                ("nsynth-pitch", "nsynth-pitch-clean"),
                ("probe.learning_rates=1e-3", "probe.dropout=0", "probe.batch_size=32", "probe.epochs=11"),
            ),
            **{f"piano-difficulty{split}": ("windows.hop=15",) for split in ("", "-1", "-2", "-3", "-4")},
        },
        description=(
            "OMAR-RQ, as its code probes mtt-clean: 20,000 steps (84 epochs there) at 1e-4, no early stop, raw features, 30 s; "
            "nsynth-pitch for 100,000 steps (11 epochs) of 32 notes at 1e-3 without dropout; piano-difficulty with half "
            "overlap. Its layer is 6 (--layers 6). Not expressed: AdamW with decay .01; cosine schedule with warm-up; "
            "dropout before the hidden layer; one random chunk a track in training, the first alone in testing; binary loss "
            "for pitch."
        ),
    ),
    # branchformer: Section 4.3 of the paper (512 units, dropout .25, batches of 16 or 32 by task) and its Section 4.2.2
    # (windows of 30 s, said of tagging).
    Protocol(
        name="branchformer",
        windows=Windows(seconds=30.0),
        probe=Probe(dropout=0.25, batch_size=32),
        description=(
            "Branchformer with SummaryMixing: dropout .25, batch 32 (16 for tasks that are not named: probe.batch_size=16), "
            "30 s. Learning rate, epochs, pooling and standardisation are not stated: those of marble. Not expressed: the "
            "layer, apparently the last alone."
        ),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _PRESETS}


def load_protocol(name: str, settings: Sequence[str] = (), task: str = "") -> Protocol:
    """Return a protocol by name, with values replaced.

    Args:
        name: of the protocol.
        settings: ``KEY=VALUE`` such as ``probe.hidden=256``.
        task: the name of the task; the preset's settings for it precede `settings`.

    Raises:
        MarbleError: no protocol has this name, or a setting has an unknown key or an impossible value.
    """
    preset = protocols.load(name, Protocol)
    document = preset.model_dump()
    parts = {"audio": preset.audio.model_dump()} | {part: document[part] for part in ("windows", "pooling", "probe")}
    keys = [f"{part}.{field}" for part in ("audio", "windows", "probe") for field in parts[part]]
    known = f"among {', '.join([*keys, 'pooling'])}"
    for setting in preset.by_task.get(task, ()):
        change(parts, setting, known)
    for setting in settings:
        document["changes"] |= change(parts, setting, known)
    return validated(Protocol, document | parts)
