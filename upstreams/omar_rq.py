"""OMAR-RQ (Alonso-Jiménez et al. 2025, arXiv 2507.03482): five Conformers that predicted codes of masked audio.

Conventions
-----------
- Layer 0 is the linear embedding of the patches, layers 1 to 24 the block outputs (official block index i is layer i + 1).
- Two inputs: patches of 4 frames of a 96-band log-mel spectrogram at 16 kHz, flattened band by band; or patches of 1280 or 960
  samples at 24 kHz, normalised where the configuration says so. A trailing incomplete patch is dropped.
- Attention is *causal*: the first frames of a window know little. The depthwise convolution is not, and spans 31 frames
  although the configuration says 5. Feed-forwards count four times; only the attention has DeepNorm.
- Rotary positions are exact (float32), as in the official inference code; training ran under bfloat16, which rounds them.
- The models saw audio band-limited to 8 kHz, at 24 kHz too.
- Settings come from the ``config.gin`` of the checkpoint, sizes from its tensors; nothing is guessed. The rotary frequencies in
  a checkpoint must be those that are computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, PositiveFloat, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn import functional

from marble.errors import MarbleError
from marble.upstream import UpstreamInfo
from marble.upstreams.loading.gin import read_gin
from marble.upstreams.loading.hub import Published
from marble.upstreams.loading.saved import SavedUpstream, Trained, first_fault
from marble.upstreams.loading.weights import MOST_BLOCKS, MOST_UNITS, Checkpoint, Settings, fill, read_checkpoint
from marble.upstreams.network import block_layers
from marble.upstreams.nn.conformer import ConformerBlock, ConformerSizes, ConformerStyle
from marble.upstreams.nn.patches import OMAR_MEL, MelInput, MelPatches, Strict, WaveformInput, WaveformPatches
from marble.upstreams.nn.precision import Linear
from marble.upstreams.nn.rotary import rotary_frequencies, rotary_table

STYLE = ConformerStyle(
    rotate_input=False,
    pairing="interleaved",
    causal=True,
    activation=functional.gelu,
    feed_forward_factor=4.0,
    deepnorm=1.0,
    attention_bias=False,
    convolution_bias=True,
    branch_eps=6.1e-5,
    attention_dropout=False,
)

NAMES = (
    ("embedding_layer.", "embedding."),
    ("net.layers.", "blocks."),
    (".ff1.module.0.", ".feed_forward1.norm."),
    (".ff1.module.1.", ".feed_forward1.up."),
    (".ff1.module.4.", ".feed_forward1.down."),
    (".ff2.module.0.", ".feed_forward2.norm."),
    (".ff2.module.1.", ".feed_forward2.up."),
    (".ff2.module.4.", ".feed_forward2.down."),
    (".attention.proj.", ".attention.out."),
    (".norm1.layer_norm.", ".attention.norm."),
    (".conv_block.layer_norm.", ".convolution.norm."),
    (".conv_block.module.0.", ".convolution.expand."),
    (".conv_block.module.2.", ".convolution.depthwise."),
    (".conv_block.module.3.", ".convolution.batch_norm."),
    (".conv_block.module.5.", ".convolution.project."),
    (".norm2.", ".norm."),
)

FREQUENCIES = r"blocks\.\d+\.attention\.rotary_emb\.freqs$"


class OmarRQConfig(Strict):
    """Everything that shapes an OMAR-RQ; the factors are the weights of the feed-forwards and of the stream in DeepNorm."""

    input: Annotated[MelInput | WaveformInput, Field(discriminator="kind")]
    sizes: ConformerSizes
    feed_forward_factor: PositiveFloat = 4.0
    deepnorm: PositiveFloat
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        patches, sizes = self.input.model_dump(), asdict(self.sizes)
        most = {"depth": MOST_BLOCKS, "sample_rate": 1 << 20}
        for name, value in (patches | sizes).items():
            if isinstance(value, int) and value > most.get(name, MOST_UNITS):
                raise ValueError(f"{name} must be at most {most.get(name, MOST_UNITS)}")
        if patches.get("bands", 0) * patches.get("size", 0) > 1 << 24:
            raise ValueError("the mel filters must be at most 16 M numbers")
        return self

    @property
    def patches(self) -> MelPatches | WaveformPatches:
        """The front end, new."""
        return MelPatches(self.input) if isinstance(self.input, MelInput) else WaveformPatches(self.input)


def _config(front_end: MelInput | WaveformInput, width: int, depth: int, hidden: int, dropout: float = 0.2) -> OmarRQConfig:
    sizes = ConformerSizes(width=width, depth=depth, heads=8, hidden=hidden)
    return OmarRQConfig(input=front_end, sizes=sizes, deepnorm=(2 * depth) ** 0.25, dropout=dropout)


CONFIGS = {
    "omar-rq-base": _config(OMAR_MEL, 1024, 24, 4096),
    "omar-rq-multicodebook": _config(OMAR_MEL, 1024, 24, 4096),
    "omar-rq-multifeature": _config(WaveformInput(sample_rate=24_000, samples=1280), 1024, 24, 4096),
    "omar-rq-multifeature-25hz": _config(WaveformInput(sample_rate=24_000, samples=960), 1024, 24, 4096),
    "omar-rq-multifeature-25hz-fsq": _config(
        WaveformInput(sample_rate=24_000, samples=960, std=0.1908563740990311), 1024, 24, 4096
    ),
    "omar-rq-tiny": _config(OMAR_MEL, 160, 6, 480, dropout=0.0),
}


class OmarRQ(SavedUpstream):
    """An OMAR-RQ of a configuration, weights as before training; the five published models and those that marble trains."""

    architecture = "omar-rq"
    patches: MelPatches | WaveformPatches  # ty: ignore[incompatible-mutable-override]
    info = UpstreamInfo(
        name="omar-rq",
        sample_rate=0,
        frame_rate=0.0,
        layers=(),
        licence="that of the weights",
        training_data="that of the weights",
        paper="Alonso-Jiménez et al. 2025, OMAR-RQ: Open Music Audio Representation Model Trained with Multi-Feature "
        "Masked Token Prediction (arXiv 2507.03482)",
        source="marble pretrain",
        max_seconds=30.0,
        precisions=("fp32", "bf16"),
    )

    def __init__(self, name: str, config: OmarRQConfig):
        super().__init__()
        self.config = config
        self.settings = (config.model_dump_json(),)
        sizes = config.sizes
        factors = {"feed_forward_factor": config.feed_forward_factor, "deepnorm": config.deepnorm, "dropout": config.dropout}
        style = replace(STYLE, **factors)
        self.patches = config.patches
        self.embedding = Linear(self.patches.width, sizes.width)
        self.blocks = nn.ModuleList(ConformerBlock(sizes, style) for _ in range(sizes.depth))
        self.head_width = sizes.width // sizes.heads
        self.info = replace(self.info, name=name, **_rates(self.patches))
        self.count("embedding", sizes.depth, sizes.width)
        self._shrink((8 * sizes.depth) ** -0.25 / 12)

    def _shrink(self, factor: float) -> None:
        """Shrink the weights that DeepNorm starts small; the official training had a twelfth of DeepNorm's own factor."""
        for name, weight in self.blocks.named_parameters():
            if name.endswith(("up.weight", "down.weight", "attention.value.weight", "attention.out.weight")):
                weight.data.mul_(factor)

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> Self:
        """Return the architecture of a configuration, weights as before training; a `ValidationError` if it is invalid."""
        return cls(name, OmarRQConfig.model_validate(config))

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield embedding and blocks of a waveform ``Tensor[B, N]``, each ``Tensor[B, T, D]`` in float32."""
        return self.encode(self.patches(waveform))

    def encode(self, patches: Tensor) -> Iterator[Tensor]:
        """Yield embedding and blocks of patches ``Tensor[B, T, P]``, which training masks, each ``Tensor[B, T, D]``."""
        x = self.embedding(patches).float()
        yield x
        table = rotary_table(x.shape[1], self.head_width, x.device)
        for block in self.blocks:
            x = block(x, table)
            yield x


def read_omar_rq(info: UpstreamInfo, weights: Path, config: Path) -> OmarRQ:
    """Return the network of ``model.ckpt`` and ``config.gin``.

    Raises:
        MarbleError: a file is damaged, or does not fit the other or this architecture.
    """
    settings = read_gin(config)
    upstream = from_checkpoint(info, read_checkpoint(weights), settings)
    settings.demand(**{"Conformer.depth": len(upstream.blocks)})
    return upstream


def from_checkpoint(info: UpstreamInfo, checkpoint: Checkpoint, settings: Settings) -> OmarRQ:
    """Return the network with official weights; sizes are read from the tensors, the rest from the settings.

    Raises:
        MarbleError: tensors or settings are missing, impossible, or those of another model than `info` describes.
    """
    named = _ours(checkpoint)
    hidden, width = named["blocks.0.feed_forward1.up.weight"].shape
    settings.demand(**{"Conformer.use_rope": True, "Conformer.use_deepnorm": True, "Conformer.embed_dim": width})
    alpha, factor = settings.numbers("Conformer.alpha_deepnorm", "Conformer.mlp_residual_factor")
    sizes = ConformerSizes(
        width=width,
        depth=named.depth("blocks."),
        heads=settings.heads("Conformer.num_heads", width),
        hidden=hidden,
        kernel=named["blocks.0.convolution.depthwise.weight"].shape[-1],
    )
    try:
        patches = _input(settings, named["embedding.weight"].shape[1])
        config = OmarRQConfig(input=patches, sizes=sizes, feed_forward_factor=factor, deepnorm=alpha)
    except ValidationError as error:
        raise MarbleError(f"{settings.path} cannot be right ({first_fault(error)}): download it again.") from error
    with torch.device("meta"):
        upstream = OmarRQ(info.name, config)
    if upstream.info.frame_rate != info.frame_rate or upstream.info.sample_rate != info.sample_rate:
        raise MarbleError(
            f"{settings.path} is not {info.name}: it gives {upstream.info.frame_rate} frames a second at "
            f"{upstream.info.sample_rate} Hz instead of {info.frame_rate} at {info.sample_rate} Hz; "
            "use the upstream with the name of its repository."
        )
    _compare_frequencies(named, upstream.head_width)
    fill(upstream, named, ignored=(FREQUENCIES,))
    return upstream


def _compare_frequencies(named: Checkpoint, head_width: int) -> None:
    """Compare the rotary frequencies of a file with those that are computed in their place, up to the rounding of its type."""
    ours = rotary_frequencies(head_width, torch.device("cpu"))
    for name in filter(re.compile(FREQUENCIES).match, named):
        stored = named[name]
        tolerance = max(1e-5, torch.finfo(stored.dtype).eps) if stored.is_floating_point() else 0.0
        if stored.shape != ours.shape or not torch.allclose(stored.float(), ours, rtol=tolerance, atol=0):
            raise MarbleError(
                f"{named.path} is no OMAR-RQ that marble implements: its rotary frequencies {named.official[name]} are not "
                f"10000^(-2i / {head_width}); get the checkpoint as it was published."
            )


def _ours(checkpoint: Checkpoint) -> Checkpoint:
    """Return the tensors under marble's names, the joint query-key-value projection cut in three."""
    named = checkpoint.renamed(NAMES).with_pointwise_as_linear()
    for block in range(named.depth("blocks.")):
        joint = named[f"blocks.{block}.attention.qkv.weight"]
        for part, weight in zip(("query", "key", "value"), joint.chunk(3), strict=True):
            named[f"blocks.{block}.attention.{part}.weight"] = weight.contiguous()
        del named[f"blocks.{block}.attention.qkv.weight"]
    return named


