"""Numbers that papers published, in the units of marble's metrics, to stand beside measured ones and never among them.

The files are ``results/published/*.csv``; their README says what each column means and what is known about each table. They
are installed with marble as the data of the package `marble.papers`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class PublishedNumber:
    """One number of one table.

    Attributes:
        paper: the paper's short name.
        table: the table's number.
        system: as the paper calls it.
        task: marble's name, or a plain one; "average" is the paper's own mean over metrics.
        metric: marble's name.
        value: in the unit of marble's metric, fractions for percent.
        spread: standard deviation over runs in that unit, or None.
        layer: number, "weighted", or empty where the table names none.
        note: what the reader must know.
    """

    paper: str
    table: int
    system: str
    task: str
    metric: str
    value: float
    spread: float | None
    layer: str
    note: str

    @property
    def source(self) -> str:
        """The mark that the number carries in a leaderboard."""
        return f"published: {self.paper}, Table {self.table}"

    @property
    def protocol(self) -> str:
        """The name of the paper's own protocol, which no measured row has."""
        return f"{self.paper} (published)"


def published_numbers() -> list[PublishedNumber]:
    """Return every published number, by paper and in the order of its tables."""
    return list(_read())


def _read() -> Iterator[PublishedNumber]:
    tables = (file for file in files("marble.papers").iterdir() if file.name.endswith(".csv"))
    for file in sorted(tables, key=lambda file: file.name):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            unit = row.pop("unit")
            spread = _converted(row["spread"], unit) if row["spread"] else None
            value = _converted(row["value"], unit)
            fields: dict[str, Any] = {**row, "table": int(row["table"]), "value": value, "spread": spread}
            yield PublishedNumber(**fields)


def _converted(printed: str, unit: str) -> float:
    """Return a printed number in marble's unit; decimal arithmetic, so that 78.6 percent is 0.786."""
    return float(Decimal(printed) / 100 if unit == "percent" else Decimal(printed))
