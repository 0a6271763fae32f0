"""The protocol: how windows are cut, how probes are trained and how a result is chosen.

Every number of marble stands beside its protocol. The default, ``marble``, is the constrained track of the MARBLE
benchmark (one hidden layer of 512, Adam, six learning rates) with the selection rule

    train -> fit;  validation -> epoch, learning rate, layer;  test -> once.

A protocol is data: `--set probe.hidden=256` changes one value, is recorded in the result and changes its identity.
Other people's protocols are presets (`marble.probe.presets`), made of the values that their sources state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from marble.audio.decode import Channels
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows
from marble.probe.settings import Probe
from marble.registry import protocols
from marble.settings import STRICT, change, validated


class Audio(BaseModel):
    """The part of a file that is heard: its `channels` as in `marble.audio.decode.load`."""

    model_config = STRICT
    channels: Channels = "mean"


def _known_pooling(name: str) -> str:
    if name not in REDUCTIONS:
        raise ValueError(f"write one of {', '.join(REDUCTIONS)}")
    return name


class Stated(NamedTuple):
    """A statement of a source about its protocol, and how marble expresses it.

    Attributes:
        what: is stated.
        value: that is stated.
        source: where.
        settings: ``KEY=VALUE``, separated by spaces, that express it.
        how: in words, where settings do not; what marble does not do begins with "not expressed:".
        tasks: that it holds for; none is all.
    """

    what: str
    value: str
    source: str
    settings: str = ""
    how: str = ""
    tasks: tuple[str, ...] = ()

    def row(self) -> dict[str, str]:
        """Return the statement as a row of a table."""
        expressed = "; ".join(part for part in (self.settings, self.how) if part)
        what = f"{self.what} ({', '.join(self.tasks)})" if self.tasks else self.what
        return {"field": what, "value": self.value, "source": self.source, "expressed": expressed}


class Protocol(BaseModel):
    """A named protocol.

    Attributes:
        name: how the command line calls it.
        description: for people, and part of no result.
        stated: what its sources state, for people.
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
    stated: tuple[Stated, ...] = Field(default=(), exclude=True)
    by_task: dict[str, tuple[str, ...]] = Field(default={}, exclude=True)
    audio: Audio = Audio()
    windows: Windows = Windows()
    pooling: Annotated[str, AfterValidator(_known_pooling)] = "mean"
    probe: Probe = Probe()
    changes: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """Return every value, for changes."""
        return self.model_dump() | {"audio": self.audio.model_dump(), "windows": dict(self.windows)}

    def for_task(self, task: str) -> Protocol:
        """Return the protocol with its settings for a task."""
        document = self.document()
        for setting in self.by_task.get(task, ()):
            change(document, setting, "of a protocol")
        return validated(Protocol, document)

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


def preset(name: str, description: str, *stated: Stated) -> Protocol:
    """Return the protocol that statements make: their settings for all tasks, then those for single ones.

    Raises:
        MarbleError: a statement sets what does not exist, or an impossible value.
    """
    by_task: dict[str, tuple[str, ...]] = {}
    document = Protocol(name=name, description=description).document()
    for statement in stated:
        settings = tuple(statement.settings.split())
        for task in statement.tasks:
            by_task[task] = by_task.get(task, ()) + settings
        for setting in () if statement.tasks else settings:
            change(document, setting, "of a protocol")
    protocol = validated(Protocol, document)
    protocol = protocol.model_copy(update={"description": description, "by_task": by_task, "stated": stated})
    for task in by_task:
        protocol.for_task(task)
    return protocol


# What a preset leaves at its default is this for tasks of frames, whose epochs cost hundreds of times those of clips.
_OF_FRAMES = {"batch_size": 16, "learning_rates": (1e-4, 1e-3, 5e-3)}


def load_protocol(name: str, settings: Sequence[str] = (), task: str = "", *, of_frames: bool = False) -> Protocol:
    """Return a protocol by name, with values replaced.

    Args:
        name: of the protocol.
        settings: ``KEY=VALUE`` such as ``probe.hidden=256``.
        task: the name of the task; the preset's settings for it precede `settings`.
        of_frames: whether its answers are frames.

    Raises:
        MarbleError: no protocol has this name, or a setting has an unknown key or an impossible value.
    """
    document = protocols.load(name, Protocol).for_task(task).document()
    parts = {part: document[part] for part in ("audio", "windows", "pooling", "probe")}
    keys = [f"{part}.{field}" for part in ("audio", "windows", "probe") for field in parts[part]]
    if of_frames:
        default = Probe().model_dump()
        parts["probe"] |= {key: value for key, value in _OF_FRAMES.items() if parts["probe"][key] == default[key]}
    known = f"among {', '.join([*keys, 'pooling'])}"
    for setting in settings:
        document["changes"] |= change(parts, setting, known)
    return validated(Protocol, document | parts)
