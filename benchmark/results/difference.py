"""Why two numbers differ: the fields in which two results, or a result and a published number, were made differently.

Conventions
-----------
- A field is named by its path in the document of a result, such as ``protocol.windows.seconds``. ``task.split`` stands for the
  numbers of tracks, "442 / 197 / 290"; ``task.labels`` for their number; ``seeds`` for how many there were.
- What follows from the numbers (scores, cautions, cost, date) is no difference, nor is what the values already say (the name of
  a protocol, its label). `_EFFECTS` holds what is known of the effects, and their order is that of the differences.
- Of a published number only what its paper states is known (`marble.results.published.conditions`). Every field of protocol,
  split, seeds and choice of the layer that it leaves open is listed too, as `NOT_STATED`; versions of libraries are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from marble.results.published import conditions
from marble.results.schema import Result


class Effect(NamedTuple):
    """The effect of a difference in some fields on a number, in hundredths of a score; None where nobody measured it."""

    fields: tuple[str, ...]
    points: float | None
    evidence: str


# The largest known effect first, then what nobody has measured alone, last what moved nothing.
_EFFECTS = (
    Effect(
        ("task.split", "task.labels"), 20.0,
        "key_score of MERT-v1-330M on giantsteps-key is .656 in MuQ and .856 in Branchformer, which has 25 classes, and splits "
        "and a probe of its own",
    ),
    Effect(
        ("upstream.name", "upstream.version", "upstream.weights_sha256"), 15.9,
        "accuracy of one Conformer on gtzan is .593 trained on FMA and .434 on Music4All (Branchformer, Table 3)",
    ),
    Effect(
        ("selected.layer", "layers"), 5.5,
        "accuracy of MusicFM on gtzan is .855 at its best layer and .800 for the weighted sum (layer-wise, Table 1)",
    ),
    Effect(
        ("protocol.probe.learning_rates",), 4.8,
        "accuracy of MERT on gtzan is .786 in its paper and was .738 for users at the default rate (MARBLE, issue 7)",
    ),
    Effect(
        ("task.name", "task.version", "task.kind"), 3.9,
        "average_precision of MERT-v1-330M is .402 on mtt (MuQ, Table 2) and .441 on mtt-clean (OMAR-RQ, Table 4)",
    ),
    Effect(("seeds",), 0.9, "the deviation over 5 runs of MuQ on gtzan (MuQ, Table 1)"),
    Effect(("task.data_sha256", "task.limit", "bad_clips"), 0.3, "one of the 290 test tracks of gtzan"),
    Effect(("protocol.precision",), 0.15, "ties of bfloat16 scores in average_precision, on made-up scores"),
    Effect(("selected.rule",), None, "a layer chosen on test is the best of many test scores"),
    Effect(("protocol.windows", "protocol.pooling"), None, ""),
    Effect(("note", "protocol"), None, ""),
    Effect(("versions.threads", "versions.instruction_set"), 0.0, "none of 2,280 answers changed on one-shots (README)"),
    Effect(("versions",), None, ""),
)  # fmt: skip
NOT_STATED = "not stated"
_OPEN = ("task.split", "protocol.", "seeds", "selected.rule")


@dataclass(frozen=True)
class Difference:
    """A field in which two numbers were made differently, and what is known of its effect.

    Attributes:
        field: its path in the document of a result.
        first, second: the values; `NOT_STATED` where a paper states none.
        points: the largest effect that is known, in hundredths of a score; None where nobody measured it.
        evidence: the source of `points`, or what is known without a figure; may be empty.
    """

    field: str
    first: Any
    second: Any
    points: float | None
    evidence: str

    def __str__(self) -> str:
        """Return the difference as one line."""
        effect = f"{self.points:g} points: {self.evidence}" if self.points is not None else self.evidence
        return f"{self.field}: {_text(self.first)} against {_text(self.second)}" + (f" ({effect})" if effect else "")


def differences(first: Result | Mapping[str, Any], second: Result | Mapping[str, Any]) -> list[Difference]:
    """Return the fields in which two numbers were made differently, those that have moved numbers most first.

    What a paper leaves open may be no difference, and stands behind all that is one.

    Args:
        first, second: results, or rows of `marble.results.published.published_numbers`.
    """
    both = [(number, dict(_fields(number))) for number in (first, second)]
    names = [
        name
        for name in dict.fromkeys(name for _, fields in both for name in fields)
        if all(name in fields or isinstance(number, Result) or name.startswith(_OPEN) for number, fields in both)
    ]
    unequal = []
    for name in names:
        values = [fields.get(name, None if isinstance(number, Result) else NOT_STATED) for number, fields in both]
        if values[0] != values[1]:
            effect = _effect(name)
            difference = Difference(name, *values, _EFFECTS[effect].points, _EFFECTS[effect].evidence)
            unequal.append((NOT_STATED in values, effect, difference))
    return [difference for *_, difference in sorted(unequal, key=lambda entry: entry[:2])]


def _fields(number: Result | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that say how a number was made, and their values."""
    if not isinstance(number, Result):
        stated = {"upstream.name": number["system"]} | conditions(number)
        layer = number["layer"] or stated.pop("selected.layer", None)
        yield from {"task.name": number["task"], **stated}.items()
        yield from ((name, str(value)) for name, value in (("selected.layer", layer), ("note", number["note"])) if value)
        return
    source = number.provenance
    yield "task.split", " / ".join(map(str, number.task.tracks.values()))
    yield "task.labels", len(number.task.labels)
    yield from ((f"task.{name}", getattr(number.task, name)) for name in ("name", "version", "kind", "data_sha256", "limit"))
    yield "bad_clips", len(number.bad_clips)
    yield "upstream.name", number.upstream.name
    yield "upstream.version", number.upstream.version
    yield "upstream.weights_sha256", number.upstream.weights_sha256[:12]
    yield "layers", ",".join(str(layer.layer) for layer in number.layers)
    yield "selected.layer", str(number.selected.layer)
    yield "selected.rule", number.selected.rule
    yield "seeds", len(number.layers[0].runs)
    yield from _flat("protocol", number.protocol.model_dump(mode="json", exclude={"name", "label", "changes"}))
    yield from _flat("versions", source.versions | source.model_dump(exclude={"versions", "space", "date"}))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, value


def _effect(name: str) -> int:
    """Return the place of a field in `_EFFECTS`."""
    return next(place for place, effect in enumerate(_EFFECTS) if name.startswith(effect.fields))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
