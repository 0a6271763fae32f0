"""A leaderboard as text: CSV, Markdown, LaTeX (with the package booktabs) and HTML.

Names are escaped, so that they stay names wherever they are read. In a table of `leaderboard.paper_table` a cell is "mean ±
deviation over seeds"; the best of the rows of one protocol is bold, the second underlined, and † marks what is within noise of
the best. Markdown, LaTeX and HTML say so with the table (`RULE`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import NamedTuple

import pandas

from marble.errors import MarbleError, printable

FORMS = ("csv", "md", "latex", "html")
RULE = (
    "Average: the mean over all columns in which higher is better, each weighing the same, of those that have them all. "
    "Rank: by the average, within the protocol, with its 95 % interval over tasks, tracks and seeds. ± standard deviation over "
    "seeds. Bold: best; underlined: second; †: within noise of the best. Published rows are not ranked."
)
# A row that begins with a bracket or a star would be read as an argument of the line break before it.
_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {letter: f"{{{letter}}}" for letter in "[*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "†": r"$^\dagger$", "–": "--"}
)


def _markdown(text: str) -> str:
    """Return a text with all markup of Markdown escaped; an underscore inside a word is not markup."""
    return re.sub(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


class _Form(NamedTuple):
    """The way in which a form writes names, the best and the second best."""

    escape: Callable[[str], str]
    best: str
    second: str


_FORM = {
    "md": _Form(_markdown, "**{}**", "<u>{}</u>"),
    "latex": _Form(lambda text: text.translate(_LATEX), r"\textbf{{{}}}", r"\underline{{{}}}"),
    "html": _Form(lambda text: html.escape(text, quote=False), "<strong>{}</strong>", "<u>{}</u>"),
}


def format_board(board: pandas.DataFrame, form: str) -> str:
    """Return a leaderboard as text that ends with a newline.

    Args:
        board: of `leaderboard` or `paper_table`.
        form: "csv" (all digits; a name that a spreadsheet would take for a formula gets an apostrophe before it), or one of
            "md", "latex" and "html" (four decimals; of a table as in papers three).

    Raises:
        MarbleError: there is no such form.
    """
    if form not in FORMS:
        raise MarbleError(f"There is no leaderboard in '{form}': write --format {'|'.join(FORMS)}.")
    wide = board.columns.nlevels > 1
    if form == "csv":
        if wide:
            board = board.set_axis([" ".join(filter(None, column)) for column in board.columns], axis=1)
        safe = [
            board[name].map(_no_formula) if not pandas.api.types.is_numeric_dtype(board[name]) else board[name]
            for name in board
        ]
        return pandas.concat(safe, axis=1).rename(columns=_no_formula).to_csv(index=False)
    escape = _FORM[form].escape
    headings, rows = _wide_cells(board, _FORM[form]) if wide else _cells(board, escape)
    return _FORMATS[form]([escape(printable(heading)) for heading in headings], rows, RULE if wide else "")


def _as_html(headings: list[str], rows: list[list[str]], note: str) -> str:
    with pandas.option_context("display.max_colwidth", None):
        text = pandas.DataFrame(rows, columns=headings).to_html(index=False, border=0, escape=False) + "\n"
    return text.replace("\n", f"\n  <caption>{note}</caption>\n", 1) if note else text


def _as_markdown(headings: list[str], rows: list[list[str]], note: str) -> str:
    lines = "".join(f"| {' | '.join(line)} |\n" for line in (headings, ["---"] * len(headings), *rows))
    return lines + (f"\n{note}\n" if note else "")


def _as_latex(headings: list[str], rows: list[list[str]], note: str) -> str:
    """Return a table for booktabs; the note is a comment, to be put into the caption."""
    first, *lines = (" & ".join(line) + r" \\" for line in (headings, *rows))
    head = rf"\begin{{tabular}}{{{'l' * len(headings)}}}"
    table = [head, r"\toprule", first, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([*([f"% {note.translate(_LATEX)}"] if note else []), *table])


_FORMATS = {"md": _as_markdown, "latex": _as_latex, "html": _as_html}


def _cells(board: pandas.DataFrame, escape: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    return list(board.columns), [[escape(_cell(value)) for value in row] for row in board.itertuples(index=False)]


def _wide_cells(board: pandas.DataFrame, form: _Form) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of a table as in papers, a column for each task and metric."""
    names = list(dict.fromkeys(name for name, _ in board.columns))
    scores = {name for name, part in board.columns if part == "mean"}
    rows = []
    for row in board.to_dict("records"):
        cells = []
        for name in names:
            if name in scores:
                cells.append(_score(*(row[name, part] for part in ("mean", "std", "place", "tie")), form))
            elif name == "rank":
                rank, low, high = (_cell(row[name, part]) for part in ("", "low", "high"))
                cells.append(form.escape(f"{rank} ({low}–{high})" if rank else ""))
            else:
                value = row[name, ""]
                cells.append(form.escape(f"{value:.3f}" if isinstance(value, float) and value == value else _cell(value)))
        rows.append(cells)
    return names, rows


def _score(mean: float, std: float, place: object, tie: object, form: _Form) -> str:
    """Return a cell such as "**0.855** ± 0.009"."""
    if pandas.isna(mean):
        return ""
    text = f"{mean:.3f}"
    mark = "" if pandas.isna(place) else {1: form.best, 2: form.second}.get(place, "")
    text = mark.format(text) if mark else text
    noise = "†" if not pandas.isna(tie) and tie == 1 and place != 1 else ""
    return text + form.escape(noise + ("" if pandas.isna(std) else f" ± {std:.3f}"))


def _no_formula(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _cell(value: object) -> str:
    """Return a cell as readable text."""
    if value is None or pandas.isna(value):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))
