"""At full size every upstream takes exactly the tensors of its published file.

The lists of names and shapes are spelled out below from the published layouts, and pinned by the sha256 of the published
files' own lists. Everything is on the meta device: shapes without memory. Where the lists themselves lie beside the
repository (``../shared/facts/checkpoints``), they are loaded too.
"""

import ast
import hashlib
import math
from pathlib import Path

import pytest
import torch

from marble.errors import MarbleError
from marble.registry import find_upstream
from marble.upstreams.loading.weights import Checkpoint, Settings
from marble.upstreams.mert import from_checkpoint as mert_from_checkpoint
from marble.upstreams.musicfm import from_checkpoint as musicfm_from_checkpoint
from marble.upstreams.omar_rq import from_checkpoint as omar_rq_from_checkpoint

LISTS = Path(__file__).parents[3] / "shared" / "facts" / "checkpoints"
NOWHERE = Path("official file")


def numel(shapes):
    return sum(math.prod(shape) for shape in shapes.values())


def affine(name, *shape, bias=True):
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def batch_norm(name, width):
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return affine(name, width) | statistics


def mel_conformer(codes):
    shapes = {"cls_token": (1024,)} | affine("linear", codes, 1024) | affine("conv.linear", 1024, 16384)
    for i, inputs in enumerate((1, 512)):
        for k, channels in ((1, inputs), (2, 512), (3, inputs)):
            shapes |= affine(f"conv.conv.{i}.conv{k}", 512, channels, 3, 3) | batch_norm(f"conv.conv.{i}.bn{k}", 512)
    shapes |= {"conformer.embed_positions.inv_freq": (32,), "conformer.pos_conv_embed.conv.bias": (1024,)}
    shapes |= affine("conformer.layer_norm", 1024)
    for i in range(12):
        at = f"conformer.layers.{i}"
        for norm in (
            "ffn1_layer_norm",
            "self_attn_layer_norm",
            "conv_module.layer_norm",
            "ffn2_layer_norm",
            "final_layer_norm",
        ):
            shapes |= affine(f"{at}.{norm}", 1024)
        for ffn in ("ffn1", "ffn2"):
            shapes |= affine(f"{at}.{ffn}.intermediate_dense", 4096, 1024) | affine(f"{at}.{ffn}.output_dense", 1024, 4096)
        for part in "q", "k", "v", "out":
            shapes |= affine(f"{at}.self_attn.linear_{part}", 1024, 1024)
        shapes |= affine(f"{at}.conv_module.pointwise_conv1", 2048, 1024, 1, bias=False)
        shapes |= affine(f"{at}.conv_module.depthwise_conv", 1024, 1, 31, bias=False)
        shapes |= affine(f"{at}.conv_module.pointwise_conv2", 1024, 1024, 1, bias=False)
        shapes |= batch_norm(f"{at}.conv_module.batch_norm", 1024)
    return shapes


def muq():
    shapes = mel_conformer(8192)
    shapes["conformer.pos_conv_embed.conv.parametrizations.weight.original0"] = (1, 1, 128)
    shapes["conformer.pos_conv_embed.conv.parametrizations.weight.original1"] = (1024, 64, 128)
    for i in range(8):
        at = f"rvq.quantizers.{i}"
        shapes |= {f"{at}.codebook.weight": (1024, 16), f"{at}.stale_counter": (1024,)}
        for name, rows, columns in (("in_proj", 16, 512), ("out_proj", 512, 16)):
            shapes |= {f"{at}.{name}.weight_g": (rows, 1, 1), f"{at}.{name}.weight_v": (rows, columns, 1)}
            shapes |= {f"{at}.{name}.bias": (rows,)}
    return {f"model.{name}": shape for name, shape in shapes.items()}


