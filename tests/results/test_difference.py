"""Why two numbers differ: which fields are listed, in which order, and what stands behind the figures."""

import pytest

import marble.results
from marble import registry
from marble.results.difference import _EFFECTS, NOT_STATED, Difference, _fields, differences
from marble.results.published import _rows, conditions, published_numbers
from marble.results.schema import BadClip


def number(paper, system, task, metric, layer=""):
    """The published number that these words name."""
    asked = {"paper": paper, "system": system, "task": task, "metric": metric, "layer": layer}
    (row,) = [row for row in published_numbers() if asked.items() <= row.items()]
    return row


@pytest.fixture
def changes():
    """What changes a copy of a result, and the fields in which it then differs, in the order of their effects."""
    return {
        "task.split": lambda copy: copy.task.tracks.update(test=7),
        "upstream.weights_sha256": lambda copy: setattr(copy.upstream, "weights_sha256", "0" * 64),
        "selected.layer": lambda copy: setattr(copy.selected, "layer", "weighted"),
        "protocol.probe.learning_rates": lambda copy: copy.protocol.probe.update(learning_rates=[1e-3]),
        "task.version": lambda copy: setattr(copy.task, "version", 9),
        "seeds": lambda copy: [layer.runs.pop() for layer in copy.layers],
        "task.data_sha256": lambda copy: setattr(copy.task, "data_sha256", "0" * 12),
        "bad_clips": lambda copy: copy.bad_clips.append(BadClip(id="a", path="a.wav", split="test", reason="is silent")),
        "protocol.precision": lambda copy: setattr(copy.protocol, "precision", "bf16"),
        "selected.rule": lambda copy: setattr(copy.selected, "rule", "best on test"),
        "protocol.windows.seconds": lambda copy: copy.protocol.windows.update(seconds=5.0),
        "protocol.probe.new": lambda copy: copy.protocol.probe.update(new=True),
        "versions.threads": lambda copy: setattr(copy.provenance, "threads", 99),
        "versions.torch": lambda copy: copy.provenance.versions.update(torch="1.0"),
    }


def test_a_result_differs_from_itself_in_nothing_nor_by_what_its_numbers_say(result):
    copy = result.model_copy(deep=True)
    copy.doubts, copy.provenance.date, copy.protocol.label, copy.cost.audio_hours = ["A: b."], "2030", "mine", 9.0
    copy.layers[0].test["accuracy"].mean = 0.0
    assert differences(result, copy) == []


def test_every_change_is_listed_alone_and_all_of_them_by_their_effect(result, changes):
    everything = result.model_copy(deep=True)
    for field, change in changes.items():
        copy = result.model_copy(deep=True)
        change(copy)
        assert [difference.field for difference in differences(result, copy)] == [field]
        change(everything)
    listed = differences(result, everything)
    assert [difference.field for difference in listed] == list(changes)
    assert differences(everything, result) == [
        Difference(one.field, one.second, one.first, one.points, one.evidence) for one in listed
    ]
    points = [difference.points for difference in listed if difference.points]
    assert points == sorted(points, reverse=True)
    assert listed[-2].points == 0


def test_it_is_reached_as_the_package_says_and_prints_as_lines(result, changes):
    copy = result.model_copy(deep=True)
    changes["protocol.probe.learning_rates"](copy)
    changes["protocol.windows.seconds"](copy)
    rates, seconds = map(str, marble.results.differences(result, copy))
    assert rates.startswith(
        "protocol.probe.learning_rates: 5e-05, 0.0001, 0.0005, 0.001, 0.005, 0.01 against 0.001 (4.8 points: "
    )
    assert seconds == "protocol.windows.seconds: 30.0 against 5.0"


def test_effects_that_are_known_come_first_by_their_size():
    points = [effect.points for effect in _EFFECTS]
    known = [value for value in points if value]
    assert points[: len(known)] == known == sorted(known, reverse=True)
    assert all(effect.evidence for effect in _EFFECTS if effect.points is not None)


