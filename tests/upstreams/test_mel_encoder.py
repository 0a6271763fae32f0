"""The upstreams that marble trains: published sizes, what is live in training, checkpoints that are whole or refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from marble.errors import MarbleError
from marble.jobs.check import check_upstream
from marble.registry import complete_upstream_names, find_upstream, load_upstream
from marble.system.files import file_hash
from marble.upstreams import SHIPPED
from marble.upstreams.mel_encoder import InHouse, InHouseConfig

# In millions: the fit of the sizes to the counts of the paper.
PUBLISHED = {
    "branchformer-attention-small": 60.05,
    "branchformer-attention-large": 187.47,
    "branchformer-summarymixing-large": 164.67,
    "conformer-attention-small": 93.79,
    "conformer-attention-large": 324.73,
    "conformer-summarymixing-large": 301.93,
}
# Standard deviation of the shipped upstream's layers for a tone of 220 Hz.
GOLDEN = [7.3419, 8.9156, 9.6743, 9.8657, 10.1931, 10.5116, 1.4534]
TINY = [
    "branchformer-summarymixing-tiny",
    "branchformer-attention-tiny",
    "conformer-summarymixing-tiny",
    "conformer-attention-tiny",
    "muq-tiny",
    "omar-rq-tiny",
]


def tiny(name="branchformer-summarymixing-tiny"):
    return load_upstream(f"random-init:{name}")


def smallest(**changes):
    """A network of very few weights."""
    sizes = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "channels": 2, "local": (16, 16), "summary": (16, 16)}
    config = {"family": "branchformer", "mixer": "summarymixing", "summary_heads": 2, "dropout": 0.0}
    torch.manual_seed(0)
    return InHouse("smallest", InHouseConfig.model_validate(config | sizes | changes))


def noise(seconds, batch=1, rate=24_000):
    return 0.1 * torch.randn(batch, round(seconds * rate), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_have_the_published_counts(name):
    with torch.device("meta"):
        upstream = find_upstream(name).random()
    assert round(sum(weight.numel() for weight in upstream.parameters()) / 1e6, 2) == PUBLISHED[name]


@pytest.mark.parametrize("name", [*PUBLISHED, *TINY, "musicfm-tiny"])
def test_info_is_that_of_the_instance(name):
    with torch.device("meta"):
        upstream = find_upstream(name).random()
    facts = (
        {} if name not in complete_upstream_names() else {"licence": "", "training_data": "", "trained_on": (), "source": ""}
    )
    assert replace(upstream.info, **facts) == replace(find_upstream(name).info, **facts)


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_ones_keep_every_promise(name):
    failed = [check.promise for check in check_upstream(tiny(name).prepare("cpu")) if not check.holds]
    assert failed == []


@pytest.mark.parametrize("name", [*TINY, "branchformer-summarymixing-lite"])
def test_training_reaches_every_weight(name):
    """No weight is counted that does nothing."""
    upstream = smallest(mixer="summarymixing-lite") if name.endswith("lite") else find_upstream(name).random()
    upstream.train()
    *_, last = upstream.layers(noise(1.0, batch=2))
    (last * torch.randn(last.shape)).sum().backward()
    dead = [name for name, weight in upstream.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A bias before a batch norm, or of a key under softmax, moves nothing, in any network.
    assert [name for name in dead if not name.endswith(("conv1.bias", "conv2.bias", "conv3.bias", "key.bias"))] == []


@pytest.mark.parametrize(("family", "eps"), [("branchformer", 1e-6), ("conformer", 1e-5)])
def test_the_last_norm_has_the_eps_of_the_official_stack(family, eps):
    x = 1e-3 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + eps).sqrt()
    torch.testing.assert_close(smallest(family=family).norm(x), expected)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_stays_close(name):
    waveform = noise(2.0)
    exact, rounded = (list(tiny(name).prepare("cpu", precision).layers(waveform)) for precision in ("fp32", "bf16"))
    for state, reference in zip(rounded, exact, strict=True):
        assert state.dtype == torch.float32
        assert torch.cosine_similarity(state, reference, dim=-1).mean() > 0.999


@pytest.mark.parametrize("name", ["branchformer-summarymixing-tiny", "muq-tiny", "omar-rq-tiny"])
def test_a_saved_upstream_gives_the_same_bytes(name, tmp_path):
    upstream = tiny(name)
    upstream.info = find_upstream(name).info
    about = {"steps": 7, "licence": "MIT", "training_data": "noise", "trained_on": ["Jamendo"], "recipe": "none"}
    upstream.save(tmp_path / "it", about)
    waveform = noise(1.5)
    expected = list(upstream.prepare("cpu").layers(waveform))
    for spec in (str(tmp_path / "it"), f"saved:{tmp_path / 'it'}", f"{name}:{tmp_path / 'it'}"):
        loaded = load_upstream(spec)
        assert (loaded.info.name, loaded.info.licence, loaded.info.training_data) == (name, "MIT", "noise")
        assert loaded.info.trained_on == ("Jamendo",)
        assert loaded.info.parameters == upstream.info.parameters
        assert all(map(torch.equal, loaded.prepare("cpu").layers(waveform), expected))
        assert loaded.weights_sha256 == upstream.weights_sha256
    document = json.loads((tmp_path / "it" / "upstream.json").read_text())
    assert (document["format"], document["version"], document["steps"]) == ("marble-upstream", 1, 7)


def test_the_loudness_it_was_trained_on_is_part_of_its_weights():
    """Mean and std of the decibels move every number, so the key of the feature cache must tell them apart."""
    one, other = smallest(mean=1.0), smallest(mean=2.0)
    other.load_state_dict(one.state_dict())
    assert one.weights_hash() != other.weights_hash()


def cut(folder):
    weights = folder / "upstream.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def flipped(folder):
    weights = folder / "upstream.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)


def edited(*path, value):
    def edit(folder):
        document = json.loads((folder / "upstream.json").read_text())
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        (folder / "upstream.json").write_text(json.dumps(document))

    return edit


def without_a_tensor(folder):
    tensors = load_file(folder / "upstream.safetensors")
    del tensors["norm.bias"]
    save_file(tensors, folder / "upstream.safetensors")
    edited("sha256", value=file_hash(folder / "upstream.safetensors"))(folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "is not the file that upstream.json was written for"),
        (flipped, "is not the file that upstream.json was written for"),
        (without_a_tensor, r"misses norm\.bias"),
        (lambda folder: (folder / "upstream.safetensors").unlink(), "does not exist"),
        (lambda folder: (folder / "upstream.json").unlink(), "does not exist"),
        (lambda folder: (folder / "upstream.json").write_text('{"format'), "is not valid JSON"),
        (lambda folder: (folder / "upstream.json").write_text("[]"), "does not hold a JSON object"),
        (lambda folder: (folder / "upstream.json").write_text('{"model": "foreign"}'), "does not describe an upstream"),
        (edited("version", value=2), "version"),
        (edited("architecture", value="os:system"), "but marble knows in-house, omar-rq"),
        (edited("config", "depth", value=3), r"misses blocks\.2"),
        (edited("config", "width", value=18), "no valid config"),
        (edited("config", "width", value="wide"), r"no valid config \(width"),
        (edited("config", "heads", value=3), "multiple of twice the heads"),
        (edited("config", "std", value=0), r"no valid config \(std"),
        (edited("config", "colour", value=1), r"no valid config \(colour"),
    ],
)
def test_what_is_not_whole_is_refused_in_a_sentence(damage, sentence, tmp_path):
    smallest(mixer="attention").save(tmp_path, {})
    damage(tmp_path)
    with pytest.raises(MarbleError, match=sentence) as caught:
        load_upstream(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [10**9, 10**18, 10**400])
@pytest.mark.parametrize("key", ["width", "depth", "heads", "hidden", "channels", "kernel", "summary_heads"])
def test_a_size_beyond_any_model_is_refused_before_it_is_built(key, value, tmp_path):
    smallest(mixer="attention").save(tmp_path, {})
    edited("config", key, value=value)(tmp_path)
    with pytest.raises(MarbleError, match=rf"no valid config \({key}: Input should be less than or equal to"):
        load_upstream(str(tmp_path))


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("sizes", "depth", 10**9),
        ("sizes", "hidden", 10**18),
        ("input", "bands", 10**9),
        ("input", "size", 10**18),
        ("input", "size", 60_000),
        ("input", "sample_rate", 10**400),
    ],
)
def test_a_size_of_omar_rq_beyond_any_model_is_refused_before_it_is_built(part, key, value, tmp_path):
    load_upstream("random-init:omar-rq-tiny").save(tmp_path, {})
    edited("config", "input", "bands", value=1000)(tmp_path)
    edited("config", part, key, value=value)(tmp_path)
    with pytest.raises(MarbleError, match=r"no valid config \(.* must be at most"):
        load_upstream(str(tmp_path))


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    old = smallest()
    old.save(tmp_path, {"steps": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    new = smallest()
    torch.nn.init.zeros_(new.norm.weight)
    with pytest.raises(ValueError, match="steps"):
        new.save(tmp_path, {"steps": -1})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(MarbleError, match="Cannot write"):
        new.save(tmp_path / "file" / "below", {})


def test_without_weights_a_sentence_says_what_to_do(tmp_path):
    with pytest.raises(MarbleError, match="branchformer-attention-large has no public weights: pretrain it"):
        load_upstream("branchformer-attention-large")
    with pytest.raises(MarbleError, match="omar-rq-tiny has no public weights"):
        load_upstream("omar-rq-tiny")
    smallest().save(tmp_path, {})
    with pytest.raises(MarbleError, match="holds smallest, not conformer-attention-large"):
        load_upstream(f"conformer-attention-large:{tmp_path}")


def test_the_feed_forwards_of_omar_rq_start_small_enough_for_their_factor():
    """They count four times: a stack that starts at torch's scale would start far from its norms."""
    torch.manual_seed(0)
    block = find_upstream("omar-rq-tiny").random().blocks[0]
    for linear, scaled in ((block.feed_forward1.up, True), (block.attention.value, True), (block.attention.query, False)):
        bound = linear.in_features**-0.5 * ((8 * 6) ** -0.25 / 12 if scaled else 1)
        assert 0.9 * bound < linear.weight.abs().max() <= bound


def test_marble_ships_the_tiny_one_trained():
    """At most ten megabytes, under marble's own licence, and the weights that its recipe gave, to a thousandth."""
    name = "branchformer-summarymixing-tiny"
    assert name in complete_upstream_names()
    assert sum(path.stat().st_size for path in (SHIPPED / name).iterdir()) < 10e6
    upstream = load_upstream(name).prepare("cpu")
    assert (upstream.info.name, upstream.info.licence) == (name, "MIT")
    assert upstream.info.source == f"marble pretrain {name} --data synth, 2000 steps"
    assert upstream.info == find_upstream(name).info
    time = torch.arange(48_000) / 24_000
    layers = torch.stack([*upstream.layers(0.3 * torch.sin(2 * torch.pi * 220 * time)[None])])
    torch.testing.assert_close(layers.std((1, 2, 3)), torch.tensor(GOLDEN), rtol=1e-3, atol=0)
