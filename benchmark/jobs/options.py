"""The options of a job, as the command line or Python gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from marble.errors import MarbleError
from marble.settings import change, validated
from marble.task import SplitRule


def _layer_text(layers: object) -> object:
    """Return layers as the command line writes them."""
    parts = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    if not parts or not all(isinstance(part, str | Integral) and not isinstance(part, bool) for part in parts):
        raise ValueError("write all, weighted, a number, or several of these")
    return ",".join(map(str, parts))


def _seed_numbers(seeds: object) -> object:
    """Return the seeds that a number of seeds or the seeds themselves mean; None leaves them to the task."""
    if seeds is None:
        return None
    parts = [seeds] if isinstance(seeds, Integral) else list(seeds) if isinstance(seeds, Iterable) else [None]
    if not all(isinstance(part, Integral) and not isinstance(part, bool) and part >= 0 for part in parts):
        raise ValueError("write how many, or which: numbers from 0")
    numbers = list(range(int(seeds)) if isinstance(seeds, Integral) else dict.fromkeys(map(int, parts)))
    if not numbers:
        raise ValueError("ask for at least one seed")
    return tuple(numbers)


class _Split(BaseModel):
    split: SplitRule


class JobOptions(BaseModel):
    """The options of a job beside upstream and task.

    Attributes:
        layers: ``all``, ``weighted``, a list such as ``0,3,6..12``, or several of these joined by commas; or a number, or
            several in a sequence.
        seeds: number of seeds, which are 0, 1, 2, …; or the seeds in a sequence; None is 5, and 3 for tasks of frames.
        protocol: its name.
        settings: changes to it, ``KEY=VALUE``; ``split.valid=0.2`` changes the split (`marble.task.SplitRule`).
        data_root: folder of the datasets; None is ``$MARBLE_HOME/data``.
        cache_dir: folder of features and trained probes; None is ``$MARBLE_HOME/cache``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` (fp32), ``fp32`` or ``bf16``.
        threads: of torch on a CPU; None is as many as the process may use.
        memory: gigabytes that probing frames may use; None is half of what is free.
        limit: use at most this many tracks of each split, for a quick look.
        offline: never use the network.
        group: what is kept in one split of the user's own data (`marble.task.SplitRule`).
        name: of a task over the user's own data, in place of that of its file or folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    layers: Annotated[str, BeforeValidator(_layer_text)] = "all"
    seeds: Annotated[tuple[int, ...] | None, BeforeValidator(_seed_numbers)] = None
    protocol: str = "marble"
    settings: Sequence[str] = ()
    data_root: Path | str | None = None
    cache_dir: Path | str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    memory: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    limit: Annotated[int | None, Field(ge=1)] = None
    offline: bool = False
    group: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, options: dict[str, object]) -> JobOptions:
        """Return options by name.

        Raises:
            MarbleError: there is no such option, or a value is impossible.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            why = first["msg"].removeprefix("Value error, ").lower()
            raise MarbleError(f"The option {first['loc'][0]}={first['input']!r:.60} is impossible: {why}.") from error

    @property
    def rule(self) -> SplitRule | None:
        """The rule by which the user's own data is split; None leaves it to the task.

        Raises:
            MarbleError: there is no such setting, or its value is impossible.
        """
        document = {"split": {"valid": None, "near": None}}
        for setting in self.settings:
            if setting.startswith("split."):
                change(document, setting, "among split.valid, split.near")
        rule = validated(_Split, {"split": {"group": self.group, **document["split"]}}).split
        return None if rule == SplitRule() else rule
