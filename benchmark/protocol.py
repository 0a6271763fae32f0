"""The protocol: how windows are cut, how probes are trained and how a result is chosen.

Every number of marble stands beside its protocol. The default, ``marble``, is the constrained track of the MARBLE
benchmark (one hidden layer of 512, Adam, six learning rates) with the selection rule

    train -> fit;  validation -> epoch, learning rate, layer;  test -> once.

A protocol is data: `--set probe.hidden=256` changes one value, is recorded in the result and changes its identity.

The other protocols are presets that come as near to other people's as this harness can: only values that their sources state
differ from ``marble``, and what the harness cannot express stands in the description. The selection rule above holds for all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marble.errors import MarbleError

_RANGE = re.compile("[0-9]+([.][.][0-9]+)?")
_STRICT = ConfigDict(frozen=True, extra="forbid")


class Windows(BaseModel):
    """How a clip is cut, in seconds; None leaves it to the task, then to the upstream."""

    model_config = _STRICT
    seconds: Annotated[float, Field(gt=0)] | None = None
    hop: Annotated[float, Field(gt=0)] | None = None
    tail: Annotated[float, Field(ge=0)] = 1.0


class Probe(BaseModel):
    """The head that is trained on frozen features, and its training."""

    model_config = _STRICT
    hidden: Annotated[int, Field(gt=0)] = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    learning_rates: Annotated[tuple[float, ...], Field(min_length=1)] = (5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
    batch_size: Annotated[int, Field(gt=0)] = 64
    epochs: Annotated[int, Field(gt=0)] = 100
    patience: Annotated[int, Field(gt=0)] = 20
    standardise: bool = True


class Protocol(BaseModel):
    """A named protocol; `changes` are the values that ``--set`` replaced, `description` is for people and part of no result."""

    model_config = _STRICT
    name: str
    description: str = Field(default="", exclude=True)
    windows: Windows = Windows()
    probe: Probe = Probe()
    changes: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The name with its changes, to print beside every number."""
        changed = ", ".join(f"{key}={value}" for key, value in sorted(self.changes.items()))
        return f"{self.name} ({changed})" if changed else self.name


# marble-v1: MARBLE, branch main-v1-archived at d9300e3, benchmark/models/probers.py and its configs: Linear-512, ReLU, dropout
# .2, Linear on raw features; Adam at 1e-3, batch 64, at most 100 epochs, patience 20.
_MARBLE_V1 = Probe(learning_rates=(1e-3,), standardise=False)

_PRESETS = (
    Protocol(
        name="marble",
        description="The constrained track of MARBLE: 512 hidden units, Adam, six learning rates; standardised features.",
    ),
    Protocol(
        name="marble-v1",
        probe=_MARBLE_V1,
        description=(
            "MARBLE v1: one learning rate, raw features. By hand: probe.learning_rates=5e-3 for gtzan, probe.epochs=50 for "
            "NSynth, probe.patience=10 for tags, NSynth and vocal technique. Not expressed: the rate halved on a plateau; "
            "batches of 64 tracks with all their windows (here 64 windows); the weighted sum without layer 0."
        ),
    ),
    # muq: Appendix I of MuQ says that most tasks are based on the implementation of MARBLE, which was v1 then. Its main text
    # says "linear probe"; the layer-wise paper, Section 3.1, states one hidden layer of 512, consistent with prior work.
    Protocol(
        name="muq",
        probe=_MARBLE_V1,
        description=(
            "MuQ and the layer-wise study: probes of marble-v1, on which they build; stated are 512 hidden units and 5 runs. "
            "By hand: windows.seconds=10 for gtzan, 5 for emomusic, where the task differs. Not expressed: the best layer "
            "apparently chosen on test; what marble-v1 does not express."
        ),
    ),
    # omar: MTG/omar-rq at c110659, the probe of MagnaTagATune: dropout .2, rate 1e-4, batch 64, raw features; of 20,000 steps
    # without early stop the best checkpoint is tested, and 20,000 steps are 84 epochs of 15,244 clips. Inputs of 30 s: the same
    # code, and Sections 3.1 and 4.2 of the paper.
    Protocol(
        name="omar",
        windows=Windows(seconds=30.0),
        probe=Probe(learning_rates=(1e-4,), epochs=84, patience=84, standardise=False),
        description=(
            "OMAR-RQ, as its code probes mtt-clean: 20,000 steps (84 epochs there) at 1e-4, no early stop, raw features, 30 s. "
            "By hand for nsynth-pitch: probe.learning_rates=1e-3, probe.dropout=0, probe.batch_size=32, probe.epochs=11 "
            "(100,000 steps). Its layer is 6 (--layers 6). Not expressed: AdamW with decay .01; cosine schedule with warm-up; "
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


def load_protocol(name: str, settings: Sequence[str] = ()) -> Protocol:
    """Return a protocol by name, with values replaced by ``KEY=VALUE`` settings such as ``probe.hidden=256``.

    Raises:
        MarbleError: no protocol has this name, or a setting has an unknown key or an impossible value.
    """
    if name not in PROTOCOLS:
        raise MarbleError(f"There is no protocol called '{name}': known are {', '.join(PROTOCOLS)}.")
    document = PROTOCOLS[name].model_dump()
    for setting in settings:
        key, equals, value = setting.partition("=")
        part, dot, field = key.partition(".")
        if not (equals and dot and part in ("windows", "probe") and field in document[part]):
            known = ", ".join(f"{part}.{field}" for part in ("windows", "probe") for field in document[part])
            raise MarbleError(f"'{setting}' sets nothing: write KEY=VALUE with a key among {known}.")
        document[part][field] = document["changes"][key] = _value(value, document[part][field])
    try:
        return Protocol.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise MarbleError(
            f"--set {'.'.join(map(str, first['loc'][:2]))}: {first['msg'].lower()}, got {first['input']!r}."
        ) from error


def _value(text: str, present: Any) -> Any:
    """Return a setting's value: a tuple in place of a tuple, None for "none", else the text for pydantic to convert."""
    if isinstance(present, tuple):
        return tuple(part for part in text.split(",") if part)
    return None if text.lower() == "none" else text


def parse_layers(text: str, count: int) -> tuple[list[int], bool]:
    """Return the layer numbers that a list such as ``all``, ``weighted``, ``0,3,6..12`` names, and whether the sum is asked.

    Args:
        text: parts joined by commas: ``all``, ``weighted``, a number, or a range ``first..last`` with both ends.
        count: how many layers the upstream has.

    Raises:
        MarbleError: a part is no layer of this upstream.
    """
    layers: set[int] = set()
    weighted = False
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        if first == "weighted" and not dots:
            weighted = True
        elif first == "all" and not dots:
            layers |= set(range(count))
        elif _RANGE.fullmatch(part.strip()) and int(first) <= int(last or first) < count:
            layers |= set(range(int(first), int(last or first) + 1))
        else:
            raise MarbleError(
                f"'{part}' names no layer: there are 0..{count - 1}; write all, weighted, or a list such as 0,3,6..12."
            )
    return sorted(layers), weighted
