"""The report: one HTML file that shows all results of a folder, without a network and without a server.

Conventions
-----------
- The page is drawn when it is written: tables are HTML, curves are SVG, and all that a tooltip says stands in a table, too.
  Its one script (`script.js`) sorts, filters and shows tooltips, and holds no data; without it everything can be read.
- Text from results is data: Jinja escapes it, and characters that do not print become escapes (`marble.errors.printable`).
  A content security policy lets no other script run and nothing be loaded but local audio. Only file URIs of files that exist
  become links.
- `choose_results` chooses one of several results. Those of one task, protocol and limit are compared with each other; results
  of synthetic tasks and of real data are ranked apart, those under a limit not at all.
- What cannot be read is named and counted in the page, and in warnings: results, and answers, without which confusions and
  clips are missing.
- The same folder gives the same bytes on the same machine.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from marble.errors import printable
from marble.results.report.content import Paired, collect

__all__ = ["Paired", "report"]


def report(root: Path, paired: Paired | None = None) -> str:
    """Return the page of all results below a folder.

    Args:
        root: the folder of all results.
        paired: function from two results and the folder to the difference of their selected layers on the same test tracks,
            and its interval, such as `marble.analysis.compare.compare_results`; None leaves differences out.

    Raises:
        MarbleError: there is no such folder.
    """
    sources = {name: _source(name) for name in ("page.html", "parts.html", "style.css", "script.js")}
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_finalize,
    )  # fmt: skip
    environment.filters |= {"score": _score, "ends": _ends}
    script = environment.get_template("script.js").render()
    return environment.get_template("page.html").render(
        content=collect(root, paired),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


def _source(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _finalize(value: Any) -> Any:
    """Return a text of a result with escapes for what does not print; markup of the templates as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _score(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _ends(ends: tuple[float | None, float | None] | None) -> str:
    return "–" if ends is None or None in ends else f"{_score(ends[0])} … {_score(ends[1])}"
