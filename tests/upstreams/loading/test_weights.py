"""Loading: both containers, both spellings, prefixes and quirks are read; every fault is one sentence that helps."""

import contextlib
import hashlib
import io
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from marble.errors import MarbleError
from marble.upstreams.loading import hub, weights
from marble.upstreams.loading.weights import read_checkpoint
from marble.upstreams.mert import MERT_95M, MERT_330M
from marble.upstreams.muq import MUQ
from marble.upstreams.musicfm import MUSICFM_FMA, MUSICFM_MSD
from marble.upstreams.omar_rq import OMAR_RQ

DATA = Path(__file__).parents[2] / "fixtures" / "upstreams"
MAGNITUDE, DIRECTION = "encoder.pos_conv_embed.conv.weight_g", "encoder.pos_conv_embed.conv.weight_v"


@pytest.fixture
def folder(tmp_path):
    """Copies of checkpoints by name, free to be damaged."""

    def copy(name):
        return Path(shutil.copytree(DATA / name, tmp_path / name))

    return copy


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_pickle(path, edit):
    tensors = torch.load(path, weights_only=True)
    edit(tensors)
    torch.save(tensors, path)


# What is read


def test_a_folder_and_its_file_give_the_same_weights():
    assert MUQ.load(str(DATA / "muq")).weights_hash() == MUQ.load(str(DATA / "muq" / "model.safetensors")).weights_hash()


def test_safetensors_and_pytorch_files_give_the_same_weights(folder):
    muq = folder("muq")
    torch.save(load_file(muq / "model.safetensors"), muq / "pytorch_model.bin")
    assert MUQ.load(str(muq / "pytorch_model.bin")).weights_hash() == MUQ.load(str(muq)).weights_hash()
    mert = folder("mert-95m")
    save_file(torch.load(mert / "pytorch_model.bin", weights_only=True), mert / "model.safetensors")
    assert MERT_95M.load(str(mert / "model.safetensors")).weights_hash() == MERT_95M.load(str(mert)).weights_hash()


def test_the_prefix_may_be_missing(folder):
    muq = folder("muq")
    tensors = load_file(muq / "model.safetensors")
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, muq / "model.safetensors")
    assert MUQ.load(str(muq)).weights_hash() == MUQ.load(str(DATA / "muq")).weights_hash()


def test_both_spellings_of_weight_norm_give_the_same_weights(folder):
    def respell(tensors):
        layer = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
        tensors[f"{layer}0"], tensors[f"{layer}1"] = tensors.pop(MAGNITUDE), tensors.pop(DIRECTION)

    mert = folder("mert-330m")
    before = MERT_330M.load(str(mert)).weights_hash()
    edit_pickle(mert / "pytorch_model.bin", respell)
    assert MERT_330M.load(str(mert)).weights_hash() == before


def test_weight_norm_is_that_of_torch():
    tensors = torch.load(DATA / "mert-95m" / "pytorch_model.bin", weights_only=True)
    expected = torch._weight_norm(tensors[DIRECTION], tensors[MAGNITUDE], 2)
    torch.testing.assert_close(MERT_95M.load(str(DATA / "mert-95m")).position.convolution.weight.data, expected)


def test_float_counters_become_integers():
    tensors = torch.load(DATA / "musicfm" / "pretrained_msd.pt", weights_only=True)["state_dict"]
    assert tensors["model.conv.conv.0.bn1.num_batches_tracked"].is_floating_point()
    counter = MUSICFM_MSD.load(str(DATA / "musicfm")).stem.first.bn1.num_batches_tracked
    assert counter is not None
    assert counter.dtype == torch.int64


def test_half_precision_weights_are_widened(folder):
    muq = folder("muq")
    save_file({k: x.half() for k, x in load_file(muq / "model.safetensors").items()}, muq / "model.safetensors")
    assert {weight.dtype for weight in MUQ.load(str(muq)).parameters()} == {torch.float32}


