"""The leaderboard: its rows, their order, and its text in four forms."""

import csv
import io

import pytest

from marble.results.leaderboard import FORMS, format_board, leaderboard


def test_it_ranks_real_data_and_keeps_synthetic_apart(changed):
    rows = [changed("a", 0.5), changed("b", 0.7), changed("c", 0.9, synthetic=True), changed("d", 1.0, limit=3)]
    board = leaderboard(rows)
    assert board.upstream.tolist() == ["b", "a"]
    assert board.test_mean.tolist() == [0.7, 0.5]
    assert leaderboard(rows, synthetic=True).upstream.tolist() == ["c"]
    assert leaderboard([]).empty


def test_the_direction_is_that_of_the_document(changed):
    rows = [changed(name, score, metrics={"accuracy": "lower is better"}) for name, score in (("a", 0.5), ("b", 0.7))]
    rows.append(changed("c", None, metrics={"accuracy": "lower is better"}))
    assert leaderboard(rows).upstream.tolist() == ["a", "b", "c"]


def test_of_one_upstream_on_one_task_the_newest_result_is_ranked(changed):
    old, new = changed(score=0.9), changed(score=0.5)
    old.provenance.date, new.provenance.date = "2026-01-01", "2026-01-02"
    assert leaderboard([new, old]).test_mean.tolist() == [0.5]


def test_the_note_of_a_measured_row_is_the_short_form_of_its_cautions(changed):
    row = changed("a")
    row.doubts = ["The layer is within noise of another: layer 3: so.", "The epoch is at its limit: 3."]
    (note,) = leaderboard([row]).note
    assert note == "The layer is within noise of another; The epoch is at its limit"


def test_csv_keeps_all_digits_and_numbers_stay_numbers(changed):
    board = leaderboard([changed("a", -1 / 3), changed("b", None)])
    assert format_board(board, "csv") == board.to_csv(index=False)
    assert "-0.3333333333333333" in format_board(board, "csv")


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x","<b>")', "+1", "-1", "@x", " =1", "\t=1", "\r-1"])
def test_no_name_becomes_a_formula(changed, name):
    (row,) = csv.DictReader(io.StringIO(format_board(leaderboard([changed(name)]), "csv")))
    assert row["upstream"].lstrip(" ")[0] in "'\\"
    assert row["upstream"].isprintable()


def test_names_are_escaped_for_markdown_latex_and_html(changed):
    board = leaderboard([changed("a|<b>_c_ d_e *x* $1 & 50% #{~^\\}\x1b\n", 1 / 3, name="[x]")])
    markdown, latex, html = (format_board(board, form).splitlines() for form in ("md", "latex", "html"))
    assert markdown[0].startswith("| task | protocol | metric |")
    assert markdown[1].count("---") == len(board.columns)
    assert r"| a\|\<b\>\_c\_ d_e \*x\* $1 \& 50% #{\~^\\}\\x1b\\n |" in markdown[2]
    assert "| 0.3333 |" in markdown[2]
    assert len(markdown) == 3
    assert latex[0] == rf"\begin{{tabular}}{{{'l' * len(board.columns)}}}"
    escaped = (
        r"a|\textless{}b\textgreater{}\_c\_ d\_e {*}x{*} \$1 \& 50\% \#\{\textasciitilde{}\textasciicircum{}"
        r"\textbackslash{}\}\textbackslash{}x1b\textbackslash{}n"
    )
    assert latex[4].startswith("{[}x] & ")
    assert f" & {escaped} & " in latex[4]
    assert latex[4].endswith(r" \\")
    assert "      <td>a|&lt;b&gt;_c_ d_e *x* $1 &amp; 50% #{~^\\}\\x1b\\n</td>" in html
    assert html[-1] == "</table>"


@pytest.mark.parametrize("form", FORMS)
def test_long_names_stay_whole_and_an_empty_board_has_its_headings(changed, form):
    name = "x" * 200
    assert name in format_board(leaderboard([changed(name)]), form)
    assert "protocol" in format_board(leaderboard([]), form)
    assert format_board(leaderboard([], with_published=True), form).count("Table") > 100