def musicfm():
    shapes = mel_conformer(4096)
    shapes |= {"conformer.pos_conv_embed.conv.weight_g": (1, 1, 128)}
    shapes |= {"conformer.pos_conv_embed.conv.weight_v": (1024, 64, 128)}
    shapes |= {"quantizer_melspec_2048_0.random_projection": (512, 16), "quantizer_melspec_2048_0.codebook": (4096, 16)}
    shapes["preprocessor_melspec_2048.mel_stft.spectrogram.window"] = (2048,)
    shapes["preprocessor_melspec_2048.mel_stft.mel_scale.fb"] = (1025, 128)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def mert(width, depth, hidden, magnitude="weight_g", direction="weight_v"):
    shapes = {"masked_spec_embed": (width,), "encoder.pos_conv_embed.conv.bias": (width,)}
    shapes[f"encoder.pos_conv_embed.conv.{magnitude}"] = (1, 1, 128)
    shapes[f"encoder.pos_conv_embed.conv.{direction}"] = (width, width // 16, 128)
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] = (512, 512 if i else 1, kernel)
    shapes |= affine("feature_extractor.conv_layers.0.layer_norm", 512)
    shapes |= affine("feature_projection.layer_norm", 512) | affine("feature_projection.projection", width, 512)
    shapes |= affine("encoder.layer_norm", width)
    for i in range(depth):
        at = f"encoder.layers.{i}"
        for part in "k", "v", "q", "out":
            shapes |= affine(f"{at}.attention.{part}_proj", width, width)
        shapes |= affine(f"{at}.layer_norm", width) | affine(f"{at}.final_layer_norm", width)
        shapes |= affine(f"{at}.feed_forward.intermediate_dense", hidden, width)
        shapes |= affine(f"{at}.feed_forward.output_dense", width, hidden)
    return shapes


def omar_rq(patch):
    shapes = affine("embedding_layer", 1024, patch)
    for i in range(24):
        at = f"net.layers.{i}"
        for name in "ff1", "ff2":
            shapes |= affine(f"{at}.{name}.module.0", 1024) | affine(f"{at}.{name}.module.1", 4096, 1024)
            shapes |= affine(f"{at}.{name}.module.4", 1024, 4096)
        shapes |= affine(f"{at}.attention.qkv", 3072, 1024, bias=False) | affine(f"{at}.attention.proj", 1024, 1024)
        shapes |= {f"{at}.attention.rotary_emb.freqs": (64,)} | affine(f"{at}.conv_block.layer_norm", 1024)
        shapes |= affine(f"{at}.conv_block.module.0", 2048, 1024, 1) | affine(f"{at}.conv_block.module.2", 1024, 1, 31)
        shapes |= batch_norm(f"{at}.conv_block.module.3", 1024) | affine(f"{at}.conv_block.module.5", 1024, 1024, 1)
        shapes |= affine(f"{at}.norm1.layer_norm", 1024) | affine(f"{at}.norm2", 1024)
    return shapes


