"""``marble pretrain``: from a folder of audio to an upstream that is probed at once, and what a wrong command says."""

import importlib.util
import json
import shutil
import wave

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from marble.cli.app import app
from marble.errors import MarbleError
from marble.pretraining.curve import read_curve
from marble.pretraining.session import pretrain
from marble.registry import load_upstream
from marble.system.progress import Reporter
from marble.tasks.synth.stream import segment

QUICK = ("seconds=1", "batch=4", "micro_batch=4", "optimiser.warmup=2", "targets.0.codes=32")


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Two files of music in folders of their own, and three that cannot be used."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(2):
        (folder / str(number)).mkdir()
        with wave.open(str(folder / str(number) / "music.wav"), "wb") as file:
            file.setparams((1, 2, 24_000, 0, "NONE", "not compressed"))
            file.writeframes((segment(number, 8.0, 24_000) * 32767).astype("<i2").tobytes())
    (folder / "broken.wav").write_bytes(b"nothing" * 99)
    (folder / "empty.mp3").write_bytes(b"")
    shutil.copy(folder / "0" / "music.wav", folder / "wrong.flac")
    (folder / "notes.txt").write_text("not audio, not asked for")
    return folder


def train(music, out, *settings, name="musicfm-tiny", **options):
    return pretrain(name, str(music), out, settings=(*QUICK, *settings), device="cpu", workers=1, **options)


