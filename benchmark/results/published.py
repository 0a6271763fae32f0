"""Numbers that papers published, in the units of marble's metrics, to stand beside measured ones and never among them.

The files are ``results/published/*.csv``; their README says what each column means and what is known about each table. They
are installed with marble as the data of the package `marble.papers`.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from importlib.resources import files
from typing import Any


def published_numbers() -> list[dict[str, Any]]:
    """Return every published number as one row, by paper and in the order of its tables.

    Each has the columns of the files (except the unit), with `table` as a number, `value` and `spread` (None where none is
    printed) in the unit of marble's metric, and two more: `source`, the mark that the number carries in a leaderboard, and
    `protocol`, the name of the paper's own protocol, which no measured row has.
    """
    tables = sorted(
        (file for file in files("marble.papers").iterdir() if file.name.endswith(".csv")), key=lambda file: file.name
    )
    return [_number(**row) for file in tables for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]


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
