"""Settings: pydantic models whose values ``--set KEY=VALUE`` replaces."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marble.errors import MarbleError

STRICT = ConfigDict(frozen=True, extra="forbid")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Model = TypeVar("_Model", bound=BaseModel)


def change(document: dict[str, Any], setting: str, known: str) -> dict[str, Any]:
    """Replace one value of a document in place, and return its key and value.

    Args:
        document: of a pydantic model; objects and tuples inside it are reached by ``part.field`` and ``part.0.field``.
        setting: ``KEY=VALUE``; a tuple takes values joined by commas, "none" is None, the rest is for pydantic to convert.
        known: which keys there are, in words.

    Raises:
        MarbleError: there is no such value.
    """
    key, equals, value = setting.partition("=")
    *path, last = key.split(".")
    place: Any = document
    for part in path:
        if isinstance(place, tuple):
            place = dict(zip(map(str, range(len(place))), place, strict=True))
        place = place.get(part) if isinstance(place, dict) else None
    if not (equals and isinstance(place, dict) and last in place) or isinstance(place[last], dict):
        raise MarbleError(f"'{setting}' sets nothing: write KEY=VALUE with a key {known}.")
    if isinstance(place[last], tuple):
        place[last] = tuple(part for part in value.split(",") if part)
    else:
        place[last] = None if value.lower() == "none" else value
    return {key: place[last]}


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
