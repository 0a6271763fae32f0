"""The figures: what they show, in numbers and words; the look is for eyes."""

import io
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from marble.errors import MarbleError
from marble.results import load
from marble.results.figures import curve, heatmap, radar, save_figure, shots, weights
from marble.results.figures.layer_heatmap import in_noise
from marble.results.figures.scans import scans_of
from marble.results.schema import LayerWidth, Summary


@pytest.fixture
def scored(result):
    """A function that copies the result for another upstream or task, with these test scores of its layers."""

    def copy(upstream="one", task="a", scores=(0.2, 0.9, 0.55), half=0.1, selected=1, **fields):
        other = result.model_copy(deep=True)
        other.upstream.name = upstream
        other.task = other.task.model_copy(update={"name": task, **fields})
        other.identity = f"{upstream}/{task}/{fields}"
        metric = other.task.main_metric
        for layer, score in zip(other.layers, scores, strict=True):
            layer.test[metric] = Summary(mean=score, std=0.0, ci95=(score - half, score + half))
            for run in layer.runs:
                run.test[metric] = score
        other.selected.layer = selected
        other.selected.test = other.layers[selected].test
        return other

    return copy


def with_weighted_sum(result, score=0.7):
    """The result with a weighted sum of its layers, too."""
    layer = result.layers[0].model_copy(deep=True, update={"layer": "weighted", "name": "weighted sum"})
    layer.weights = [0.2, 0.5, 0.3]
    layer.test[result.task.main_metric].mean = score
    result.layers.append(layer)
    return result


def lines(axes):
    """The lines of a panel by label: x, y."""
    return {line.get_label(): [list(map(float, values)) for values in line.get_data()] for line in axes.lines}


def titles(figure):
    return [axes.get_title().split("\n") for axes in figure.axes]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_heatmap_scales_each_task_and_frames_the_choice_of_validation(result, changed, tmp_path):
    for layer, mean in zip(result.layers, (0.2, 0.9, 0.55), strict=True):
        layer.test["accuracy"].mean = mean
    result.selected.layer = 2
    (axes, _) = heatmap([result, changed(name="other")]).axes
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    assert [(round(frame.get_x() + 0.47), round(frame.get_y() + 0.46)) for frame in frames] == [(0, 2), (1, 2)]
    assert [text.get_text() for text in axes.texts] == ["0.200", "0.900", "0.550"] * 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["folder:tones\naccuracy", "other\naccuracy"]
    paths = save_figure(heatmap([result]), tmp_path / "figure")
    assert [path.suffix for path in paths] == [".png", ".svg"]
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in save_figure(heatmap([result]), tmp_path / "figure")] == first


@pytest.mark.parametrize("name", ["folder:a$_$b", "folder:a\x01\x1b[31m\ud800\uffff<&", "folder:a\nb"])
def test_any_name_of_a_task_upstream_or_layer_gives_a_valid_figure(changed, tmp_path, name):
    odd, other = changed(upstream=name, name=name, limit=5), changed(upstream=name, name=name, tracks={"train": 9, "test": 9})
    odd.layers[0].name = name
    both = [with_weighted_sum(odd), other]
    three = [changed(upstream=name, name=f"{name}{number}") for number in range(3)]
    for figure in (heatmap([odd]), heatmap(three, style="paper"), curve(both), radar(three), weights(both), shots(both)):
        _, svg = save_figure(figure, tmp_path / "figure")
        ElementTree.fromstring(svg.read_text(encoding="utf-8"))


def test_the_cautions_about_a_frame_stand_above_with_their_tasks(result, changed):
    other = changed(name="other")
    result.doubts = ["The layer is within noise of another: layer 3.", "The epoch is at its limit: 3."]
    other.doubts = ["The layer is within noise of another: layer 9."]
    lines = heatmap([result, other]).get_suptitle().split("\n")
    after = lines.index("red frame: layer chosen on validation")
    assert lines[after + 1 :] == [
        "The layer is within noise of another: folder:tones, other",
        "The epoch is at its limit: folder:tones",
    ]


def test_a_layer_without_a_value_is_shown_as_such(result):
    result.layers[1].test["accuracy"] = Summary(mean=None, std=None, ci95=(None, None))
    (axes, _) = heatmap([result]).axes
    assert [text.get_text() for text in axes.texts][1] == "–"


