"""Which results stand together, and which of several."""

from marble.results.choose import choose_results


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
