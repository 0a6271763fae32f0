"""Result files, tables and figures."""

import io
import json

import pytest

import marble
from marble.cli.listing import by_upstream
from marble.errors import MarbleError
from marble.results import schema as results
from marble.results.figures import heatmap, relative_scores, save_figure
from marble.results.leaderboard import leaderboard, result_table
from marble.results.schema import Summary


@pytest.fixture
def result(tones, tmp_path):
    return marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "results", seeds=2, settings=["probe.epochs=3"])


def changed(result, upstream, score, **task):
    """A copy of a result for another upstream or task with another selected score."""
    copy = result.model_copy(deep=True)
    copy.upstream["name"] = upstream
    copy.task |= task
    copy.selected.test["accuracy"] = Summary(mean=score, std=0.0, ci95=(score, score))
    return copy


def test_the_document_has_the_agreed_shape(result, tmp_path):
    document = json.loads((tmp_path / "results" / result.path).read_text())
    assert document["schema"] == 1
    assert document["task"]["main_metric"] == "accuracy"
    run = document["layers"][0]["runs"][0]
    assert set(run) >= {"seed", "learning_rate", "epoch", "validation", "test"}
    assert set(document["layers"][0]["test"]["accuracy"]) == {"mean", "std", "ci95"}
    assert set(document["provenance"]) >= {"versions", "commit", "platform", "device", "date", "space"}
    assert set(document["cost"]) >= {"encoder_seconds", "probe_seconds", "audio_hours", "peak_memory_bytes", "cache_bytes"}
    assert document["upstream"]["licence"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:100],
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"seed"', '"sed"'),
    ],
)
def test_a_file_that_is_no_result_is_refused(result, tmp_path, spoil):
    path = tmp_path / "results" / result.path
    path.write_text(spoil(path.read_text()))
    with pytest.raises(MarbleError, match="run it again or remove it"):
        results.read(path)


def test_results_load_as_one_table(result, tmp_path):
    table = results.load(tmp_path / "results")
    assert len(table) == 3 * 2 * 2
    chosen = table[(table.layer == result.selected.layer) & (table.metric == "accuracy")]
    assert chosen.selected.all()
    assert chosen.test.mean() == pytest.approx(result.selected.test["accuracy"].mean)


def test_the_leaderboard_ranks_real_data_and_keeps_synthetic_apart(result):
    rows = [
        changed(result, "a", 0.5),
        changed(result, "b", 0.7),
        changed(result, "c", 0.9, synthetic=True),
        changed(result, "d", 1.0, limit=3),
    ]
    board = leaderboard(rows)
    assert board.upstream.tolist() == ["b", "a"]
    assert board.test_mean.tolist() == [0.7, 0.5]
    assert leaderboard(rows, synthetic=True).upstream.tolist() == ["c"]
    assert leaderboard([]).empty
    errors = [changed(result, name, score, main_metric="mse") for name, score in (("a", 0.5), ("b", 0.7))]
    for row in errors:
        row.selected.test["mse"] = row.selected.validation["mse"] = row.selected.test["accuracy"]
    assert leaderboard(errors).upstream.tolist() == ["a", "b"]


def test_the_heatmap_scales_each_task_and_frames_the_choice_of_validation(result, tmp_path):
    for layer, mean in zip(result.layers, (0.2, 0.9, 0.55), strict=True):
        layer.test["accuracy"].mean = mean
    result.selected.layer = 2
    assert relative_scores(result) == pytest.approx([0.0, 1.0, 0.5])
    (axes, _) = heatmap([result, changed(result, "fbank-chroma", 0.5, name="other")]).axes
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    assert [(round(frame.get_x() + 0.47), round(frame.get_y() + 0.46)) for frame in frames] == [(0, 2), (1, 2)]
    assert [text.get_text() for text in axes.texts] == ["0.200", "0.900", "0.550"] * 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["folder:tones\naccuracy", "other\naccuracy"]
    paths = save_figure(heatmap([result]), tmp_path / "figure")
    assert [path.suffix for path in paths] == [".png", ".svg"]
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in save_figure(heatmap([result]), tmp_path / "figure")] == first


def test_the_name_of_a_task_is_no_formula(result, tmp_path):
    odd = changed(result, "fbank-chroma", 0.5, name="folder:a$_$b")
    assert all(path.exists() for path in save_figure(heatmap([odd]), tmp_path / "figure"))


def test_a_layer_without_a_value_is_shown_as_such(result):
    result.layers[1].test["accuracy"] = Summary(mean=None, std=None, ci95=(None, None))
    (axes, _) = heatmap([result]).axes
    assert [text.get_text() for text in axes.texts][1] == "–"
    assert result_table(result).row_count == 3


def test_a_look_at_one_layer_replaces_no_scan_in_the_heatmap(result, tmp_path):
    for number, (date, count, data) in enumerate((("1", 3, "x"), ("2", 3, "x"), ("3", 1, "x"), ("4", 1, "y"))):
        copy = changed(result, "fbank-chroma", 0.5, data=data)
        copy.layers, copy.identity, copy.provenance["date"] = copy.layers[:count], f"{number}{copy.identity}", date
        copy.save(tmp_path / "several")
        ((_, (shown,)),) = by_upstream(tmp_path / "several")
        assert shown.provenance["date"] == {"3": "2"}.get(date, date)


def test_a_heatmap_holds_results_of_one_protocol_and_one_limit(result, tmp_path):
    def saved(folder, date, weights=None, **task):
        copy = changed(result, "fbank-chroma", 0.5, **task)
        copy.upstream["weights_sha256"] = weights or copy.upstream["weights_sha256"]
        copy.identity = date.replace("-", "") + copy.identity
        copy.provenance["date"] = date
        copy.protocol |= {"changes": {"probe.epochs": 3} if folder else {}}
        copy.save(tmp_path / "several")

    saved(False, "2026-01-01", name="a")
    saved(False, "2026-01-02", name="a")
    saved(False, "2026-01-03", name="b")
    saved(False, "2026-01-04", name="a", limit=3)
    saved(True, "2026-01-05", name="a")
    saved(False, "2026-01-06", name="c", weights="older")
    saved(False, "2026-01-07", name="d")
    figures = {
        stem.name: [(one.task["name"], one.provenance["date"][-1]) for one in group]
        for stem, group in by_upstream(tmp_path / "several")
    }
    assert figures.pop("heatmap-marble") == [("a", "2"), ("b", "3"), ("d", "7")]
    assert sorted(figures.values()) == [[("a", "4")], [("a", "5")], [("c", "6")]]
    limited = changed(result, "fbank-chroma", 0.5, limit=3)
    limited.protocol["label"] = f"marble ({', '.join(f'probe.hidden={number}' for number in range(9))})"
    figure = heatmap([limited])
    figure.savefig(io.BytesIO())
    title, box = figure.get_suptitle(), figure.texts[0].get_window_extent()
    assert "at most 3 tracks of each split" in title.replace("\n", " ")
    assert title.count("probe.hidden") == 9
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
