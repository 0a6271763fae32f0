"""Settings: pydantic models whose values ``--set KEY=VALUE`` replaces."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marble.errors import MarbleError

STRICT = ConfigDict(frozen=True, extra="forbid")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Model = TypeVar("_Model", bound=BaseModel)


def change(document: dict[str, Any], setting: str, known: str) -> dict[str, Any]:
    """Replace one value of a document, and return its key and value.

    Args:
        document: of a pydantic model; objects and tuples inside it are reached by ``part.field`` and ``part.0.field``.
        setting: ``KEY=VALUE``; a tuple takes values joined by commas, "none" is None, the rest is for pydantic to convert.
        known: the keys that exist, in words, for the error.

    Raises:
        MarbleError: there is no such value.
    """
    key, equals, value = setting.partition("=")
    *path, last = key.split(".")
    level: Any = document
    for part in path:
        if isinstance(level, tuple):
            level = dict(zip(map(str, range(len(level))), level, strict=True))
        level = level.get(part) if isinstance(level, dict) else None
    if not (equals and isinstance(level, dict) and last in level) or isinstance(level[last], dict):
        raise MarbleError(f"'{setting}' sets nothing: write KEY=VALUE with a key {known}.")
    if isinstance(level[last], tuple):
        level[last] = tuple(part for part in value.split(",") if part)
    else:
        level[last] = None if value.lower() == "none" else value
    return {key: level[last]}


def validated(kind: type[_Model], document: dict[str, Any]) -> _Model:
    """Return the model of a changed document.

    Raises:
        MarbleError: a value is impossible.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise MarbleError(
            f"--set {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}, got {first['input']!r}."
        ) from error
