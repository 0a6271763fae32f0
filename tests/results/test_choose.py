"""Which results stand together, and which of several."""

import pytest

from marble.errors import MarbleError
from marble.results import load
from marble.results.choose import across_upstreams, choose_results, filter_results, task_titles
from marble.results.figures import heatmap
from marble.results.ranking.leaderboard import leaderboard


def test_a_look_at_one_layer_replaces_no_scan(changed):
    results = []
    for number, (date, count, data) in enumerate((("1", 3, "x"), ("2", 3, "x"), ("3", 1, "x"), ("4", 1, "y"))):
        copy = changed(data_sha256=data)
        copy.layers, copy.identity, copy.provenance.date = copy.layers[:count], f"{number}{copy.identity}", date
        results.append(copy)
        ((shown,),) = choose_results(results).values()
        assert shown.provenance.date == {"3": "2"}.get(date, date)


def test_results_of_one_protocol_one_limit_and_the_newest_weights_stand_together(changed):
    def dated(date, changes=None, weights=None, **task):
        copy = changed(**task)
        copy.upstream.weights_sha256 = weights or copy.upstream.weights_sha256
        copy.provenance.date, copy.protocol.changes = date, changes or {}
        return copy

    results = [
        dated("2026-01-07", name="d"),
        dated("2026-01-01", name="a"),
        dated("2026-01-02", name="a"),
        dated("2026-01-03", name="b"),
        dated("2026-01-04", name="a", limit=3),
        dated("2026-01-05", name="a", changes={"probe.epochs": 3}),
        dated("2026-01-06", name="c", weights="older"),
    ]
    groups = {
        str(stem): [(result.task.name, result.provenance.date[-1]) for result in group]
        for stem, group in choose_results(results).items()
    }
    assert groups.pop("fbank-chroma/marble") == [("a", "2"), ("b", "3"), ("d", "7")]
    assert sorted(groups.values()) == [[("a", "4")], [("a", "5")], [("c", "6")]]
    assert all(stem.startswith("fbank-chroma/marble-") for stem in groups)


def test_results_are_filtered_by_names_in_which_a_star_stands_for_any_letters(changed):
    results = [changed("a", name="x"), changed("b", name="x.y"), changed("random-init:b", name="folder:x,y[1]")]
    results[1].protocol.name = "muq"

    def names(**options):
        return [result.upstream.name for result in filter_results(results, **options)]

    assert names() == ["a", "b", "random-init:b"]
    assert names(upstream="a,b") == ["a", "b"]
    assert names(upstream="*b") == ["b", "random-init:b"]
    assert names(task="x") == ["a"]
    assert names(task="folder:x,y[1]") == ["random-init:b"]
    assert names(protocol="marble", upstream="*b") == ["random-init:b"]
    assert names(protocol="marble (probe.epochs=3)", task="x") == ["a"]
    with pytest.raises(MarbleError, match="no result of the task 'z': there are x"):
        names(upstream="a", task="z")


def test_figures_of_several_upstreams_join_those_under_one_protocol_and_on_demand_limits(changed):
    results = [changed("a"), changed("b"), changed("a", limit=5), changed("b", protocol="other")]
    for result in results:
        result.protocol.changes = {}
    results[3].protocol.name = "other"
    groups = choose_results(results)

    def shape(**options):
        return {
            name.partition("-")[0]: sorted((result.upstream.name, result.task.limit or 0) for result in group)
            for name, group in sorted(across_upstreams(groups, **options).items(), reverse=True)
        }

    assert shape(limits=True) == {"marble": [("a", 0), ("a", 5), ("b", 0)], "other": [("b", 0)]}
    assert shape()["marble"] == [("a", 0), ("b", 0)]


@pytest.mark.parametrize(
    ("sources", "data", "titles"),
    [
        (["/a/data", "/a/data"], "xy", ["t", "t"]),
        (["/a/data", "/b/data"], "xy", ["t (a/data)", "t (b/data)"]),
        (["/a/data", "/b/data"], "xx", ["t", "t"]),
        (["/x/one/data/", "/x/one/data2", "/x/one/data"], "xyz", ["t (data)", "t (data2)", "t (data)"]),
        (["/p/q/data", "/p/r/data", "/s/r/data"], "xyz", ["t (p/q/data)", "t (p/r/data)", "t (s/r/data)"]),
        (["/a/data", "/b/data", "/a/data"], "xyz", ["t (a/data)", "t (b/data)", "t (a/data)"]),
        (["DataFrame 12", "DataFrame 34"], "xy", ["t (DataFrame 12)", "t (DataFrame 34)"]),
        ([None, None], "xy", ["t", "t"]),
        ([None, "/a/data"], "xy", ["t", "t"]),
        ([None, "/a/data", "/b/data"], "xxy", ["t (a/data)", "t (a/data)", "t (b/data)"]),
        ([None, "/a/data", "/b/data"], "zxy", ["t (b/data)", "t (a/data)", "t (b/data)"]),
    ],
)
def test_two_data_sets_of_one_name_are_called_by_as_much_of_their_place_as_tells_them_apart(changed, sources, data, titles):
    results = [changed(name="t", source=source, data_sha256=letter) for source, letter in zip(sources, data, strict=True)]
    for number, result in enumerate(results):
        result.provenance.date = f"2026-01-0{number + 1}"
    assert task_titles(results) == titles
    assert task_titles([*results[::-1], changed(name="u", source="/a/data")]) == [*titles[::-1], "u"]


def test_no_figure_and_no_table_drops_one_of_two_data_sets(changed, tmp_path):
    results = [
        changed(score=score, name="folder:data", source=f"/{place}/data", data_sha256=place)
        for place, score in (("a", 0.2), ("b", 0.9))
    ]
    for number, result in enumerate(results):
        result.identity = f"{number}{result.identity[1:]}"
        result.save(tmp_path)
    ((first, second),) = choose_results(results).values()
    (axes, _) = heatmap([first, second]).axes
    names = ["folder:data (a/data)", "folder:data (b/data)"]
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == names
    board = leaderboard(results)
    assert list(zip(board["task"], board["test_mean"], strict=True)) == [(names[0], 0.2), (names[1], 0.9)]
    assert set(load(tmp_path)["task"]) == set(names)