MERT_SETTINGS = {
    "feat_extract_norm": "group",
    "feat_proj_layer_norm": True,
    "feature_extractor_cqt": False,
    "deepnorm": False,
    "conv_bias": False,
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
OMAR_SETTINGS = {
    "Conformer.use_rope": True,
    "Conformer.use_deepnorm": True,
    "Conformer.embed_dim": 1024,
    "Conformer.alpha_deepnorm": 2.6321480259049848,
    "Conformer.mlp_residual_factor": 4.0,
    "Conformer.num_heads": 8,
    "Waveform.sr": 24_000,
    "Waveform.norm_mean": None,
    "Waveform.norm_std": None,
    "MelSpectrogram.sr": 16_000,
    "MelSpectrogram.win_len": 512,
    "MelSpectrogram.hop_len": 256,
    "MelSpectrogram.n_mel": 96,
    "MelSpectrogram.norm_mean": 2.06755686098554,
    "MelSpectrogram.norm_std": 1.268292820667291,
    "MelSpectrogram.mel_scale": "slaney",
    "MelSpectrogram.norm": "slaney",
    "MelSpectrogram.power": 2,
}
MEL = {"build_module.representation": "@nets.melspectrogram.MelSpectrogram"}
WAVE = {"MaskingModel.input_representation": "@nets.waveform.Waveform"}

# Upstream, its list, tensors in the file, numbers in the file (buffers included), what the loader is told beside the tensors.
PUBLISHED = [
    ("muq", muq(), 525, None, (6.768444971712967, 18.417922652295623)),
    ("musicfm-msd", musicfm(), 465, None, (6.768444971712967, 18.417922652295623)),
    ("musicfm-fma", musicfm(), 465, None, (3.0710578151459664, 20.999089814337626)),
    ("mert-95m", mert(768, 12, 3072), 211, 94_371_712, {"num_attention_heads": 12, "do_stable_layer_norm": False}),
    ("mert-330m", mert(1024, 24, 4096), 403, 315_428_992, {"num_attention_heads": 16, "do_stable_layer_norm": True}),
    ("omar-rq-base", omar_rq(384), 794, 580_684_312, MEL),
    ("omar-rq-multicodebook", omar_rq(384), 794, 580_684_312, MEL),
    ("omar-rq-multifeature", omar_rq(1280), 794, 581_601_816, WAVE),
    ("omar-rq-multifeature-25hz", omar_rq(960), 794, 581_274_136, WAVE),
    ("omar-rq-multifeature-25hz-fsq", omar_rq(960), 794, 581_274_136, WAVE),
]
ids = [name for name, *_ in PUBLISHED]


def load(name, shapes, extra):
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    # The values of these alone are read.
    tensors |= {key: 10_000 ** -(torch.arange(64) / 64) for key in tensors if key.endswith("rotary_emb.freqs")}
    checkpoint = Checkpoint(tensors, NOWHERE)
    info = find_upstream(name).info
    if isinstance(extra, tuple):
        upstream = musicfm_from_checkpoint(info, checkpoint, *extra)
    elif name.startswith("mert"):
        settings = Settings(MERT_SETTINGS | extra, NOWHERE)
        upstream = mert_from_checkpoint(checkpoint, settings, pre_norm=extra["do_stable_layer_norm"])
    else:
        upstream = omar_rq_from_checkpoint(info, checkpoint, Settings(OMAR_SETTINGS | extra, NOWHERE))
    return upstream.attribute_to(info)


@pytest.mark.parametrize(("name", "shapes", "tensors", "numbers", "extra"), PUBLISHED, ids=ids)
def test_the_published_tensors_fill_the_full_size_build(name, shapes, tensors, numbers, extra):
    assert len(shapes) == tensors
    assert numbers is None or numel(shapes) == numbers
    loaded = load(name, shapes, extra)
    with torch.device("meta"):
        drawn = find_upstream(name).random()
    ours = {key: tensor.shape for key, tensor in loaded.state_dict().items()}
    assert ours == {key: tensor.shape for key, tensor in drawn.state_dict().items()}
    assert loaded.info == drawn.info == find_upstream(name).info


@pytest.mark.parametrize(("name", "shapes", "tensors", "numbers", "extra"), PUBLISHED, ids=ids)
def test_every_tensor_that_counts_is_demanded(name, shapes, tensors, numbers, extra):
    """Of each kind of tensor, the absence of one that the hidden states need is an error that names it."""
    live = {"0.weight", "1.weight", "norm2.bias", "linear_k.bias", "bn3.running_var", "k_proj.weight", "module.2.bias"}
    for ending in live:
        key = next((key for key in reversed(shapes) if key.endswith(ending) and "rvq" not in key), None)
        if key is not None:
            with pytest.raises(MarbleError, match=r"misses|has no tensor"):
                load(name, {other: shape for other, shape in shapes.items() if other != key}, extra)


@pytest.mark.parametrize(("name", "shapes", "tensors", "numbers", "extra"), PUBLISHED, ids=ids)
def test_a_tensor_too_many_is_named(name, shapes, tensors, numbers, extra):
    with pytest.raises(MarbleError, match=r"unexpected stray\.weight"):
        load(name, shapes | {"stray.weight": (3,)}, extra)


def listed(shapes):
    return hashlib.sha256("\n".join(sorted(f"{key} {tuple(shape)}" for key, shape in shapes.items())).encode()).hexdigest()


NEW_SPELLING = ("parametrizations.weight.original0", "parametrizations.weight.original1")
LISTED = {
    "muq": (muq(), "72a8f6e486c415dd96fd038ae302b536837cfcf14e75569de8610b737cb886bf"),
    "mert-95m": (mert(768, 12, 3072, *NEW_SPELLING), "3831bc70e7b254081d54b836cfff02c329c31181f19cf0965a57643d495a9c76"),
    "mert-330m": (mert(1024, 24, 4096, *NEW_SPELLING), "687b5e3257987ec562b2526ecdd9743be17a7def62cda306be6d451361d586bb"),
}


@pytest.mark.parametrize("name", LISTED)
def test_the_lists_above_are_the_published_ones(name):
    shapes, digest = LISTED[name]
    assert listed(shapes) == digest
    if not LISTS.exists():
        pytest.skip("the published lists of names do not lie beside the repository; their sha256 agrees")
    rows = [line.split("\t") for line in (LISTS / f"{name}.keys.tsv").read_text().splitlines()]
    assert {row[0]: ast.literal_eval(row[1]) for row in rows} == shapes
