"""The leaderboard: its rows, their order, and its text in four forms."""

import csv
import io
import math

import pytest

from marble.results.published import published_numbers
from marble.results.ranking.board_text import FORMS, format_board
from marble.results.ranking.leaderboard import leaderboard, paper_table
from marble.results.schema import Summary


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


@pytest.fixture
def measured(changed):
    """A function that makes a result with scores of some metrics; the first one is the main one."""

    def make(upstream, task, half=0.0, **scores):
        copy = changed(upstream, name=task, main_metric=next(iter(scores)))
        directions = {metric: "lower is better" if "mse" in metric else "higher is better" for metric in scores}
        copy.task = copy.task.model_copy(update={"metrics": directions})
        summaries = {
            metric: Summary(mean=score, std=0.01, ci95=None if score is None else (score - half, score + half))
            for metric, score in scores.items()
        }
        copy.selected.test, copy.selected.validation = summaries, summaries
        for run in (run for layer in copy.layers for run in layer.runs):
            run.test = scores
        return copy

    return make


def test_ranks_and_ties_stand_within_task_protocol_and_metric(measured):
    results = [measured(name, "a", 0.02, accuracy=score) for name, score in (("x", 0.8), ("y", 0.79), ("z", 0.6))]
    board = leaderboard([*results, measured("x", "b", mse=2.0), measured("y", "b", mse=1.0), measured("z", "b", mse=None)])
    assert board.upstream.tolist() == ["x", "y", "z", "y", "x", "z"]
    assert board["rank"].tolist()[:5] == [1, 2, 3, 1, 2]
    assert board.tie.tolist()[:5] == [1, 1, 2, 1, 2]
    assert board[["rank_low", "rank_high"]].to_numpy().tolist()[:3] == [[1, 2], [1, 2], [3, 3]]
    assert board.loc[5, ["rank", "rank_low", "tie"]].isna().all()


def test_ranks_rest_on_the_stored_answers_where_the_folder_is_known(result, saved):
    """The same answers twice are the same in every resample; errors of the stated intervals turn them."""
    result.layers = [layer.model_copy(update={"runs": layer.runs[:1]}) for layer in result.layers]
    result.selected.test["accuracy"].std = None
    other = result.model_copy(deep=True)
    other.upstream.name, other.predictions_sha256 = "other", None
    result.selected.test["accuracy"].ci95 = other.selected.test["accuracy"].ci95 = (0.7, 1.0)
    answers = result.predictions(saved)
    result.predictions_sha256 = None
    for each in (result, other):
        (saved / each.path).parent.mkdir(parents=True, exist_ok=True)
        answers[answers.seed == 0].to_parquet((saved / each.path).with_suffix(".parquet"))
    assert leaderboard([result, other], root=saved).rank_high.tolist() == [1, 1]
    assert leaderboard([result, other]).rank_high.tolist() == [2, 2]


def test_a_paper_table_has_a_row_for_each_upstream_and_the_average_of_those_with_all_tasks(measured):
    results = [measured("x", "a", accuracy=0.6), measured("x", "b", r2=0.3), measured("x", "c", mse=9.0)]
    results += [measured("y", "a", accuracy=0.8), measured("y", "b", r2=0.2), measured("z", "a", accuracy=0.9)]
    table = paper_table(results)
    assert table["upstream", ""].tolist() == ["y", "x", "z"]
    assert table["average", ""].tolist()[:2] == pytest.approx([0.5, 0.45])
    assert math.isnan(table["average", ""][2])
    assert table["a accuracy", "mean"].tolist() == [0.8, 0.6, 0.9]
    assert table["a accuracy", "place"].tolist() == [2, 3, 1]
    assert table["c mse", "mean"].tolist()[1] == 9.0
    assert table["rank", ""].tolist()[:2] == [1, 2]
    assert table["rank", "high"].tolist()[:2] == [2, 2]  # of two tasks, each is best on one
    assert paper_table([]).empty


def test_no_average_joins_protocols(measured):
    results = [measured("x", "a", accuracy=0.6), measured("x", "b", r2=0.3)]
    results[1].protocol.label = "muq"
    results[1].protocol.name = "muq"
    table = paper_table(results)
    assert table["protocol", ""].tolist() == ["marble (probe.epochs=3)", "muq"]
    assert table["average", ""].tolist() == [0.6, 0.3]


def test_the_average_over_tasks_is_that_of_the_tables_of_muq(measured):
    """The paper's own averages, to their digit, from its numbers."""
    numbers = [number for number in published_numbers() if number["paper"] == "MuQ" and number["table"] in (1, 2)]
    tasks = {}
    for number in numbers:
        if number["task"] != "average":
            tasks.setdefault(number["task"], {})[number["metric"]] = 0.5
    tasks["emomusic"] = {"r2": 0.9} | tasks["emomusic"]  # marble's main metric is none of the paper's
    table = paper_table([measured("x", task, **metrics) for task, metrics in tasks.items()], with_published=True)
    theirs = table[table["source", ""] == "published: MuQ"].set_index(("upstream", ""))["average", ""]
    printed = {number["system"]: number["value"] for number in numbers if number["task"] == "average"}
    assert len(printed) == 5
    assert {name: theirs[name] for name in printed} == pytest.approx(printed, abs=0.0006)
    assert table["rank", ""].notna().sum() == 1


def test_best_second_and_ties_are_marked_in_each_form(measured):
    scores = (("x", 0.8), ("y", 0.79), ("z_1", 0.6))
    table = paper_table([measured(name, "a", 0.02, accuracy=score) for name, score in scores])
    markdown, latex, html = (format_board(table, form).splitlines() for form in ("md", "latex", "html"))
    assert markdown[0] == "| upstream | protocol | a accuracy | average | rank | source |"
    assert [line.split(" | ")[2] for line in markdown[2:5]] == ["**0.800** ± 0.010", "<u>0.790</u>† ± 0.010", "0.600 ± 0.010"]
    assert markdown[2].endswith("| 0.800 | 1 (1–2) | measured |")
    assert "each weighing the same" in markdown[-1]
    assert latex[0].startswith("% Average: the mean over all columns")
    assert latex[1:3] == [r"\begin{tabular}{llllll}", r"\toprule"]
    assert r" & \textbf{0.800} $\pm$ 0.010 & " in latex[5]
    assert r" & \underline{0.790}$^\dagger$ $\pm$ 0.010 & " in latex[6]
    assert latex[7].startswith(r"z\_1 & ")
    assert latex[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert "      <td><strong>0.800</strong> ± 0.010</td>" in html
    rows = list(csv.DictReader(io.StringIO(format_board(table, "csv"))))
    assert [row["a accuracy mean"] for row in rows] == ["0.8", "0.79", "0.6"]
    assert [row["rank high"] for row in rows] == ["2", "2", "3"]


@pytest.mark.parametrize("form", FORMS)
def test_names_of_a_paper_table_stay_names(measured, form):
    text = format_board(paper_table([measured("=1+<b>|_x_", "=a|<i>", accuracy=0.5)]), form)
    assert {
        "csv": "'=1+<b>|_x_,",
        "md": r"| =1+\<b\>\|\_x\_ |",
        "latex": r"=1+\textless{}b",
        "html": "<td>=1+&lt;b&gt;|_x_</td>",
    }[form] in text
    assert {"csv": "'=a|<i> accuracy mean", "md": r"=a\|\<i\>", "latex": r"=a|\textless{}i", "html": "=a|&lt;i&gt;"}[
        form
    ] in text
