"""The heatmap."""

import io
from xml.etree import ElementTree

import pytest

from marble.results.figures import heatmap, save_figure
from marble.results.schema import Summary


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
    odd = changed(upstream=name, name=name)
    odd.layers[0].name = name
    _, svg = save_figure(heatmap([odd]), tmp_path / "figure")
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
