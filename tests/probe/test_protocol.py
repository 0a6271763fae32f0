"""Settings and layer lists."""

import re

import pytest

from marble.errors import MarbleError
from marble.jobs.job import parse_layers
from marble.probe.presets import PROTOCOLS
from marble.probe.protocol import load_protocol
from marble.probe.settings import Probe
from marble.system.files import digest


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


def test_a_setting_goes_before_what_a_preset_says_for_the_task_and_alone_stands_in_the_label():
    protocol = load_protocol("muq", ["windows.seconds=15", "probe.epochs=3"], task="gtzan")
    assert (protocol.windows.seconds, protocol.probe.epochs, protocol.probe.learning_rates) == (15.0, 3, (5e-3,))
    assert protocol.label == "muq (probe.epochs=3, windows.seconds=15)"
    assert load_protocol("muq", task="gtzan").label == "muq"
    assert load_protocol("muq", task="folder:x") == load_protocol("muq")
    assert not {"by_task", "stated", "description"} & set(protocol.model_dump())


def test_later_settings_leave_the_identity_of_probes_and_results_alone():
    first = {"kind", "hidden", "dropout", "learning_rates", "batch_size", "epochs", "patience", "standardise"}
    assert set(Probe().identity()) == first
    assert set(Probe(weight="track").identity()) == first | {"weight"}
    assert digest(Probe().identity()) == "4422f9a4907f26286a87e37900f7e9499276a692a74017dbdc3636d1b40cd249"
    assert load_protocol("marble").identity()["probe"] == Probe().identity()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["probe.epochs=none"], "probe.epochs=none has no end: set probe.steps"),
        (["probe.factor=0.1"], "probe.factor=0.1 needs probe.schedule=plateau"),
        (["probe.warm_up=5"], "probe.warm_up=5 needs probe.schedule=cosine"),
        (["probe.schedule=cosine"], "set probe.steps to more than probe.warm_up"),
        (["probe.schedule=cosine", "probe.steps=5", "probe.warm_up=5"], "set probe.steps to more than probe.warm_up"),
        (["probe.kind=linear", "probe.norm=batch"], "probe.norm=batch needs probe.kind=mlp"),
        (["probe.find_rate=true"], "name a single one in probe.learning_rates"),
        (["probe.weight=track", "probe.train_windows=one"], "leave out probe.weight=track"),
        (["probe.layer_weights=matrix", "probe.layer_start=random"], "leave out probe.layer_start=random"),
        (["probe.average_windows=true", "probe.batch_of=tracks"], "leave out probe.batch_of"),
        (["probe.track_answer=best", "probe.validate_by=window"], "leave out probe.validate_by=window"),
        (["probe.grid_points=3"], "probe.grid_points draws from a grid: set probe.grid"),
        (["probe.grid=hiden=3/4"], "'hiden=3/4' sets nothing: write FIELD=VALUE/VALUE with a field among kind, hidden"),
        (["probe.grid=hidden"], "'hidden' sets nothing"),
        (["probe.grid=average_windows=true/false"], "sets nothing"),
        (["probe.grid=kind=mlp/linear,norm=batch"], "probe.norm=batch needs probe.kind=mlp"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(MarbleError, match=re.escape(sentence)) as caught:
        load_protocol("marble", settings)
    assert "\n" not in str(caught.value)


def test_a_grid_is_every_combination_and_fields_can_change_together():
    probe = load_protocol("marble", ["probe.grid=kind=linear/mlp,input_dropout+dropout=0.25/0.5,learning_rates=1e-3"]).probe
    points = probe.points()
    assert [chosen for chosen, _ in points] == [
        {"kind": kind, "input_dropout": rate, "dropout": rate, "learning_rates": (1e-3,)}
        for kind in ("linear", "mlp")
        for rate in (0.25, 0.5)
    ]
    assert [(point.kind, point.input_dropout, point.learning_rates, point.grid) for _, point in points] == [
        (kind, rate, (1e-3,), ()) for kind in ("linear", "mlp") for rate in (0.25, 0.5)
    ]
    assert Probe().points() == [({}, Probe())]


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
