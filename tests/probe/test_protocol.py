"""Settings and layer lists."""

import re

import pytest

import marble
from marble.errors import MarbleError
from marble.jobs.job import parse_layers
from marble.probe.protocol import PROTOCOLS, load_protocol
from marble.tasks import TASKS


def test_the_default_protocol_is_the_constrained_track():
    probe = PROTOCOLS["marble"].probe
    assert (probe.hidden, probe.dropout, probe.batch_size, probe.epochs, probe.patience) == (512, 0.2, 64, 100, 20)
    assert probe.learning_rates == (5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)


def test_a_setting_changes_the_protocol_and_stands_in_its_label():
    changed = load_protocol("marble", ["probe.hidden=256", "probe.learning_rates=1e-3,1e-2", "windows.seconds=10"])
    assert (changed.probe.hidden, changed.probe.learning_rates, changed.windows.seconds) == (256, (1e-3, 1e-2), 10.0)
    assert changed.label == "marble (probe.hidden=256, probe.learning_rates=1e-3,1e-2, windows.seconds=10)"
    assert load_protocol("marble", ["probe.learning_rates=1e-3"]).probe.learning_rates == (1e-3,)
    assert load_protocol("marble").label == "marble"


def test_presets_differ_from_the_default_in_what_their_sources_state_and_in_nothing_else():
    default = PROTOCOLS["marble"].model_dump(include={"windows", "probe"})
    differences = {}
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        document = protocol.model_dump()
        differences[name] = {
            f"{part}.{key}": value
            for part, values in default.items()
            for key, value in document[part].items()
            if value != values[key]
        }
    assert differences == {
        "marble": {},
        "marble-v1": {"probe.learning_rates": (1e-3,), "probe.standardise": False},
        "muq": {"probe.learning_rates": (1e-3,), "probe.standardise": False},
        "omar": {
            "windows.seconds": 30.0,
            "probe.learning_rates": (1e-4,),
            "probe.epochs": 84,
            "probe.patience": 84,
            "probe.standardise": False,
        },
        "branchformer": {"windows.seconds": 30.0, "probe.dropout": 0.25, "probe.batch_size": 32},
    }


def test_a_description_explains_a_preset_and_is_part_of_no_result():
    assert all(protocol.description for protocol in PROTOCOLS.values())
    for name in ("marble-v1", "muq", "omar", "branchformer"):
        assert "Not expressed:" in PROTOCOLS[name].description
    changed = load_protocol("omar", ["probe.batch_size=32"])
    assert changed.label == "omar (probe.batch_size=32)"
    assert "description" not in changed.model_dump(mode="json")


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "marble"])
def test_a_result_names_its_preset(name, tones, tmp_path):
    settings = ["probe.epochs=2"]
    result = marble.run("constant", f"folder:{tones}", protocol=name, results=tmp_path, seeds=1, settings=settings)
    assert (tmp_path / result.path).name.startswith(f"{name}-")
    assert result.protocol.label == f"{name} (probe.epochs=2)"
    assert {point.learning_rate for point in result.layers[0].runs[0].grid} == set(PROTOCOLS[name].probe.learning_rates)


def test_the_settings_that_descriptions_name_exist():
    for protocol in PROTOCOLS.values():
        for setting in re.findall("(?:probe|windows)[.][a-z_]+=[0-9.e-]*[0-9]", protocol.description):
            assert load_protocol(protocol.name, [setting]).changes


def of_task(name, task):
    """What a preset changes for one task."""
    usual, special = PROTOCOLS[name].model_dump(), load_protocol(name, task=task).model_dump()
    return {
        f"{part}.{key}": value
        for part in ("windows", "probe")
        for key, value in special[part].items()
        if value != usual[part][key]
    }


