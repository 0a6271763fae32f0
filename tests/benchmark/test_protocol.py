"""Settings and layer lists."""

import pytest

from marble.errors import MarbleError
from marble.protocol import PROTOCOLS, load_protocol, parse_layers


def test_the_default_protocol_is_the_constrained_track():
    probe = PROTOCOLS["marble"].probe
    assert (probe.hidden, probe.dropout, probe.batch_size, probe.epochs, probe.patience) == (512, 0.2, 64, 100, 20)
    assert probe.learning_rates == (5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)


def test_a_setting_changes_the_protocol_and_stands_in_its_label():
    changed = load_protocol("marble", ["probe.hidden=256", "probe.learning_rates=1e-3,1e-2", "windows.seconds=10"])
    assert (changed.probe.hidden, changed.probe.learning_rates, changed.windows.seconds) == (256, (1e-3, 1e-2), 10.0)
    assert "probe.hidden=256" in changed.label
    assert load_protocol("marble").label == "marble"


@pytest.mark.parametrize(
    "setting",
    [
        "hidden=5",
        "probe.hiden=5",
        "probe.hidden",
        "probe.hidden=many",
        "probe.hidden=-1",
        "probe.dropout=1",
        "windows.seconds=0",
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting):
    with pytest.raises(MarbleError, match=setting.split("=")[0]):
        load_protocol("marble", [setting])


def test_an_unknown_protocol_is_refused():
    with pytest.raises(MarbleError, match="known are marble"):
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