def test_a_folder_becomes_an_upstream_whose_curve_is_drawn(music, tmp_path):
    """The checkpoint is probed while it is trained, and resumed without losing the points before."""
    classes = tmp_path / "classes"
    for label in ("high", "low"):
        (classes / label).mkdir(parents=True)
        for number in range(8):
            tone = 0.3 * np.sin(2 * np.pi * (1500 if label == "high" else 200) * np.arange(24_000) / 24_000 + number)
            with wave.open(str(classes / label / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, 24_000, 0, "NONE", "not compressed"))
                file.writeframes((tone * 32767).astype("<i2").tobytes())
    out = tmp_path / "out"
    options = {"probe": [f"folder:{classes}"], "checkpoint_every": 2, "log_every": 1}
    last = train(music, out, "steps=4", **options)
    assert [row["step"] for row in read_curve(out)] == ["2", "4"]
    assert all(0 <= float(row["validation"]) <= 1 for row in read_curve(out))
    assert (out / "curve.png").stat().st_size > 10_000
    assert not list(out.glob(".probing-*"))
    upstream = load_upstream(str(last))
    assert upstream.info.name == "musicfm-tiny"
    assert upstream.info.source.startswith(f"marble pretrain musicfm-tiny --data {music} --set seconds=1")
    named = (out / "refused.csv").read_text()
    assert all(name in named for name in ("broken.wav", "empty.mp3", "wrong.flac"))
    assert "notes.txt" not in named
    shutil.rmtree(last)
    train(music, out, "steps=4", resume=True, **options)
    assert [row["step"] for row in read_curve(out)] == ["2", "4"]
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [MemoryError(), OSError("no space left"), MarbleError("no clip is left")])
def test_a_probing_that_fails_ends_no_training(music, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    class Noted(Reporter):
        def say(self, text):
            said.append(text)

    said = []
    monkeypatch.setattr("marble.pretraining.curve.run", fail)
    train(music, tmp_path, "steps=2", probe=["gtzan"], checkpoint_every=1, reporter=Noted())
    failures = [text for text in said if "not probed" in text]
    assert failures == [f"step {step} is not probed: {error or 'MemoryError'}" for step in (1, 2)]


def test_a_place_that_is_no_folder_is_said_at_once(music, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MarbleError, match=r"Cannot write .*out \(file exists\): make room or choose another folder"):
        train(music, tmp_path / "out", "steps=1")


def test_what_was_trained_is_not_called_as_what_was_published():
    from marble.pretraining.segments import Stream
    from marble.pretraining.session import _about
    from marble.registry import find_upstream

    for name, called in {"musicfm-msd": "musicfm-msd-retrained", "musicfm-tiny": "musicfm-tiny"}.items():
        import torch

        with torch.device("meta"):
            upstream = find_upstream(name).random()
        source = Stream("module:function", 1.0, 24_000)
        assert _about(upstream, "synth", source, "recipe", ())["name"] == called
        assert _about(upstream, "synth", source, "recipe", ())["trained_on"] == ["marble's synthesiser"]
        assert _about(upstream, "my-music", source, "recipe", ())["trained_on"] == []


def test_a_calibrated_training_is_resumed_as_it_was(music, tmp_path):
    """The stem and the statistics of the targets come from the checkpoint and are not measured again."""
    name = "branchformer-summarymixing-tiny"
    whole = train(music, tmp_path / "whole", "steps=2", name=name, checkpoint_every=1)
    first = whole.with_name("00000001")
    targets = load_file(first / "training.safetensors")
    for target in range(2):
        assert float(targets[f"model.targets.{target}.mean"].abs().max()) > 0.1
        assert float((targets[f"model.targets.{target}.std"] - 1).abs().max()) > 0.1
    assert float(load_file(first / "upstream.safetensors")["stem.linear.bias"].abs().max()) > 0.1
    shutil.copytree(first, tmp_path / "part" / "checkpoints" / first.name)
    last = train(music, tmp_path / "part", "steps=2", name=name, resume=True)
    for file in ("upstream.safetensors", "training.safetensors"):
        assert (last / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ({"name": "mulan"}, "There is no recipe called 'mulan'"),
        ({"probe": ["synth-keys"]}, "There is no task called 'synth-keys'"),
        ({"name": "mel-rvq-tiny", "probe": ["synth-key"]}, "trains a quantiser, which has no layers to probe"),
        ({"resume": True}, "There is no checkpoint in .*: start without --resume"),
        ({"settings": ("upstream=fbank-chroma",)}, "fbank-chroma has no weights to draw"),
        ({"settings": ("seconds=0.001",)}, "--set seconds: input should be greater than or equal to 0.5"),
        (
            {"name": "branchformer-summarymixing-tiny", "settings": ("seconds=0.5",)},
            "branchformer-summarymixing-tiny encodes no less than 0.61 s, and a segment of the recipe has 0.5 s",
        ),
        ({"settings": ("seconds=60",)}, "None of the 5 audio files holds a segment of 60 s"),
    ],
)
def test_a_wrong_command_is_one_sentence(music, tmp_path, command, sentence):
    options = dict(command)
    settings = options.pop("settings", ())
    with pytest.raises(MarbleError, match=sentence) as caught:
        train(music, tmp_path / "out", "steps=1", *settings, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tensorboard_is_asked_for(music, tmp_path):
    """Without it, no files; where it is not installed, one sentence before anything is written."""
    train(music, tmp_path / "plain", "steps=1")
    assert not (tmp_path / "plain" / "tensorboard").exists()
    if importlib.util.find_spec("tensorboard"):
        train(music, tmp_path / "asked", "steps=1", tensorboard=True)
        assert list((tmp_path / "asked" / "tensorboard").iterdir())
    else:
        with pytest.raises(MarbleError, match="TensorBoard is not installed: pip install tensorboard, or leave out"):
            train(music, tmp_path / "asked", "steps=1", tensorboard=True)
        assert not (tmp_path / "asked").exists()


def test_data_that_is_not_there_and_a_folder_that_is_taken(music, tmp_path):
    with pytest.raises(MarbleError, match=r"There is no data '.*nowhere': give a folder of audio, a table, or synth"):
        train(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "silence").mkdir()
    with pytest.raises(MarbleError, match="There is no audio below"):
        train(tmp_path / "silence", tmp_path / "out")
    table = tmp_path / "table.csv"
    table.write_text(f"path\n{music}/0/music.wav\n")
    train(table, tmp_path / "out", "steps=1")
    with pytest.raises(MarbleError, match="holds a training already: go on with --resume, or name another folder"):
        train(music, tmp_path / "out")


def test_the_command_line(music, tmp_path):
    arguments = [part for setting in (*QUICK, "steps=1") for part in ("--set", setting)]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["pretrain", "musicfm-tiny", "--data", str(music), "--out", str(out), "--workers", "1", *arguments]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out / "checkpoints" / "00000001")
    assert "16 segments of 1 s from 2 of 5 files; left out: 0 shorter than 0.95 s, 3 unreadable" in done.stderr