def test_musicfm_variants_read_their_own_files(folder):
    musicfm = folder("musicfm")
    (musicfm / "pretrained_msd.pt").rename(musicfm / "pretrained_fma.pt")
    stats = json.loads((musicfm / "msd_stats.json").read_text())
    (musicfm / "fma_stats.json").write_text(json.dumps(stats | {"melspec_2048_mean": 3.0}))
    assert MUSICFM_FMA.load(str(musicfm)).front_end.mean == 3.0
    with pytest.raises(MarbleError, match=r"pretrained_msd\.pt does not exist: musicfm-msd needs it from https://huggingface"):
        MUSICFM_MSD.load(str(musicfm))


# Faults in the tensors


@pytest.mark.parametrize(
    ("source", "name", "file"),
    [
        (MUQ, "muq", "model.safetensors"),
        (MUSICFM_MSD, "musicfm", "pretrained_msd.pt"),
        (OMAR_RQ["omar-rq-base"], "omar-rq-base", "model.ckpt"),
    ],
)
def test_truncated_files(source, name, file, folder):
    path = folder(name) / file
    content = path.read_bytes()
    for length in (len(content) // 2, len(content) - 1, 100):
        path.write_bytes(content[:length])
        with pytest.raises(MarbleError, match=f"{file} is truncated"):
            source.load(str(path.parent))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html>"])
def test_files_that_hold_no_weights(content, folder):
    path = folder("muq") / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(MarbleError, match="holds no weights: it is neither a safetensors nor a PyTorch file"):
        MUQ.load(str(path))


class Malice:
    def __reduce__(self):
        return Path.touch, (Path("malice.txt"),)


@pytest.mark.parametrize(
    "save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))], ids=["zip", "pickle"]
)
def test_a_pickle_that_carries_code_is_not_run(save, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder("mert-95m") / "pytorch_model.bin"
    save({"weight": torch.zeros(3), "code": Malice()}, path)
    with pytest.raises(MarbleError, match="carries code or objects besides tensors and is not opened"):
        MERT_95M.load(str(path.parent))
    assert not (tmp_path / "malice.txt").exists()


def container(kind):
    tensors, file = {"a.weight": torch.ones(2, 3), "b.count": torch.tensor(4)}, io.BytesIO()
    if kind == "safetensors":
        return save(tensors)
    torch.save(tensors, file, _use_new_zipfile_serialization=kind == "zip")
    return file.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["safetensors", "zip", "pickle"]), at=st.floats(0, 1), byte=st.integers(1, 255), cut=st.booleans())
def test_damage_never_escapes_as_another_error(kind, at, byte, cut, tmp_path):
    """A damaged byte of a weight may go unseen; one of the container is a user's error, never a traceback."""
    content = bytearray(container(kind))
    position = int(at * (len(content) - 1))
    content[position] ^= byte
    path = tmp_path / "damaged"
    path.write_bytes(content[: position + 1] if cut else content)
    with contextlib.suppress(MarbleError):
        read_checkpoint(path)


def test_a_file_of_something_else(folder):
    path = folder("mert-95m") / "pytorch_model.bin"
    torch.save([torch.zeros(3)], path)
    with pytest.raises(MarbleError, match="holds something other than named tensors"):
        MERT_95M.load(str(path))


def test_the_checkpoint_of_another_model(folder):
    mert = folder("mert-95m")
    shutil.copy(DATA / "omar-rq-base" / "model.ckpt", mert / "pytorch_model.bin")
    with pytest.raises(MarbleError, match="is not a checkpoint of this upstream: it has no tensor"):
        MERT_95M.load(str(mert))


def test_counters_of_batch_norms_may_be_missing(folder):
    path = folder("muq") / "model.safetensors"
    save_file({k: x for k, x in load_file(path).items() if not k.endswith("num_batches_tracked")}, path)
    waveform = torch.randn(1, 24_000)
    for one, other in zip(*(MUQ.load(str(place)).layers(waveform) for place in (path, DATA / "muq")), strict=True):
        assert torch.equal(one, other)