def _input(settings: Settings, width: int) -> MelInput | WaveformInput:
    """Return the front end that the settings name; `width` is that of a patch."""
    source = settings.get("MaskingModel.input_representation") or settings["build_module.representation"]
    kind = str(source).rpartition(".")[2]
    if kind == "MelSpectrogram":
        settings.demand(**{"MelSpectrogram.mel_scale": "slaney", "MelSpectrogram.norm": "slaney", "MelSpectrogram.power": 2})
        names = ("sr", "win_len", "hop_len", "n_mel", "norm_mean", "norm_std")
        rate, size, hop, bands, mean, std = settings.numbers(*(f"MelSpectrogram.{name}" for name in names))
        frames = width // int(bands)
        return MelInput(
            sample_rate=int(rate), size=int(size), hop=int(hop), bands=int(bands), frames=frames, mean=mean, std=std
        )
    if kind == "Waveform":
        (rate,) = settings.numbers("Waveform.sr")
        if settings["Waveform.norm_mean"] is None or settings["Waveform.norm_std"] is None:
            return WaveformInput(sample_rate=int(rate), samples=width)
        mean, std = settings.numbers("Waveform.norm_mean", "Waveform.norm_std")
        return WaveformInput(sample_rate=int(rate), samples=width, mean=mean, std=std)
    raise MarbleError(f"{settings.path} names the input {source}, but marble implements MelSpectrogram and Waveform only.")