def test_the_figures_are_those_of_the_papers():
    def gap(*numbers):
        values = [number(*words)["value"] for words in numbers]
        return pytest.approx(100 * abs(values[0] - values[1]))

    systems = ("MuQ", "MERT"), ("Branchformer", "MERT-330")
    assert _EFFECTS[0].points == gap(*((*system, "giantsteps-key", "key_score") for system in systems))
    conformers = (("Branchformer", f"CNF-att large, {data}", "gtzan", "accuracy") for data in ("FMA", "Music4All"))
    assert _EFFECTS[1].points == gap(*conformers)
    assert _EFFECTS[2].points == gap(*(("layer-wise", "MusicFM", "gtzan", "accuracy", layer) for layer in ("5", "weighted")))
    tagging = ("MuQ", "MERT", "mtt", "average_precision"), ("OMAR-RQ", "MERT", "mtt-clean", "average_precision")
    assert _EFFECTS[4].points == gap(*tagging)
    assert _EFFECTS[5].points == pytest.approx(100 * number("MuQ", "MuQ", "gtzan", "accuracy")["spread"])


def test_conditions_name_papers_systems_tasks_upstreams_and_fields_that_exist(result):
    rows, numbers = _rows("conditions.csv"), published_numbers()
    named = {(row["paper"], row["field"], row["task"], row["system"]) for row in rows}
    assert len(named) == len(rows)
    for row in rows:
        for key in ("paper", "system", "task"):
            assert not row[key] or any(known["paper"] == row["paper"] and known[key] == row[key] for known in numbers), row
        assert row["value"]
        assert row["source"]
    assert {row["field"] for row in rows} <= set(dict(_fields(result)))
    assert {row["value"] for row in rows if row["field"] == "upstream.name"} <= set(registry.upstream_names())


def test_a_published_number_differs_in_what_its_paper_states_then_in_what_it_leaves_open(result):
    result.task = result.task.model_copy(update={"name": "gtzan", "labels": ["a"] * 10})
    result.upstream.name = "musicfm-msd"
    listed = differences(result, number("layer-wise", "MusicFM", "gtzan", "accuracy", "5"))
    by_field = {difference.field: difference for difference in listed}
    assert not {"upstream.name", "task.name", "protocol.probe.hidden", "task.data_sha256", "versions.torch"} & set(by_field)
    assert (by_field["selected.layer"].first, by_field["selected.layer"].second) == (str(result.selected.layer), "5")
    assert by_field["selected.rule"].second == "best layer, apparently on test"
    assert by_field["protocol.probe.dropout"].second == by_field["task.split"].second == NOT_STATED
    unstated = [difference.second == NOT_STATED for difference in listed]
    assert unstated == sorted(unstated)
    assert "protocol.probe.dropout: 0.2 against not stated" in map(str, listed)


def test_the_conditions_of_a_task_and_of_a_quoted_number():
    key = conditions(number("MuQ", "MuQ", "giantsteps-key", "key_score"))
    assert (key["task.labels"], key["task.split"], key["seeds"]) == (24, "923 / 236 / 604", 5)
    pitch = conditions(number("OMAR-RQ", "OMAR-RQ base", "nsynth-pitch", "accuracy"))
    assert (pitch["upstream.name"], pitch["protocol.probe.learning_rates"]) == ("omar-rq-base", [0.001])
    assert conditions(number("MuQ", "MERT", "gtzan", "accuracy")) == {"upstream.name": "mert-330m"}


def test_two_published_numbers():
    first, second = (
        number("MuQ", "MuQ", "giantsteps-key", "key_score"),
        number("Branchformer", "MERT-330", "giantsteps-key", "key_score"),
    )
    listed = differences(first, second)
    assert str(listed[0]).startswith("task.labels: 24 against 25 (20 points: key_score of MERT-v1-330M on giantsteps-key")
    assert ("upstream.name", "MuQ", "mert-330m") in [(one.field, one.first, one.second) for one in listed]