def test_a_file_that_changes_after_loading_changes_nothing(folder):
    path = folder("muq") / "model.safetensors"
    upstream, waveform = MUQ.load(str(path)), torch.randn(1, 24_000)
    before = list(upstream.layers(waveform))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    assert all(torch.equal(one, other) for one, other in zip(before, upstream.layers(waveform), strict=True))


@pytest.mark.parametrize("protocol", [4, 5])
def test_another_pickle_protocol_is_told_from_code(protocol, folder):
    path = folder("mert-95m") / "pytorch_model.bin"
    torch.save(torch.load(path, weights_only=True), path, pickle_protocol=protocol)
    with pytest.raises(MarbleError, match="is of another pickle protocol: save its tensors"):
        MERT_95M.load(str(path))


@pytest.mark.parametrize("spoil", [torch.Tensor.to_sparse, lambda tensor: tensor.to("meta")])
def test_tensors_without_plain_values(spoil, folder):
    path = folder("mert-95m") / "pytorch_model.bin"
    edit_pickle(path, lambda tensors: tensors.update({"encoder.layer_norm.bias": spoil(tensors["encoder.layer_norm.bias"])}))
    with pytest.raises(MarbleError, match="holds something other than named tensors"):
        MERT_95M.load(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value, folder):
    path = folder("mert-95m") / "pytorch_model.bin"
    edit_pickle(path, lambda tensors: tensors["encoder.layer_norm.bias"].fill_(value))
    with pytest.raises(MarbleError, match=r"has no finite floats for encoder\.layer_norm\.bias"):
        MERT_95M.load(str(path))


def test_a_tensor_under_two_names(folder):
    path = folder("mert-95m") / "pytorch_model.bin"
    edit_pickle(path, lambda tensors: tensors.update({"blocks.1.out.bias": torch.zeros(32)}))
    with pytest.raises(MarbleError, match=r"holds 'blocks\.1\.out\.bias' twice, under two names"):
        MERT_95M.load(str(path))


def test_weights_quantised_to_integers(folder):
    def quantise(tensors):
        tensors["encoder.layer_norm.bias"] = tensors["encoder.layer_norm.bias"].to(torch.int8)

    path = folder("mert-95m") / "pytorch_model.bin"
    edit_pickle(path, quantise)
    with pytest.raises(MarbleError, match=r"has no finite floats for encoder\.layer_norm\.bias"):
        MERT_95M.load(str(path))


def test_missing_unexpected_and_misshapen_tensors_are_named_together(folder):
    def spoil(tensors):
        del tensors["encoder.layers.1.attention.out_proj.bias"]
        tensors["encoder.layers.1.attention.extra"] = torch.zeros(1)
        tensors["encoder.layer_norm.bias"] = torch.zeros(3)

    path = folder("mert-95m") / "pytorch_model.bin"
    edit_pickle(path, spoil)
    expected = (
        r"it misses blocks\.1\.out\.bias; it has unexpected encoder\.layers\.1\.attention\.extra; "
        r"it has another shape for encoder\.layer_norm\.bias"
    )
    with pytest.raises(MarbleError, match=expected):
        MERT_95M.load(str(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda freqs: freqs * (1 + 1e-4),
        lambda freqs: 1 / 500_000 ** (torch.arange(4) / 4),
        lambda freqs: freqs[:2],
        lambda freqs: freqs.clone().fill_(float("nan")),
        torch.Tensor.int,
    ],
    ids=["scaled", "of another base", "fewer", "not finite", "of integers"],
)
def test_other_rotary_frequencies_than_those_computed(change, folder):
    path = folder("omar-rq-base") / "model.ckpt"
    name = "net.layers.1.attention.rotary_emb.freqs"
    edit_pickle(path, lambda tensors: tensors.update({name: change(tensors[name])}))
    with pytest.raises(
        MarbleError, match=r"its rotary frequencies net\.layers\.1\..* are not 10000\^\(-2i / 8\); get the"
    ) as caught:
        OMAR_RQ["omar-rq-base"].load(str(path))
    assert "\n" not in str(caught.value)


