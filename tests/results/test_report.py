"""The report: its numbers, its text from data, its size, and what it leaves out."""

import math
import re
import shutil
import warnings
from html.parser import HTMLParser
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from sklearn.metrics import confusion_matrix

from marble.errors import MarbleError
from marble.results.report import report
from marble.results.report.answers import confusion, hardest, local_audio
from marble.results.report.curves import draw_curves, nice_ticks
from marble.results.schema import LayerResult, Result, Summary
from marble.system.files import digest, file_hash

HOSTILE = [
    "</script><script>alert(1)</script>", "\" onmouseover=\"alert(1)\" '", "javascript:alert(1)",
    "<img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}", "&lt;b&gt; &amp;",
    "a\x00\x1b[31m\u202eb\nc", "]]>--><svg/onload=alert(1)>", "../../x", "ünï 音楽",
]  # fmt: skip


class Page(HTMLParser):
    """Tags with attributes and the rows of tables, by caption."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self.parts, self.rows = "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th", "caption"):
            self.parts = []

    def handle_endtag(self, tag):
        text = "".join(self.parts).strip()
        if tag == "caption":
            self.caption = text
        elif tag in ("td", "th"):
            self.rows[-1].append(text)
        elif tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        self.text += data
        self.parts.append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture
def store(once, tmp_path):
    """A function that writes results with the answers of the one that was made, and returns their folder."""
    answers = (once[1] / once[0].path).with_suffix(".parquet")

    def write(*results: Result):
        for number, result in enumerate(results):
            result.identity = digest([number, result.upstream.name])
            path = result.save(tmp_path / "all")
            shutil.copy(answers, path.with_suffix(".parquet"))
        return tmp_path / "all"

    return write


def test_the_leaderboard_ranks_within_a_task_and_keeps_synthetic_and_limited_results_apart(changed, store):
    root = store(
        changed("worse", 0.4), changed("best", 0.9), changed("same", 0.4), changed("quick", 0.8, limit=3),
        changed("made-up", 0.7, synthetic=True, name="synth"), changed("other", 0.1, name="folder:zither"),
    )  # fmt: skip
    page = Page(report(root))
    board = [row[:4] for row in page.tables["Real data"][1:]]
    assert board == [
        ["folder:tones", "1", "best", "0.900 ± 0.000"], ["folder:tones", "2", "same", "0.400 ± 0.000"],
        ["folder:tones", "2", "worse", "0.400 ± 0.000"], ["folder:zither", "1", "other", "0.100 ± 0.000"],
    ]  # fmt: skip
    assert [row[:3] for row in page.tables["Synthetic tasks"][1:]] == [["synth", "1", "made-up"]]
    assert "Quick looks (--limit), which are ranked nowhere and shown below: 1." in page.text
    assert report(root) == report(root)


def test_lower_values_rank_first_where_they_are_better(changed, store):
    low, high = (changed(name, score, metrics={"accuracy": "lower is better"}) for name, score in (("a", 0.1), ("b", 0.2)))
    page = Page(report(store(high, low)))
    assert [row[1:3] for row in page.tables["Real data"][1:]] == [["1", "a"], ["2", "b"]]
    assert page.tables["Real data"][1][6] == "accuracy (lower is better)"


def test_cells_of_the_heatmap_state_score_interval_and_choice(result, store):
    result.selected.layer = 1
    for layer, mean in zip(result.layers, (0.2, 0.9, None), strict=True):
        layer.test["accuracy"] = Summary(mean=mean, std=0.01, ci95=(0.125, 0.95))
    page = Page(report(store(result)))
    (caption,) = [caption for caption in page.tables if caption.startswith("fbank-chroma, protocol")]
    assert [row[1] for row in page.tables[caption][1:]] == ["0.200", "0.900 chosen on validation", "–"]
    cells = [attributes for tag, attributes in page.tags if tag == "td" and "layer" in attributes.get("data-tip", "")]
    assert [cell["class"].strip() for cell in cells] == ["s0", "s10 chosen", ""]
    assert "accuracy 0.900 ± 0.010 on test, 95 % interval 0.125 … 0.950" in cells[1]["data-tip"]
    curve = [tip for tip in page.attributes("data-tip") if tip.startswith("fbank-chroma, layer")]
    assert len(curve) == 2
    assert curve[1].endswith("chosen on validation")


def test_every_result_has_its_protocol_provenance_cautions_and_cost(result, store):
    result.doubts, result.cost.encoder_seconds = ["The epoch is at its limit: 3."], 1234.5
    page = Page(report(store(result)))
    assert ["device", result.provenance.device] in page.tables["Provenance"]
    assert ["probe.epochs", "3"] in page.tables["Protocol"]
    assert "The epoch is at its limit: 3." in page.text
    (cost,) = [rows for caption, rows in page.tables.items() if caption.startswith("What each run took")]
    assert cost[1][2] == "1234.5"
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= set(ids)


def test_what_cannot_be_read_is_named_and_counted(changed, store):
    root = store(changed("whole"), changed("cut"), changed("no-answers"))
    (cut,), (answers,) = root.glob("cut/*/*.json"), root.glob("no-answers/*/*.parquet")
    cut.write_text(cut.read_text()[:100])
    answers.write_bytes(b"")
    with warnings.catch_warnings(record=True, action="always") as seen:
        page = Page(report(root))
    assert {str(cut), str(answers), "1 of 3"} == {str(warning.message).split(" result")[0].split(" is ")[0] for warning in seen}
    assert "Results that cannot be read: 1 of 3. Results without answers that can be read: 1." in page.text
    assert str(cut) in page.text
    assert str(answers) in page.text
    assert [row[2] for row in page.tables["Real data"][1:]] == ["no-answers", "whole"]
    with pytest.raises(MarbleError, match="no results in"):
        report(root / "missing")


def test_a_folder_without_results_is_a_page_that_says_so(tmp_path):
    assert "There is nothing to rank" in Page(report(tmp_path)).text


@pytest.mark.filterwarnings("ignore:.*is not a result|.*has schema|.*passed over")
@pytest.mark.parametrize("name", HOSTILE)
def test_text_from_results_stays_text(changed, store, name):
    odd = changed(name, name=f"folder:{name}", source=name, notes=[name], licence=name)
    odd.layers[0].name = odd.selected.name = odd.provenance.device = name
    odd.doubts, odd.task.labels = [name], [name, "low", "middle", "high"]
    root = store(odd, changed("other", name=f"folder:{name}"))
    for file in root.glob("*/*/*.parquet"):
        table = pandas.read_parquet(file).assign(track=name, audio=name, prediction=name)
        table.to_parquet(file)
        document = next(file.parent.glob("*.json"))
        result = Result.model_validate_json(document.read_bytes())
        result.predictions_sha256 = file_hash(file)
        result.save(root)
    (root / "x" / "y").mkdir(parents=True)
    (root / "x" / "y" / "<script>alert(1)<-abcdefabcdef.json").write_text("{}")
    text = report(root)
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not {tag for tag, _ in page.tags} & {"img", "iframe", "object", "embed", "base", "link", "audio"}
    assert not [attribute for _, attributes in page.tags for attribute in attributes if attribute.startswith("on")]
    assert all(link.startswith("#") for link in page.attributes("href"))
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    shown = name.encode("unicode_escape").decode() if "\x00" in name else name
    assert page.tables["Real data"][1][0] == f"folder:{shown}"
    assert "49" not in page.tables["Real data"][1][0]


def test_twenty_large_results_stay_below_two_megabytes_and_name_no_other_place(result, tmp_path):
    random = np.random.default_rng(0)
    labels = [f"a label of {number}" for number in range(30)]
    answers = tmp_path / "answers.parquet"
    columns = {name: random.choice(labels, 4_000) for name in ("target", "prediction")}
    table = pandas.DataFrame(columns | {"layer": "0", "seed": 0, "split": "test", "logits": [[0.0]] * 4_000})
    table["track"] = [f"a/folder/of/clips/{number}.wav" for number in range(4_000)]
    table.assign(target=table.target.map(lambda label: [label]), audio=(tmp_path / "a.wav").as_uri()).to_parquet(answers)
    (tmp_path / "a.wav").write_bytes(b"")
    for number in range(20):
        copy = result.model_copy(deep=True)
        copy.identity, copy.predictions_sha256 = digest(number), file_hash(answers)
        copy.upstream.name, copy.task.name = f"upstream-{number % 5}-with-a-long-name", f"folder:task-{number // 5}"
        copy.task.labels, copy.selected.layer, copy.layers = labels, 0, []
        for layer in range(25):
            mean = random.random()
            test = {name: Summary(mean=mean, std=0.01, ci95=(mean - 0.1, mean + 0.1)) for name in copy.task.metrics}
            runs = result.layers[0].runs[:1] * 5
            copy.layers.append(LayerResult(layer=layer, name=f"block {layer}", runs=runs, validation=test, test=test))
        path = copy.save(tmp_path / "all")
        shutil.copy(answers, path.with_suffix(".parquet"))
    text = report(tmp_path / "all")
    page = Page(text)
    assert len(page.tables["Real data"]) == 21
    assert sum(attributes.get("class") == "heat small moves counts" for _, attributes in page.tags) == 20
    assert len(text.encode()) < 2_000_000
    loaded = page.attributes("src") + page.attributes("href") + re.findall(r"url\(([^)]*)", text) + re.findall("@import", text)
    assert all(link.startswith(("#", "file:///")) for link in loaded)
    assert any(link.startswith("file:///") for link in loaded)


def test_differences_are_those_of_the_function_or_its_complaint(changed, store):
    def paired(first, second, root):
        if second.upstream.name == "odd":
            raise MarbleError("Their splits differ.")
        difference = first.selected.test["accuracy"].mean - second.selected.test["accuracy"].mean
        return SimpleNamespace(difference=math.nan if second.upstream.name == "none" else difference, low=-0.05, high=0.25)

    root = store(changed("best", 0.9), changed("worse", 0.8), changed("odd", 0.7), changed("none", 0.6))
    page = Page(report(root, paired))
    (rows,) = [rows for caption, rows in page.tables.items() if "of best less that of each other upstream" in caption]
    assert rows[1][:4] == ["worse", "+0.100", "-0.050 … +0.250", "yes"]
    assert rows[2:] == [["odd", "Their splits differ."], ["none", "The metric has no value for one of them."]]
    assert "No two results can be compared" in Page(report(root)).text


def answers_of(rows):
    return pandas.DataFrame(rows, columns=["layer", "seed", "track", "target", "prediction", "logits"]).assign(split="test")


def test_confusions_are_those_of_the_selected_layer(once):
    result, root = once
    table = result.predictions(root)
    rows = table[(table.layer == str(result.selected.layer)) & (table.split == "test")]
    expected = confusion_matrix(rows.target.str[0], rows.prediction, labels=result.task.labels)
    shown = confusion(result, table)
    assert shown.counts == expected.tolist()
    assert (shown.wrong, shown.total) == (int(expected.sum() - np.trace(expected)), len(rows))


def test_of_many_labels_the_most_frequent_confusions_are_listed(result):
    result.task.labels, result.selected.layer = [f"label {number}" for number in range(40)], 0
    pairs = [("label 3", "label 9")] * 3 + [("label 3", "label 3"), ("label 8", "label 1"), ("label 1", "label 1")]
    table = answers_of([("0", 0, str(n), [true], answer, []) for n, (true, answer) in enumerate(pairs)])
    shown = confusion(result, table)
    assert shown.counts == []
    assert shown.pairs == [("label 3", "label 9", 3, 4), ("label 8", "label 1", 1, 1)]


def test_hard_clips_are_averaged_over_answers_then_over_upstreams(changed):
    a, b = changed("a"), changed("b")
    a.identity, b.identity = "a", "b"
    first = answers_of([("0", seed, "x", ["low"], answer, []) for seed, answer in enumerate(["high", "low", "high", "mid"])])
    second = answers_of([("0", 0, "x", ["low"], "low", []), ("0", 0, "y", ["mid"], "mid", [])])
    (clip,) = hardest([a, b], {"a": first, "b": second})
    assert (clip.track, clip.target, clip.error) == ("x", "low", pytest.approx(0.375))
    assert clip.answer == ("high", pytest.approx(0.4))
    assert clip.audio is None
    assert hardest([a, b], {}) == []


def test_errors_of_tags_and_of_numbers(changed):
    tags = changed(kind="multilabel", labels=["a", "b", "c"])
    table = answers_of([("0", 0, "x", ["a", "c"], None, [3.0, 2.0, 1.0]), ("0", 0, "y", ["a"], None, [3.0, 2.0, 1.0])])
    (clip,) = hardest([tags], {tags.identity: table})
    assert (clip.track, clip.target, clip.error, clip.answer) == ("x", "a, c", pytest.approx(0.5), None)
    numbers = changed(kind="regression", labels=["v"])
    table = answers_of([("0", 0, "x", [1.0], None, [1.5]), ("0", 0, "y", [3.0], None, [1.0])])
    assert [(clip.track, clip.error) for clip in hardest([numbers], {numbers.identity: table})] == [("y", 2.0), ("x", 0.5)]
    odd = changed(kind="something-new")
    assert hardest([odd], {odd.identity: table}) == []


def test_only_files_that_exist_are_linked(tmp_path):
    file = tmp_path / "a '\"<b>#?%20 ü.wav"
    file.write_bytes(b"")
    assert local_audio(file.as_uri()) == file.as_uri()
    assert local_audio(f"{file.as_uri()}#t=1.5,3") == f"{file.as_uri()}#t=1.5,3"
    assert local_audio(f"{file.as_uri()}#<script>") == file.as_uri()
    refused = [
        "javascript:alert(1)", "http://example.org/a.wav", f"//host{file}", f"file://host{file}", str(file), "a.wav", None, "",
        "file:///no/such/file.wav", tmp_path.as_uri(), "file:///%00", "file://[", 3,
    ]  # fmt: skip
    assert [local_audio(uri) for uri in refused] == [None] * len(refused)


def test_hard_clips_link_to_their_files_and_are_played(once):
    result, root = once
    table = result.predictions(root)
    table["prediction"] = "low"
    clips = hardest([result], {result.identity: table})
    assert clips
    assert all(clip.played and local_audio(clip.audio) and clip.audio.startswith("file:///") for clip in clips)
    assert all(clip.track in clip.audio for clip in clips)
    old = hardest([result], {result.identity: table.drop(columns="audio")})
    assert [(clip.audio, clip.played) for clip in old] == [(None, False)] * len(clips)


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.965), (0.5, 0.5), (-0.2, 0.03), (0.0, 0.0), (0.90012, 0.90013), (3, 1200)])
def test_ticks_are_round_and_reach_around_the_scores(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1] + 1e-12
    assert 2 <= len(ticks) <= 8
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])


def test_curves_need_two_layers_and_leave_the_weighted_sum_to_the_tables(result):
    assert len(draw_curves({"a": result}, {"a": 4}).series[0].points) == 3
    result.layers[2].layer = "weighted"
    (series,) = draw_curves({"a": result}, {"a": 4}).series
    assert len(series.points) == 2
    assert series.style == 4
    result.layers = result.layers[:1]
    assert draw_curves({"a": result}, {"a": 0}) is None


def contrast(first: str, second: str) -> float:
    """The contrast of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        colour = "".join(2 * digit for digit in colour) if len(colour) == 3 else colour
        parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        return sum(
            weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_have_the_contrast_that_wcag_asks_for():
    style = (files("marble.results.report") / "style.css").read_text()
    schemes = re.findall(r":root \{([^}]*--page[^}]*)\}", style)
    assert len(schemes) == 3  # light, dark, paper
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): #(\w+);", scheme))
        page = colours["page"]
        for name in ("text", "soft", "link"):
            assert contrast(colours[name], page) >= 4.5, name
            assert contrast(colours[name], colours["panel"]) >= 4.5, name
        for name in ("frame", *(f"k{number}" for number in range(7))):
            assert contrast(colours[name], page) >= 3, name
    shades = dict(re.findall(r"\.s(\d+) \{ background: #(\w+)", style))
    for number, shade in shades.items():
        assert contrast(shade, "fff" if int(number) < 5 else "000") >= 4.5, number
    assert len(shades) == 11
