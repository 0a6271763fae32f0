"""Recipes of pretraining, as data.

Conventions
-----------
- Times in seconds, learning rates for one optimiser step of `batch` clips, however many processes share them.
- `Recipe.source` names the paper and the numbers of its table; `Recipe.assumptions` state what no paper does.
- ``--set batch=32``, ``--set optimiser.learning_rate=1e-3``, ``--set targets.0.codes=1024`` replace one value; every
  checkpoint holds the recipe that trained it.
- A recipe without `mask` trains a quantiser (Mel-RVQ) instead of an upstream; `upstream` then gives the features.
- ``-tiny`` recipes are for a laptop: small encoder, short clips, few steps; where the objective differs, `assumptions` say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveInt

from marble.pretraining.masking import Fill, WindowMask
from marble.registry import recipes
from marble.settings import STRICT, Positive, change, validated


class Mask(BaseModel):
    """The masks; fields as in `marble.pretraining.masking.WindowMask`.

    The fill ``shuffle`` is of OMAR-RQ's code, unused here.
    """

    model_config = STRICT
    domain: Literal["waveform", "patches"] = "waveform"
    window: PositiveInt = 10
    probability: Annotated[float, Field(gt=0, le=1)] = 0.6
    fill: Fill = "noise"
    tail: bool = False

    def rule(self) -> WindowMask:
        """Return the rule that draws and applies the masks."""
        return WindowMask(self.window, self.probability, self.fill, tail=self.tail)


class TargetSpec(BaseModel):
    """One set of tokens: a feature of the clean waveform and its quantiser.

    Attributes:
        feature: ``stacked-mel`` (as the front end of the upstream normalises it), OMAR-RQ's ``mel``, ``cqt``, ``encodec`` or
            ``waveform``, or ``latents`` of another upstream.
        quantiser: random projection, FSQ, or a trained Mel-RVQ.
        codes: of a codebook; of an FSQ they follow from `levels` and `dimensions`.
        formula: of an FSQ; ``paper`` is of OMAR-RQ's paper, unused here.
        weights: path of the trained quantiser.
        upstream: spec of the upstream whose latents are the feature.
        layer: of these latents.
        mean, std: of a ``mel``, ``cqt`` or ``waveform``; None are those that OMAR-RQ has beside random projections, where the
            waveform stays as it is.
    """

    model_config = STRICT
    feature: Literal["stacked-mel", "mel", "cqt", "encodec", "waveform", "latents"] = "stacked-mel"
    quantiser: Literal["random-projection", "fsq", "mel-rvq"] = "random-projection"
    codes: PositiveInt = 8192
    codebooks: PositiveInt = 1
    dimensions: PositiveInt = 16
    levels: PositiveInt = 6
    formula: Literal["code", "paper"] = "code"
    seed: int = 142
    weights: str | None = None
    upstream: str | None = None
    layer: int = 10
    mean: Annotated[float, Field(allow_inf_nan=False)] | None = None
    std: Positive | None = None


class Optimiser(BaseModel):
    """Adam, or AdamW where `weight_decay` is not 0, and the schedule of its learning rate.

    The rate rises linearly over `warmup` steps and decays over `horizon` steps in all (the steps of the recipe where None) to
    `final_learning_rate`; gradients are scaled to the norm `clip` at most.
    """

    model_config = STRICT
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    final_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    warmup: Annotated[int, Field(ge=0)] = 0
    horizon: PositiveInt | None = None
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] | None = None


class Recipe(BaseModel):
    """The training of one upstream or quantiser.

    `recompute` and `shard` are for less memory than the papers', `average` for longer trainings; no shipped recipe sets them.

    Attributes:
        upstream: architecture, a name of `marble ls upstreams`; of a Mel-RVQ, the upstream whose mel it quantises.
        seconds: length of a segment.
        random_channel: whether a segment is one channel of its recording, drawn at random, instead of their mean.
        batch: clips of one optimiser step, over all processes.
        micro_batch: clips that one process encodes at once; the rest of its share is accumulated.
        precision: ``bf16`` computes under autocast with float32 weights, ``auto`` does so on a GPU.
        unmasked: weight in the loss of an unmasked token; a masked one has 1.
        standardise: targets are made of features whose every dimension has mean 0 and variance 1 in the data, as BEST-RQ asks,
            instead of the mean and std of the upstream or of a corpus, one number each.
        frozen_stem: the convolutions of the stem stay random, its linear is their principal components, and neither is trained
            (see `marble.pretraining.calibration`).
        recompute: activation checkpointing: blocks are computed again in the backward pass instead of being kept.
        shard: spread weights and optimiser over the processes (FSDP2) instead of copying them (DDP).
        average: weight of the past in an exponential moving average of the weights, which is then saved in their place.
    """

    model_config = STRICT
    name: str
    upstream: str
    source: str
    assumptions: tuple[str, ...] = ()
    mask: Mask | None = Mask()
    targets: Annotated[tuple[TargetSpec, ...], Field(min_length=1)] = (TargetSpec(),)
    regression: bool = False
    unmasked: Annotated[float, Field(ge=0, le=1)] = 0.0
    standardise: bool = False
    frozen_stem: bool = False
    optimiser: Optimiser = Optimiser()
    seconds: Annotated[float, Field(ge=0.5, allow_inf_nan=False)] = 30.0
    random_channel: bool = False
    batch: PositiveInt
    micro_batch: PositiveInt
    steps: PositiveInt
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    recompute: bool = False
    shard: bool = False
    average: Annotated[float, Field(gt=0, lt=1)] | None = None

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        peak, end, warmup = self.optimiser.learning_rate, self.optimiser.final_learning_rate, self.optimiser.warmup
        if step < warmup:
            return peak * (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, (self.optimiser.horizon or self.steps) - warmup))
        left = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[self.optimiser.decay]
        return end + (peak - end) * left


_SHARED_NORMS = "batch norms see the micro batches of all processes together"
_NO_OVERLAP = "segments do not overlap, where the code crops at random"
_FILLED = "a segment may lack up to 5 % of its audio, and then ends with zeros"
_DROPOUT = "dropout is .1 in and after every branch as published; at the input of the first block, where .1 is published, none"
_BRN = Recipe(
    name="",
    upstream="",
    source="Vavaroutsos et al. 2025, Linear Complexity Self-Supervised Learning for Music Understanding with Random Quantizer, "
    "Sections 3 and 4: 24 kHz, 30 s; 400 ms masks with probability 20 %; one codebook of 8192 codes of 16 dimensions; "
    "cross-entropy and mel regression at masked places; Adam, warm-up to 1e-4, cosine to 1e-5, clipping at 1; bf16; "
    "1024 clips on 64 GPUs",
    assumptions=(
        "masked samples are zeros: its text defines time masking so; mask.fill=noise is what MusicFM and BEST-RQ do",
        "the random projection draws as MusicFM's, with seed 142",
        "cross-entropy and regression have weight 1 each",
        "steps and warm-up are not stated: 400 000 and 7.5 %, those of OMAR-RQ",
        "dropout is not stated: .1",
        _SHARED_NORMS,
        "the norm of the mel spectrogram is that of the Million Song Dataset",
        _FILLED,
        "channels are averaged",
    ),
    mask=Mask(probability=0.2, fill="zero"),
    regression=True,
    optimiser=Optimiser(learning_rate=1e-4, final_learning_rate=1e-5, warmup=30_000, clip=1.0),
    batch=1024,
    micro_batch=16,
    steps=400_000,
)
_MUSICFM = Recipe(
    name="musicfm",
    upstream="musicfm-msd",
    source="Won et al. 2023, A Foundation Model for Music Informatics, and its code: 24 kHz, 30 s; waveform masks of 400 ms "
    "with probability 60 % filled with noise of .1; one codebook of 4096 codes of 16 dimensions, seed 142",
    assumptions=(
        "optimiser, batch and steps are not published: those of MuQ, whose encoder is the same",
        _DROPOUT,
        _NO_OVERLAP,
        _FILLED,
        "channels are averaged",
        _SHARED_NORMS,
    ),
    targets=(TargetSpec(codes=4096),),
    optimiser=Optimiser(
        learning_rate=5e-4,
        warmup=32_000,
        horizon=400_000,
        decay="linear",
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.01,
        clip=10.0,
    ),
    batch=192,
    micro_batch=3,
    steps=200_000,
    precision="fp32",
)
_MEL_RVQ = Recipe(
    name="mel-rvq",
    upstream="muq",
    source="Zhu et al. 2025, MuQ, and its code: 5 s clips of one channel, batches of 32, Adam at 1e-4, 4000 steps; 8 codebooks "
    "of 1024 codes of 16 dimensions",
    assumptions=(_NO_OVERLAP, _FILLED),
    mask=None,
    targets=(TargetSpec(quantiser="mel-rvq", codes=1024, codebooks=8),),
    optimiser=Optimiser(learning_rate=1e-4, decay="constant"),
    seconds=5.0,
    random_channel=True,
    batch=32,
    micro_batch=32,
    steps=4000,
    precision="fp32",
)
_MUQ = _MUSICFM.model_copy(
    update={
        "name": "muq",
        "upstream": "muq",
        "source": "Zhu et al. 2025, MuQ, and its code: one channel of a clip; masks as MusicFM; 8 Mel-RVQ codebooks of 1024 "
        "codes; Adam (.9, .98), eps 1e-6, weight decay .01, 5e-4 after 32 000 steps, linear to 0 at 400 000; clipping at 10; "
        "fp32; batch 192; 200 000 steps",
        "assumptions": (
            "targets.0.weights is the Mel-RVQ that the recipe mel-rvq trains, or the published RVQ_4000.pth",
            _DROPOUT,
            _NO_OVERLAP,
            f"{_FILLED}, where the code lets it lack 40 %",
            _SHARED_NORMS,
        ),
        "targets": (TargetSpec(quantiser="mel-rvq", codes=1024, codebooks=8),),
        "random_channel": True,
    }
)
_LATENTS = TargetSpec(feature="latents", quantiser="mel-rvq", codes=1024, codebooks=8, upstream="muq")
_MUQ_ITER_RVQ = _MEL_RVQ.model_copy(
    update={
        "name": "muq-iter-rvq",
        "source": "Zhu et al. 2025, MuQ, Section 3.3: the quantiser of the second iteration is trained on the latents of "
        "layer 10 of the first",
        "assumptions": (
            "its training code is not published: that of mel-rvq, on clips of 30 s, which the encoder was trained on",
            _FILLED,
            "targets.0.upstream is the MuQ of the first iteration",
        ),
        "targets": (_LATENTS,),
        "seconds": 30.0,
    }
)
_MUQ_ITER = _MUQ.model_copy(
    update={
        "name": "muq-iter",
        "source": "Zhu et al. 2025, MuQ, Section 3.3: trained from the start for 150 000 steps on the tokens of muq-iter-rvq; "
        + _MUQ.source,
        "assumptions": (
            "targets.0.weights is what muq-iter-rvq trained, targets.0.upstream the MuQ of the first iteration",
            "labels are computed in each step, where the code reads them from files",
            _DROPOUT,
            _NO_OVERLAP,
            f"{_FILLED}, where the code leaves it out",
            _SHARED_NORMS,
        ),
        "targets": (_LATENTS,),
        "steps": 150_000,
    }
)
_OMAR = Recipe(
    name="",
    upstream="",
    source="Alonso-Jiménez et al. 2025, OMAR-RQ, and its code: 30 s; patches masked in windows of .4 s with probability 60 %, "
    "filled with noise of .1; AdamW, weight decay .01 on all weights, 1e-4 after 30 000 steps, cosine to 1e-7 at 400 000; no "
    "clipping; dropout .2; bf16",
    mask=Mask(domain="patches", window=6, tail=True),
    optimiser=Optimiser(learning_rate=1e-4, final_learning_rate=1e-7, warmup=30_000, weight_decay=0.01),
    batch=256,
    micro_batch=32,
    steps=400_000,
)
_FOUR_FEATURES = tuple(TargetSpec(feature=name, codes=8196, seed=0) for name in ("cqt", "encodec", "mel", "waveform"))
_FOUR_FSQ = tuple(
    TargetSpec(**feature, quantiser="fsq", dimensions=5, seed=0)  # ty: ignore
    for feature in (
        {"feature": "cqt", "mean": 5.175809567648937, "std": 1.9251926999183888},
        {"feature": "encodec"},
        {"feature": "mel", "mean": 1.860820794608335, "std": 1.2249547514586288},
        {"feature": "waveform", "mean": 0.0, "std": 0.1908563740990311},
    )
)


def _named(base: Recipe, name: str, **changes: Any) -> Recipe:
    return base.model_copy(update={"name": name, "upstream": name, **changes})


def _omar(variant: str, window: int, targets: tuple[TargetSpec, ...], batch: int) -> Recipe:
    assumptions = (
        _NO_OVERLAP,
        f"{_FILLED}, where the code fills any file",
        "batch norms see the micro batches of all processes together, where each GPU had its own",
        "rotary positions are exact, where bfloat16 rounded them",
    )
    if len(targets) == 4:
        assumptions += (
            "input and targets are normalised as the configuration at the head of the official code has it",
            "mean and std of EnCodec are those of the code; the file that the configuration names is not published",
            "the order of the targets is cqt, encodec, mel, waveform",
        )
    mask = Mask(domain="patches", window=window, tail=True)
    return _named(
        _OMAR, f"omar-rq-{variant}", mask=mask, targets=targets, batch=batch, micro_batch=batch // 8, assumptions=assumptions
    )


def _tiny(base: Recipe, name: str, upstream: str, **changes: Any) -> Recipe:
    """Return a recipe for a laptop: clips of 6 s, batches of 16, 2000 steps at 1e-3, clipping at 1."""
    optimiser = base.optimiser.model_copy(
        update={"learning_rate": 1e-3, "final_learning_rate": 0.0, "warmup": 100, "horizon": None, "clip": 1.0}
    )
    small = {"seconds": 6.0, "batch": 16, "micro_batch": 16, "steps": 2000, "precision": "auto", "optimiser": optimiser}
    texts = {
        "source": f"the recipe {base.name or 'of the large sizes'} made small; " + base.source,
        "assumptions": (*(text for text in base.assumptions if "dropout" not in text), "there is no dropout"),
    }
    return base.model_copy(update={"name": name, "upstream": upstream, **texts, **small, **changes})


def _tiny_brn(name: str) -> Recipe:
    """Return the recipe of a small Branchformer or Conformer, whose random stem stays frozen over its 2000 steps."""
    targets = (TargetSpec(codes=1024), TargetSpec(feature="cqt", codes=1024))
    changes = {"mask": Mask(probability=0.3), "targets": targets, "unmasked": 0.4, "standardise": True, "frozen_stem": True}
    recipe = _tiny(_BRN, name, name, **changes)
    assumptions = (
        "unlike in the paper: a second target, the constant-Q transform; standardised targets; 30 % masked, by noise",
        "unlike in the paper: heard tokens count .4 in the loss; the stem is random, calibrated and frozen, since one that "
        "learns loses pitch and key within 200 steps",
    )
    optimiser = recipe.optimiser.model_copy(update={"learning_rate": 2e-3})
    return recipe.model_copy(update={"assumptions": (*recipe.assumptions[1:], *assumptions), "optimiser": optimiser})


_RANDOM_MEL = TargetSpec(feature="mel", seed=0)
_TINY_RVQ = TargetSpec(quantiser="mel-rvq", codes=64, codebooks=4)
_TINY_LATENTS = (_TINY_RVQ.model_copy(update={"feature": "latents", "layer": 5}),)
_ALL = (
    *(
        _named(_BRN, name)
        for name in (
            "branchformer-attention-small",
            "branchformer-attention-large",
            "branchformer-summarymixing-large",
            "conformer-attention-small",
            "conformer-attention-large",
            "conformer-summarymixing-large",
        )
    ),
    _MUSICFM,
    _MEL_RVQ,
    _MUQ,
    _MUQ_ITER_RVQ,
    _MUQ_ITER,
    _omar("base", 6, (_RANDOM_MEL,), 256),
    _omar("multicodebook", 6, (_RANDOM_MEL.model_copy(update={"codebooks": 4}),), 256),
    _omar("multifeature", 7, _FOUR_FEATURES, 256),
    _omar("multifeature-25hz", 10, _FOUR_FEATURES, 160),
    _omar("multifeature-25hz-fsq", 10, _FOUR_FSQ, 160),
    *(
        _tiny_brn(f"{block}-{mixer}-tiny")
        for block in ("branchformer", "conformer")
        for mixer in ("summarymixing", "attention")
    ),
    _tiny(_MUSICFM, "musicfm-tiny", "musicfm-tiny", targets=(TargetSpec(codes=1024),)),
    _tiny(_MEL_RVQ, "mel-rvq-tiny", "muq-tiny", targets=(_TINY_RVQ,)),
    _tiny(_MUQ, "muq-tiny", "muq-tiny", targets=(_TINY_RVQ,)),
    _tiny(_MUQ_ITER_RVQ, "muq-iter-rvq-tiny", "muq-tiny", targets=_TINY_LATENTS),
    _tiny(_MUQ_ITER, "muq-iter-tiny", "muq-tiny", targets=_TINY_LATENTS),
    _tiny(_OMAR, "omar-rq-tiny", "omar-rq-tiny", targets=(TargetSpec(feature="mel", codes=1024, seed=0),)),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe by name, with values replaced by ``KEY=VALUE`` settings such as ``optimiser.learning_rate=1e-3``.

    Raises:
        MarbleError: no recipe has this name, or a setting has an unknown key or an impossible value.
    """
    document = recipes.load(name, Recipe).model_dump()
    for setting in settings:
        change(document, setting, "of the recipe, such as optimiser.learning_rate=1e-3")
    return validated(Recipe, document)