def test_rounded_rotary_frequencies_are_the_same(folder):
    path = folder("omar-rq-base") / "model.ckpt"
    edit_pickle(path, lambda tensors: tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()}))
    assert OMAR_RQ["omar-rq-base"].load(str(path)).info.parameters


def test_many_names_are_counted(folder):
    def spoil(tensors):
        tensors |= {f"extra.{i:02}": torch.zeros(1) for i in range(11)}

    path = folder("mert-95m") / "pytorch_model.bin"
    edit_pickle(path, spoil)
    with pytest.raises(MarbleError, match=r"extra\.07 and 3 more;"):
        MERT_95M.load(str(path))


# Files that claim more than they hold


def test_many_empty_tensors_are_read_in_one_pass(tmp_path, monkeypatch):
    """The file was opened once for each tensor, and its header read each time: over a minute."""
    path, opened, really = tmp_path / "many.safetensors", [], safetensors.safe_open
    save_file({f"t{i}": torch.empty(0) for i in range(1000)}, path)
    monkeypatch.setattr(safetensors, "safe_open", lambda *words, **more: opened.append(words) or really(*words, **more))
    assert len(read_checkpoint(path)) == 1000
    assert len(opened) == 2


def test_a_large_file_is_read_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_MAPPED_BYTES", 100)
    tensors = {f"t{i}": torch.full((7 * (i % 9),), float(i)) for i in range(50)}
    save_file(tensors, tmp_path / "file")
    read = read_checkpoint(tmp_path / "file")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("source", "name", "block"), [(MUQ, "muq", "model.conformer.layers"), (MERT_95M, "mert-95m", "encoder.layers")]
)
def test_a_block_of_a_huge_number(source, name, block, folder):
    path = folder(name) / next(iter(source.files))
    save_file(read_checkpoint(path) | {f"{block}.1000000000.weight": torch.zeros(1)}, path)
    with pytest.raises(MarbleError, match="names 1000000001 blocks, more than any model has"):
        source.load(str(path))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 50_000, '{"encoder_depth": ' + "9" * 5000 + "}"])
def test_a_config_that_is_deep_or_holds_a_long_number(content, folder):
    path = folder("muq") / "config.json"
    path.write_text(content)
    with pytest.raises(MarbleError, match=r"config\.json is not valid JSON \(.*\): download it again") as caught:
        MUQ.load(str(path.parent))
    assert "\n" not in str(caught.value)


def test_a_config_longer_than_any(folder):
    path = folder("muq") / "config.json"
    path.write_text(" " * (2 << 20))
    with pytest.raises(MarbleError, match=r"config\.json is too long for a configuration \(2097152 bytes\)"):
        MUQ.load(str(path.parent))


# Faults in the settings


@pytest.mark.parametrize(
    ("source", "name", "file", "changes", "sentence"),
    [
        (MUQ, "muq", "config.json", {"label_rate": 50}, "label_rate = 50, but marble implements 25 only"),
        (MUQ, "muq", "config.json", {"stat": {}}, "does not say 'melspec_2048_mean'"),
        (MUQ, "muq", "config.json", {"stat": 3}, "stat = 3, which is not an object"),
        (MUSICFM_MSD, "musicfm", "msd_stats.json", {"melspec_2048_std": "wide"}, "'wide', which is not a number"),
        (MUSICFM_MSD, "musicfm", "msd_stats.json", {"melspec_2048_std": float("nan")}, "nan, which is not a number"),
        (MERT_95M, "mert-95m", "config.json", {"feature_extractor_cqt": True}, "feature_extractor_cqt = True, but marble"),
        (MERT_95M, "mert-95m", "config.json", {"num_attention_heads": 7}, "num_attention_heads = 7, which does not divide"),
        (MERT_95M, "mert-95m", "preprocessor_config.json", {"sampling_rate": 16_000}, "sampling_rate = 16000, but marble"),
    ],
)
def test_settings_that_are_not_implemented_or_make_no_sense(source, name, file, changes, sentence, folder):
    path = folder(name)
    edit_json(path / file, **changes)
    with pytest.raises(MarbleError, match=sentence):
        source.load(str(path))


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_a_config_that_is_no_json_object(content, folder):
    path = folder("muq") / "config.json"
    path.write_text(content)
    with pytest.raises(MarbleError, match=r"config\.json (is not valid JSON|does not hold a JSON object)"):
        MUQ.load(str(path.parent))


