"""Numbers that papers published, in the units of marble's metrics, to stand beside measured ones and never among them.

The files are ``results/published/*.csv``; their README says what each column means and what is known about each table. The
conditions under which the papers measured stand in ``conditions.csv`` beside them. All are installed with marble as the data of
the package `marble.papers`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from typing import Any

_CONDITIONS = "conditions.csv"


def published_numbers() -> list[dict[str, Any]]:
    """Return every published number as one row, by paper and in the order of its tables.

    Each has the columns of the files (except the unit), with `table` as a number, `value` and `spread` (None where none is
    printed) in the unit of marble's metric, and two more: `source`, the mark that the number carries in a leaderboard, and
    `protocol`, the name of the paper's own protocol, which no measured row has.
    """
    names = sorted(file.name for file in files("marble.papers").iterdir() if file.name.endswith(".csv"))
    return [_number(**row) for name in names if name != _CONDITIONS for row in _rows(name)]


def conditions(number: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions that a paper states for one of its numbers: fields of a result, such as ``task.split``, and values.

    Of a number that the paper quotes from another one, only the upstream is known.

    Args:
        number: of `published_numbers`.
    """
    stated = [row for row in _rows(_CONDITIONS) if all(row[key] in ("", number[key]) for key in ("paper", "system", "task"))]
    own = "quoted" not in number["note"]
    return {row["field"]: _value(row["value"]) for row in stated if own or row["field"] == "upstream.name"}


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files("marble.papers") / name).read_text(encoding="utf-8").splitlines()))


def _value(text: str) -> Any:
    """Return a value that JSON knows, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(paper: str, table: str, value: str, spread: str, unit: str, **others: str) -> dict[str, Any]:
    scale = 100 if unit == "percent" else 1  # of decimals, so that 78.6 percent is 0.786
    return others | {
        "paper": paper,
        "table": int(table),
        "value": float(Decimal(value) / scale),
        "spread": float(Decimal(spread) / scale) if spread else None,
        "source": f"published: {paper}, Table {table}",
        "protocol": f"{paper} (published)",
    }