def test_presets_change_for_a_task_what_their_sources_state_for_it():
    fewer, long = {"probe.patience": 10}, {"windows.seconds": 30.0}
    first = {
        "gtzan": {"probe.learning_rates": (5e-3,)} | long,
        "giantsteps-key": {"windows.tail": 30.0} | long,
        "vocalset-singer": {"windows.tail": 3.0},
        "vocalset-technique": {"windows.tail": 3.0} | fewer,
        **dict.fromkeys(("mtt", "mtg-top50", "mtg-genre", "mtg-instrument", "mtg-mood"), fewer | long),
        **{
            f"nsynth-{label}{kept}": {"probe.epochs": 50} | fewer
            for label in ("instrument", "pitch")
            for kept in ("", "-clean")
        },
    }
    muq = first | {
        "gtzan": {"windows.seconds": 10.0, "probe.learning_rates": (5e-3,)},
        "emomusic": {"windows.seconds": 5.0},
        "vocalset-technique": {"windows.seconds": 3.0, "windows.tail": 3.0} | fewer,
    }
    pitch = {"probe.learning_rates": (1e-3,), "probe.dropout": 0.0, "probe.batch_size": 32, "probe.epochs": 11}
    piano = {f"piano-difficulty{split}": {"windows.hop": 15.0} for split in ("", "-1", "-2", "-3", "-4")}
    stated = {"marble-v1": first, "muq": muq, "omar": dict.fromkeys(("nsynth-pitch", "nsynth-pitch-clean"), pitch) | piano}
    for name, protocol in PROTOCOLS.items():
        assert {task: of_task(name, task) for task in protocol.by_task} == stated.get(name, {})
        assert set(protocol.by_task) <= set(TASKS)


def test_a_setting_goes_before_what_a_preset_says_for_the_task_and_alone_stands_in_the_label():
    protocol = load_protocol("muq", ["windows.seconds=15", "probe.epochs=3"], task="gtzan")
    assert (protocol.windows.seconds, protocol.probe.epochs, protocol.probe.learning_rates) == (15.0, 3, (5e-3,))
    assert protocol.label == "muq (probe.epochs=3, windows.seconds=15)"
    assert load_protocol("muq", task="gtzan").label == "muq"
    assert load_protocol("muq", task="folder:x") == load_protocol("muq")
    assert "by_task" not in protocol.model_dump()


def test_the_channels_stand_in_a_document_only_where_they_are_chosen():
    """So the identities of the default protocol are those from before there was a choice."""
    assert "audio" not in load_protocol("marble").model_dump(mode="json")
    assert load_protocol("marble", ["audio.channels=mean"]).audio == load_protocol("muq").audio
    chosen = load_protocol("marble", ["audio.channels=left"])
    assert chosen.model_dump(mode="json")["audio"] == {"channels": "left"}
    assert chosen.label == "marble (audio.channels=left)"


@pytest.mark.parametrize(
    "setting",
    [
        "hidden=5",
        "probe.hiden=5",
        "probe.hidden",
        "probe.hidden=many",
        "probe.hidden=-1",
        "probe.dropout=1",
        "probe.hidden=1,2",
        "probe.learning_rates=",
        "windows.seconds=0",
        "windows.seconds=inf",
        "windows.hop=nan",
        "audio.channels=right",
        "audio=left",
        "windows.tail=inf",
        "probe.learning_rates=1e-3,nan",
        "probe.learning_rates=inf",
        "probe.learning_rates=-1e-3",
        "probe.learning_rates=0",
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting):
    with pytest.raises(MarbleError, match=setting.split("=")[0]):
        load_protocol("marble", [setting])


def test_an_unknown_protocol_is_refused():
    with pytest.raises(MarbleError, match="did you mean marble"):
        load_protocol("marbel")


@pytest.mark.parametrize(
    ("text", "layers", "weighted"),
    [
        ("all", list(range(13)), False),
        ("weighted", [], True),
        ("0,3,6..8", [0, 3, 6, 7, 8], False),
        ("all,weighted", list(range(13)), True),
    ],
)
def test_layer_lists(text, layers, weighted):
    assert parse_layers(text, 13) == (layers, weighted)


@pytest.mark.parametrize("text", ["13", "3..13", "5..2", "-1", "", "a", "1,,2", "0...3", "all..3", "²"])
def test_layers_that_do_not_exist_are_refused(text):
    with pytest.raises(MarbleError, match="names no layer"):
        parse_layers(text, 13)