def test_an_omar_rq_under_another_name():
    with pytest.raises(MarbleError, match=r"is not omar-rq-multifeature: it gives 25\.0 frames a second at 24000 Hz"):
        OMAR_RQ["omar-rq-multifeature"].load(str(DATA / "omar-rq-multifeature-25hz-fsq"))


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("%new_freq", "%no_such", r"does not say 'Waveform\.sr'"),
        ("use_rope = True", "use_rope = False", "use_rope = False, but marble implements True only"),
        ("@nets.waveform.Waveform", "@nets.cqt.CQT", "names the input @nets.cqt.CQT, but marble implements"),
        ("Waveform.norm_std", "Waveform.other", r"does not say 'Waveform\.norm_std'"),
        ("Conformer.num_heads = 8", "Conformer.num_heads = 7", "num_heads = 7, which does not divide"),
    ],
)
def test_gin_settings_are_needed_and_never_guessed(before, after, sentence, folder):
    path = folder("omar-rq-multifeature-25hz-fsq") / "config.gin"
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(MarbleError, match=sentence):
        OMAR_RQ["omar-rq-multifeature-25hz"].load(str(path.parent))


# Where files come from


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(MarbleError, match="does not exist: give muq:PATH the file or folder of OpenMuQ/MuQ-large-msd-iter"):
        MUQ.load(str(tmp_path / "nowhere"))