def test_a_long_title_stays_inside_the_figure(changed):
    limited = changed(limit=3, protocol=f"marble ({', '.join(f'probe.hidden={number}' for number in range(9))})")
    figure = heatmap([limited])
    figure.savefig(io.BytesIO())
    title, box = figure.get_suptitle(), figure.texts[0].get_window_extent()
    assert "at most 3 tracks of each split" in title.replace("\n", " ")
    assert title.count("probe.hidden") == 9
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1


def test_upstreams_stand_side_by_side_with_the_layers_of_the_deepest(scored):
    deep, flat = scored("deep"), scored("flat", scores=(0.1, 0.2, 0.3))
    flat.layers = flat.layers[:2]
    figure = heatmap([deep, scored("deep", "b"), flat])
    assert titles(figure)[:2] == [["deep"], ["flat"]]
    first, second, _ = figure.axes
    assert [text.get_text() for text in second.texts] == ["0.100", "0.200"]
    assert len(first.texts) == 6
    assert [label.get_text() for label in first.get_yticklabels()] == ["0", "1", "2"]
    assert figure.get_suptitle().startswith("mean test score of 2 seeds, protocol marble")


def test_what_is_within_noise_of_the_best_layer_is_grey_on_demand(scored):
    """Two intervals of ±.1: a difference counts from .1 × √2 on."""
    scan, grey = scans_of([scored(scores=(0.55, 0.7, 0.57))])[0], (0.87, 0.87, 0.87, 1.0)
    assert [in_noise(scan, score) for score in scan.scores] == [False, False, True]
    for noise in (False, True):
        axes = heatmap([scored(scores=(0.55, 0.7, 0.57))], noise=noise).axes[0]
        cells = [patch.get_facecolor() for patch in axes.patches if patch.get_fill()]
        assert [cell == grey for cell in cells] == [False, False, noise]
    assert "grey: within 1.96 standard errors" in heatmap([scored()], noise=True).get_suptitle()


def test_noise_is_over_seeds_too_and_goes_either_way_for_errors(scored):
    result = scored(scores=(1.0, 1.3, 2.0), half=0.0, metrics={"accuracy": "lower is better"})
    result.layers[0].test["accuracy"].std = 0.3
    (scan,) = scans_of([result])
    assert scan.best == scan.scores[0]
    assert [in_noise(scan, score) for score in scan.scores] == [False, True, False]


def test_on_paper_a_heatmap_is_as_wide_as_a_column_or_two(scored):
    tasks = [scored(task=f"task {number}", scores=(0.2, -0.456, 10.25)) for number in range(12)]
    assert heatmap(tasks[:9], style="paper").get_figwidth() == 3.35
    wide = heatmap([*tasks, *(scored("two", task=f"task {number}") for number in range(12))], style="paper")
    assert wide.get_figwidth() == 6.9
    assert [text.get_text() for text in wide.axes[0].texts[:3]] == [".20", "-.46", "10.25"]
    assert min(text.get_fontsize() for axes in wide.axes for text in axes.texts) >= 6


def test_a_curve_holds_scores_intervals_choice_and_weighted_sum(scored):
    figure = curve([with_weighted_sum(scored("one")), scored("two", scores=(0.3, 0.4, 0.5), selected=2), scored("one", "b")])
    assert titles(figure) == [["a", "accuracy"], ["b", "accuracy"]]
    assert legend(figure) == ["one", "two"]
    drawn = lines(figure.axes[0])
    assert drawn["one"] == [[0, 1, 2], [0.2, 0.9, 0.55]]
    assert drawn["two"] == [[0, 1, 2], [0.3, 0.4, 0.5]]
    assert drawn["weighted"][1] == [0.7, 0.7]
    assert [list(map(float, line.get_data()[1])) for line in figure.axes[0].lines if line.get_label() == "selected"] == [
        [0.9],
        [0.5],
    ]
    (band, _) = figure.axes[0].collections
    assert band.get_paths()[0].get_extents().get_points()[:, 1] == pytest.approx([0.1, 1.0])


def test_depth_is_relative_to_all_layers_of_the_upstream(scored):
    result = scored()
    result.upstream.layers += [LayerWidth(name="more", width=1)] * 2
    axes = curve([result], relative=True).axes[0]
    assert lines(axes)["one"][0] == [0, 0.25, 0.5]
    assert axes.get_xlabel() == "relative depth"


