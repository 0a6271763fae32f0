"""The leaderboard: one row for each chosen result, as a table of pandas and as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import pandas

from marble.errors import MarbleError, printable
from marble.results.choose import choose_results, task_titles
from marble.results.published import published_numbers
from marble.results.schema import Result

FORMS = ("csv", "md", "latex", "html")
_COLUMNS = [
    "task", "protocol", "metric", "upstream", "layer", "layer_name", "test_mean", "test_std", "test_low", "test_high",
    "validation_mean", "seeds", "test_tracks", "bad_clips", "data_sha256", "weights_sha256", "identity", "source", "note",
]  # fmt: skip
# A row that begins with a bracket or a star would be read as an argument of the line break before it.
_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {letter: f"{{{letter}}}" for letter in "[*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}"}
)


def leaderboard(results: Iterable[Result], *, synthetic: bool = False, with_published: bool = False) -> pandas.DataFrame:
    """Return one row for each chosen result: the selected layer and its test score, best first within task and protocol.

    The column `source` says "measured", or "published" with paper and table; `note` holds the cautions about the selected
    layer, in their short form, or what the reader of a paper's number must know.

    Args:
        results: any; `choose_results` chooses one of several results of an upstream on a task.
        synthetic: rows of the synthetic tasks instead of those of real data; the two never stand in one leaderboard. Results
            of a ``--limit`` run stand in neither.
        with_published: add the numbers of the papers, and measured rows of the metrics that papers state for a task. The
            papers' rows follow the measured ones of their task in the order of the papers, with the papers' own protocols:
            they are ranked neither among these nor among themselves.
    """
    ranked = [result for result in results if result.task.synthetic == synthetic and not result.task.limit]
    published = [number for number in published_numbers() if number["task"] != "average"] if with_published else []
    stated = {(number["task"], number["metric"]) for number in published}
    chosen = [result for group in choose_results(ranked).values() for result in group]
    measured = pandas.DataFrame(
        [
            _row(result, metric, task)
            for result, task in zip(chosen, task_titles(chosen), strict=True)
            for metric in result.selected.test
            if metric == result.task.main_metric or (result.task.name, metric) in stated
        ],
        columns=[*_COLUMNS, "order"],
    )
    measured["order"] = pandas.to_numeric(measured["order"])
    measured = measured.sort_values(["task", "protocol", "metric", "order", "upstream"], kind="stable", ignore_index=True)
    measured = measured.drop(columns="order")
    if not with_published:
        return measured
    theirs = [
        number | {"upstream": number["system"], "test_mean": number["value"], "test_std": number["spread"]}
        for number in published
    ]
    both = pandas.DataFrame([*measured.to_dict("records"), *theirs], columns=_COLUMNS, dtype=object)
    return both.sort_values("task", kind="stable", ignore_index=True)


def format_board(board: pandas.DataFrame, form: str) -> str:
    """Return a leaderboard as text that ends with a newline; names are escaped, so that they stay names wherever it is read.

    Args:
        board: of `leaderboard`.
        form: "csv" (all digits; a name that a spreadsheet would take for a formula gets an apostrophe before it), or one of
            "md", "latex" and "html" (four decimals).

    Raises:
        MarbleError: there is no such form.
    """
    if form not in FORMS:
        raise MarbleError(f"There is no leaderboard in '{form}': write --format {'|'.join(FORMS)}.")
    if form == "csv":
        names = {
            name: pandas.Series(map(_no_formula, board[name]), dtype=object) for name in board.select_dtypes(exclude="number")
        }
        return board.assign(**names).to_csv(index=False)
    rows = [[_cell(value) for value in row] for row in board.itertuples(index=False)]
    if form == "html":
        with pandas.option_context("display.max_colwidth", None):
            return pandas.DataFrame(rows, columns=board.columns).to_html(index=False, border=0) + "\n"
    if form == "md":
        lines = [board.columns, ["---"] * len(board.columns), *([_markdown(cell) for cell in row] for row in rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    lines = [" & ".join(cell.translate(_LATEX) for cell in line) + r" \\" for line in (board.columns, *rows)]
    head = rf"\begin{{tabular}}{{{'l' * len(board.columns)}}}"
    return "\n".join([head, r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""])


def _row(result: Result, metric: str, task: str) -> dict[str, object]:
    test = result.selected.test[metric]
    low, high = test.ci95 or (None, None)
    return {
        "task": task,
        "protocol": result.protocol.label,
        "metric": metric,
        "upstream": result.upstream.name,
        "layer": result.selected.layer,
        "layer_name": result.selected.name,
        "test_mean": test.mean,
        "test_std": test.std,
        "test_low": low,
        "test_high": high,
        "validation_mean": result.selected.validation[metric].mean,
        "seeds": len(result.layers[0].runs),
        "test_tracks": result.task.tracks["test"],
        "bad_clips": len(result.bad_clips),
        "data_sha256": result.task.data_sha256,
        "weights_sha256": result.upstream.weights_sha256[:12],
        "identity": result.identity[:12],
        "source": "measured",
        "note": "; ".join(result.short_cautions),
        "order": None if test.mean is None else -test.mean if result.higher_is_better(metric) else test.mean,
    }


def _no_formula(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _cell(value: object) -> str:
    """Return a cell as readable text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def _markdown(text: str) -> str:
    """Return a text with all markup of Markdown escaped; an underscore inside a word is not markup."""
    return re.sub(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