def hub_cache(tmp_path, monkeypatch, source, folder):
    """Lay files out as the cache of the hub does."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / f"models--{source.repository.replace('/', '--')}" / "snapshots" / source.revision
    shutil.copytree(folder, snapshot)
    return snapshot


def test_offline_and_missing_is_one_sentence_with_all_that_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MarbleError) as caught:
        MUQ.load(offline=True)
    sentence = str(caught.value)
    for part in (
        "muq has no model.safetensors",
        "marble is offline",
        f"OpenMuQ/MuQ-large-msd-iter/resolve/{MUQ.revision}/model.safetensors",
        "CC-BY-NC-4.0",
        "--upstream muq:FOLDER",
        str(tmp_path),
    ):
        assert part in sentence
    assert "\n" not in sentence


def test_the_cache_of_the_hub_is_read_and_compared_with_the_published_sha256(tmp_path, monkeypatch):
    content = {name: (DATA / "muq" / name).read_bytes() for name in ("model.safetensors", "config.json")}
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    source = replace(MUQ, repository="someone/something", revision="0" * 40, files=files)
    snapshot = hub_cache(tmp_path, monkeypatch, source, DATA / "muq")
    assert source.locate(None, offline=True) == [snapshot / "model.safetensors", snapshot / "config.json"]
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(MarbleError, match=r"config\.json is not the published config\.json \(another sha256\): delete it"):
        source.locate(None, offline=True)


def test_a_download_that_breaks_off_is_one_sentence(tmp_path, monkeypatch):
    class BrokenOff(Exception):
        """As the network libraries below the hub raise it: no error of the hub, none of the system, perhaps no text."""

    def breaks_off(*_, **__):
        raise BrokenOff

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hub_answers", lambda *, offline: True)
    monkeypatch.setattr(hub, "hf_hub_download", breaks_off)
    command = f"hf download OpenMuQ/MuQ-large-msd-iter model.safetensors --revision {MUQ.revision}"
    with pytest.raises(MarbleError, match=rf"muq cannot download model.safetensors \(BrokenOff.*{command}"):
        MUQ.load()


def test_what_the_cache_holds_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    source = OMAR_RQ["omar-rq-base"]
    snapshot = hub_cache(tmp_path, monkeypatch, replace(source, revision="c" * 40), DATA / "omar-rq-base")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("c" * 40)
    asked, found = [], hub.hf_hub_download

    def ask(repository, name, *, revision, local_files_only):
        asked.append(local_files_only)
        return found(repository, name, revision=revision, local_files_only=True)

    monkeypatch.setattr(hub, "hf_hub_download", ask)
    monkeypatch.setattr(hub, "hub_answers", lambda *, offline: not offline)
    assert source.locate(None, offline=False) == [snapshot / name for name in source.files]
    assert asked == [True, True]
    (snapshot / "model.ckpt").unlink()  # what is left may be of an older state, so both are asked for
    with pytest.raises(MarbleError, match=r"has no model\.ckpt in the Hugging Face cache and the hub cannot be reached"):
        source.locate(None, offline=False)
    assert asked == [True, True, False]


# What a file given by hand must agree with


@pytest.mark.parametrize(
    ("source", "name", "file", "before", "after", "sentence"),
    [
        (MUQ, "muq", "config.json", '"encoder_depth": 2', '"encoder_depth": 7', "says encoder_depth = 7, but"),
        (MUQ, "muq", "config.json", '"is_flash": false', '"is_flash": true', "says is_flash = True, but"),
        (MUQ, "muq", "config.json", '"layer_norm_eps": 1e-05', '"layer_norm_eps": 0.001', "says layer_norm_eps = 0.001, but"),
        (MUQ, "muq", "config.json", '"num_attention_heads": 16', '"num_attention_heads": 8', "num_attention_heads = 8, but"),
        (MUQ, "muq", "config.json", '"encoder_dim": 64', '"encoder_dim": 96', "says encoder_dim = 96, but"),
        (MERT_95M, "mert-95m", "config.json", '"num_hidden_layers": 2', '"num_hidden_layers": 3', "num_hidden_layers = 3, but"),
        (
            OMAR_RQ["omar-rq-base"],
            "omar-rq-base",
            "config.gin",
            "Conformer.depth = 2",
            "Conformer.depth = 5",
            "Conformer.depth = 5, but",
        ),
    ],
)
def test_the_config_is_believed_about_what_the_tensors_cannot_say_and_must_agree_with_them(
    source, name, file, before, after, sentence, folder
):
    path = folder(name) / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(MarbleError, match=sentence):
        source.load(str(path.parent))


def test_one_musicfm_is_not_taken_for_the_other():
    with pytest.raises(MarbleError, match=r"holds the weights of musicfm-msd: write --upstream musicfm-msd:.*msd\.pt"):
        MUSICFM_FMA.read(MUSICFM_FMA.info, DATA / "musicfm" / "pretrained_msd.pt", DATA / "musicfm" / "msd_stats.json")


@pytest.mark.parametrize(("source", "name"), [(MERT_95M, "mert-330m"), (MERT_330M, "mert-95m")])
def test_one_mert_is_not_taken_for_the_other(source, name):
    with pytest.raises(MarbleError, match="says do_stable_layer_norm"):
        source.load(str(DATA / name))


def test_a_file_given_by_hand_is_the_source(folder):
    muq = MUQ.load(str(folder("muq")))
    assert muq.info.source.endswith(f"model.safetensors, given for {MUQ.info.source}")
    assert muq.info.source.startswith("/")


@pytest.mark.parametrize("std", [0, -3.0])
def test_decibels_have_a_positive_deviation(folder, std):
    path = folder("muq") / "config.json"
    edit_json(path, stat=json.loads(path.read_text())["stat"] | {"melspec_2048_std": std})
    with pytest.raises(MarbleError, match=r"model.safetensors is not a checkpoint of muq .*: download it again"):
        MUQ.load(str(path.parent))


def test_what_was_prepared_in_one_precision_is_not_prepared_in_another():
    muq = MUQ.load(str(DATA / "muq")).prepare("cpu", "bf16")
    assert muq.prepare("cpu", "bf16") is muq
    with pytest.raises(MarbleError, match="muq was prepared in bf16: load it again for fp32"):
        muq.prepare("cpu", "fp32")