def test_a_radar_holds_shares_of_the_best_selected_score(scored):
    tasks = {"a": 0.9, "b": 0.6, "c": 0.75}
    results = [scored("one", task, scores=(0, score, 0)) for task, score in tasks.items()]
    error = {"metrics": {"accuracy": "lower is better"}}
    results += [scored("two", "a", scores=(0, 0.81, 0)), scored("two", "b", scores=(0, 0.8, 0))]
    results += [scored("one", "d", scores=(9, 2, 9), **error), scored("two", "d", scores=(9, 1.6, 9), **error)]
    axes = radar(results).axes[0]
    drawn = lines(axes)
    assert drawn["one"][1] == pytest.approx([1, 0.75, 1, 0.8, 1])
    assert drawn["two"][1] == pytest.approx([0.9, 1, math.nan, 1, 0.9], nan_ok=True)
    assert axes.get_ylim() == (0.6, 1)
    labels = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert labels[0] == ["a", "accuracy", "0.900"]
    assert labels[3] == ["d", "accuracy", "(lower is better)", "1.600"]


def test_weights_are_those_of_the_weighted_sum(scored):
    figure = weights([with_weighted_sum(scored("one")), scored("two"), with_weighted_sum(scored("three"))])
    assert legend(figure) == ["one", "three"]
    assert lines(figure.axes[0])["three"] == [[0, 1, 2], [0.2, 0.5, 0.3]]


def test_shots_are_the_training_tracks_of_each_result(scored):
    def limited(upstream, limit, score):
        tracks = {"train": limit or 60, "valid": 9, "test": 9}
        return scored(upstream, scores=(0, score, 0), limit=limit, tracks=tracks)

    others = [limited("two", 5, 0.4), limited("two", None, 0.8)]
    figure = shots([limited("one", None, 0.9), limited("one", 5, 0.3), limited("one", 20, 0.7), *others, scored(task="b")])
    (axes,) = figure.axes
    (first, *_), (second, *_) = (container.lines for container in axes.containers)
    assert first.get_xdata() == pytest.approx([5, 20, 60], rel=0.02)
    assert list(first.get_ydata()) == [0.3, 0.7, 0.9]
    assert list(second.get_ydata()) == [0.4, 0.8]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "20", "60"]
    assert "at most" not in figure.get_suptitle()


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [(heatmap, "no results to draw"), (radar, "needs 3 tasks"), (weights, "--layers weighted"), (shots, "--limit N")],
)
def test_what_cannot_be_drawn_is_said(scored, draw, sentence):
    with pytest.raises(MarbleError, match=sentence):
        draw([] if draw is heatmap else [scored()])
    with pytest.raises(MarbleError, match="no style 'poster': write --style"):
        draw([scored()], style="poster")


def test_a_table_gives_the_scans_of_its_results(result, saved):
    table = load(saved)
    (scan,) = scans_of(table)
    (other,) = scans_of([result])
    for of_table, of_result in zip(scan.scores, other.scores, strict=True):
        assert (of_table.mean, of_table.std) == pytest.approx((of_result.mean, of_result.std), abs=1e-12)
        assert replace(of_table, mean=of_result.mean, std=of_result.std) == of_result
    assert vars(scan) | {"scores": None} == vars(other) | {"scores": None}
    one = scans_of(table[(table.seed == 0) & (table.metric == "balanced_accuracy")])[0]
    assert (one.metric, one.seeds) == ("balanced_accuracy", 1)
    assert one.scores[0].mean == result.layers[0].runs[0].test["balanced_accuracy"]
    assert [text.get_text() for text in heatmap(table).axes[0].texts] == [
        text.get_text() for text in heatmap([result]).axes[0].texts
    ]


@pytest.mark.parametrize("draw", [heatmap, curve])
def test_every_format_is_written_and_no_other(scored, tmp_path, draw):
    figure = draw([scored(), scored("two")], style="paper")
    assert figure.get_figwidth() == 3.35
    paths = save_figure(figure, tmp_path / "figure", ("png", "svg", "pdf"))
    assert [path.read_bytes()[:4] for path in paths] == [b"\x89PNG", b"<?xm", b"%PDF"]
    with pytest.raises(MarbleError, match="no figure in 'gif'"):
        save_figure(figure, tmp_path / "figure", ("gif",))
