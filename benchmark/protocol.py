"""The protocol: how windows are cut, how probes are trained and how a result is chosen.

Every number of marble stands beside its protocol. The default, ``marble``, is the constrained track of the MARBLE
benchmark (one hidden layer of 512, Adam, six learning rates) with the selection rule

    train -> fit;  validation -> epoch, learning rate, layer;  test -> once.

A protocol is data: `--set probe.hidden=256` changes one value, is recorded in the result and changes its identity.
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
    """A named protocol; `changes` are the values that ``--set`` replaced."""

    model_config = _STRICT
    name: str
    windows: Windows = Windows()
    probe: Probe = Probe()
    changes: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The name with its changes, to print beside every number."""
        changed = ", ".join(f"{key}={value}" for key, value in sorted(self.changes.items()))
        return f"{self.name} ({changed})" if changed else self.name


PROTOCOLS = {"marble": Protocol(name="marble")}


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
        document[part][field] = document["changes"][key] = _value(value)
    try:
        return Protocol.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise MarbleError(
            f"--set {'.'.join(map(str, first['loc'][:2]))}: {first['msg'].lower()}, got {first['input']!r}."
        ) from error


def _value(text: str) -> Any:
    """Return a setting's value: a tuple where it has commas, None for "none", else the text for pydantic to convert."""
    if "," in text:
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
