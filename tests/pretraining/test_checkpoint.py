"""Checkpoints: whole or not there, on a full disk too, and damaged ones are told from good ones."""

import json
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file

from marble.errors import MarbleError
from marble.pretraining import checkpoint, journal
from marble.registry import load_upstream


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disk():
    """A function that lets no file grow beyond so many bytes, as on a full disk, or again as far as before."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def room(size=before[0]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield room
    room()


def test_a_checkpoint_is_an_upstream_and_the_two_newest_are_kept(make_trainer, small):
    about = {"licence": "MIT", "training_data": "noise", "recipe": "marble pretrain it"}
    trainer = make_trainer("musicfm-tiny", upstream=small(), checkpoint_every=2, about=about)
    last = trainer.train()
    assert sorted(path.name for path in last.parent.iterdir()) == ["00000004", "00000006"]
    assert checkpoint.latest(trainer.folder) == last
    upstream = load_upstream(str(last))
    assert (upstream.info.name, upstream.info.licence) == ("small", "MIT")
    assert upstream.info.source.startswith("marble pretrain it")
    for name, weight in trainer.objective.upstream.state_dict().items():
        assert torch.equal(weight, upstream.state_dict()[name])


def test_the_average_is_what_is_saved(make_trainer, small):
    """``w̄ ← β w̄ + (1 - β) w`` after every step, from the first weights on."""
    trainer = make_trainer("musicfm-tiny", "average=0.75", "steps=2", upstream=small(), checkpoint_every=1)
    name = "blocks.0.attention.query.weight"
    weight = trainer.objective.upstream.get_parameter(name)
    expected, seen = weight.detach().clone(), []

    def note(*_):
        seen.append(weight.detach().clone())

    trainer.on_checkpoint = note
    last = trainer.train()
    for one in seen:
        expected = 0.75 * expected + 0.25 * one
    torch.testing.assert_close(load_file(last / "upstream.safetensors")[name], expected)
    assert torch.equal(load_file(last / "training.safetensors")[f"present.upstream.{name}"], weight)


@pytest.mark.parametrize("full", ["log", "checkpoint"])
def test_on_a_full_disk_the_training_waits_and_goes_on(make_trainer, small, disk, monkeypatch, full):
    """The earlier checkpoint is intact, nothing is half written, and no step is lost or taken twice."""
    expected = load_file(make_trainer("musicfm-tiny", folder="whole", upstream=small()).train() / "upstream.safetensors")
    trainer = make_trainer("musicfm-tiny", upstream=small(), checkpoint_every=3, log_every=1)
    first, seen = {}, []

    def fill_up(step, folder):
        if step == 3:
            first.update(contents(folder))
            disk((trainer.folder / "log.jsonl").stat().st_size + 10 if full == "log" else 20_000)

    def pause(_):
        folders = [path.name for path in (trainer.folder / "checkpoints").iterdir()]
        seen.append((folders, contents(trainer.folder / "checkpoints" / "00000003")))
        steps = [json.loads(line)["step"] for line in (trainer.folder / "log.jsonl").read_text().splitlines()]
        assert steps == list(range(1, 4 if full == "log" else 7))
        if len(seen) == 2:
            disk()

    trainer.on_checkpoint = fill_up
    monkeypatch.setattr(journal.time, "sleep", pause)
    last = trainer.train()
    monkeypatch.undo()
    assert seen == [(["00000003"], first)] * 2
    assert sum("cannot be written" in text for text in trainer.reporter.said) == 2
    assert [json.loads(line)["step"] for line in (trainer.folder / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    written = load_file(last / "upstream.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in expected.items())


def test_where_nobody_makes_room_the_checkpoint_before_is_left(make_trainer, small, disk, monkeypatch):
    trainer = make_trainer("musicfm-tiny", upstream=small(), checkpoint_every=3)
    before = {}

    def fill_up(step, folder):
        before.update(contents(folder))
        disk(20_000)

    trainer.on_checkpoint = fill_up
    monkeypatch.setattr(journal, "RETRY_SECONDS", -1.0)
    with pytest.raises(MarbleError, match=r"00000006 could not be written for -1 s: make room, .*--resume"):
        trainer.train()
    disk()
    (left,) = (trainer.folder / "checkpoints").iterdir()
    assert left.name == "00000003"
    assert contents(left) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(folder / "training.safetensors"),
        lambda folder: flip(folder / "training.safetensors"),
        lambda folder: flip(folder / "upstream.safetensors"),
        lambda folder: (folder / "upstream.safetensors").unlink(),
        lambda folder: flip(folder / "log.jsonl"),
        lambda folder: edit(folder / "training.json", '"positions": [\n  24', '"positions": [\n  20'),
        lambda folder: (folder / "training.json").write_text('{"step": '),
        lambda folder: (folder / "training.json").write_text("7"),
        lambda folder: (folder / "training.json").write_text("{}"),
        lambda folder: (folder / "training.json").write_text("[" * 100_000),
    ],
    ids=[
        "cut",
        "flipped",
        "flipped upstream",
        "without upstream",
        "flipped log",
        "another position",
        "half a document",
        "no document",
        "empty document",
        "deep document",
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_goes_on(trained, make_trainer, small, damage):
    folder = trained("damaged")
    last = checkpoint.latest(folder)
    whole = contents(last)
    damage(last)
    with pytest.raises(MarbleError, match=r"is damaged .*remove it, and --resume continues from the one before") as caught:
        make_trainer("musicfm-tiny", folder="damaged", upstream=small()).train(last)
    assert "\n" not in str(caught.value)
    shutil.rmtree(last)
    again = contents(make_trainer("musicfm-tiny", folder="damaged", upstream=small()).train(checkpoint.latest(folder)))
    for clock in ("log.jsonl", "training.json"):  # the log tells the speed, and the document the sha256 of the log
        del whole[clock], again[clock]
    assert again == whole


@pytest.fixture
def trained(make_trainer, small):
    """A function that makes a folder with the checkpoints 3 and 6."""

    def train(folder):
        trainer = make_trainer("musicfm-tiny", folder=folder, upstream=small(), checkpoint_every=3)
        trainer.train()
        return trainer.folder

    return train


def test_another_recipe_is_refused_by_what_differs(trained, make_trainer, small):
    folder = trained("run")
    other = make_trainer("musicfm-tiny", "optimiser.learning_rate=1e-4", "seed=1", upstream=small())
    with pytest.raises(MarbleError, match=r"another recipe \(optimiser, seed differ\): give the same --set, or a new folder"):
        other.train(checkpoint.latest(folder))


def test_a_checkpoint_that_is_older_than_a_setting_goes_on(trained, make_trainer, small):
    """Settings that it does not know have their defaults, inside targets, too."""
    last = checkpoint.latest(trained("run"))
    document = json.loads((last / "training.json").read_text())
    del (
        document["seal"],
        document["recipe"]["random_channel"],
        document["recipe"]["targets"][0]["mean"],
        document["recipe"]["targets"][0]["std"],
    )
    (last / "training.json").write_text(json.dumps(document))
    assert make_trainer("musicfm-tiny", upstream=small()).train(last) == last
    other = make_trainer("musicfm-tiny", "random_channel=true", upstream=small())
    with pytest.raises(MarbleError, match=r"another recipe \(random_channel differ\)"):
        other.train(last)


def test_other_words_about_a_recipe_do_not_stop_it(trained, make_trainer, small):
    folder = trained("run")
    trainer = make_trainer("musicfm-tiny", upstream=small())
    trainer.recipe = trainer.recipe.model_copy(update={"source": "a better sentence", "assumptions": ()})
    assert trainer.train(checkpoint.latest(folder)) == checkpoint.latest(folder)