def _rates(patches: MelPatches | WaveformPatches) -> dict[str, Any]:
    """Return the fields of `UpstreamInfo` that the front end decides."""
    rate = patches.sample_rate
    return {
        "sample_rate": rate,
        "frame_rate": rate / patches.hop,
        "first_frame": patches.first_centre / rate,
        "min_seconds": patches.min_samples / rate,
    }


def _published(name: str, parameters: int) -> Published:
    """Return one of `CONFIGS` whose weights are published."""
    config = CONFIGS[name]
    return Published(
        info=replace(
            OmarRQ.info,
            name=name,
            parameters=parameters,
            layers=block_layers("embedding", config.sizes.depth, config.sizes.width),
            licence="CC-BY-NC-SA-4.0 (weights)",
            training_data="330 000 h of music (6.6 M YouTube tracks matched with Discogs), 30 s clips",
            trained_on=("commercial releases", "YouTube", "unlisted recordings"),
            source=f"https://huggingface.co/mtg-upf/{name}",
            **_rates(config.patches),
        ),
        # No commit or checksum of these repositories is published anywhere: their current state is taken.
        repository=f"mtg-upf/{name}",
        revision="main",
        files={"model.ckpt": None, "config.gin": None},
        read=read_omar_rq,
        draw=partial(OmarRQ, name, config),
    )


# Mel input with targets of one codebook and of four (15.625 Hz); waveform input with targets of four features, at 18.75 Hz, at
# 25 Hz, and by finite scalar quantisation; and the architecture with mel input for a laptop, to be pretrained.
OMAR_RQ = {
    "omar-rq-base": _published("omar-rq-base", 580_633_600),
    "omar-rq-multicodebook": _published("omar-rq-multicodebook", 580_633_600),
    "omar-rq-multifeature": _published("omar-rq-multifeature", 581_551_104),
    "omar-rq-multifeature-25hz": _published("omar-rq-multifeature-25hz", 581_223_424),
    "omar-rq-multifeature-25hz-fsq": _published("omar-rq-multifeature-25hz-fsq", 581_223_424),
    "omar-rq-tiny": Trained("omar-rq-tiny", partial(OmarRQ, "omar-rq-tiny", CONFIGS["omar-rq-tiny"])),
}
