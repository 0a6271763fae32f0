"""Recipes: the papers' numbers, settings from the command line, and that every family learns, or steps at full size."""

import json
import math

import pytest
import torch

from marble import registry
from marble.errors import MarbleError
from marble.pretraining.recipes import RECIPES, Recipe, TargetSpec, load_recipe
from marble.upstreams.omar_rq import OmarRQ

BRN = [
    "branchformer-attention-small",
    "branchformer-attention-large",
    "branchformer-summarymixing-large",
    "conformer-attention-small",
    "conformer-attention-large",
    "conformer-summarymixing-large",
]
OMAR = [
    "omar-rq-base",
    "omar-rq-multicodebook",
    "omar-rq-multifeature",
    "omar-rq-multifeature-25hz",
    "omar-rq-multifeature-25hz-fsq",
]
LAPTOP = [name for name in RECIPES if name.endswith("-tiny")]


def test_every_recipe_says_where_it_comes_from_and_fits_its_own_rules():
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.source
        assert recipe.assumptions
        assert Recipe.model_validate(json.loads(recipe.model_dump_json())) == recipe
        assert not recipe.batch % recipe.micro_batch
        assert recipe.average is None
    assert set(RECIPES) == {*BRN, *OMAR, *LAPTOP, "musicfm", "mel-rvq", "muq", "muq-iter-rvq", "muq-iter"}
    assert {name.removesuffix("-tiny") for name in LAPTOP} >= {
        "musicfm",
        "mel-rvq",
        "muq",
        "muq-iter-rvq",
        "muq-iter",
        "omar-rq",
    }


@pytest.mark.parametrize(
    ("names", "batch", "steps", "mask", "adam", "clip"),
    [
        (BRN, 1024, 400_000, ("waveform", 10, 0.2, "zero"), ((0.9, 0.999), 1e-8, 0.0), 1.0),
        (["musicfm", "muq"], 192, 200_000, ("waveform", 10, 0.6, "noise"), ((0.9, 0.98), 1e-6, 0.01), 10.0),
        (["muq-iter"], 192, 150_000, ("waveform", 10, 0.6, "noise"), ((0.9, 0.98), 1e-6, 0.01), 10.0),
        (OMAR[:2], 256, 400_000, ("patches", 6, 0.6, "noise"), ((0.9, 0.999), 1e-8, 0.01), None),
        (OMAR[2:3], 256, 400_000, ("patches", 7, 0.6, "noise"), ((0.9, 0.999), 1e-8, 0.01), None),
        (OMAR[3:], 160, 400_000, ("patches", 10, 0.6, "noise"), ((0.9, 0.999), 1e-8, 0.01), None),
    ],
)
def test_numbers_of_the_papers(names, batch, steps, mask, adam, clip):
    for name in names:
        recipe = RECIPES[name]
        how = recipe.optimiser
        assert (recipe.batch, recipe.steps, recipe.seconds) == (batch, steps, 30.0)
        assert recipe.mask is not None
        assert (recipe.mask.domain, recipe.mask.window, recipe.mask.probability, recipe.mask.fill) == mask
        assert recipe.mask.rule().noise_std == 0.1
        assert ((how.betas, how.eps, how.weight_decay), how.clip) == (adam, clip)
        assert recipe.regression == (name in BRN)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        # Warm-up to the peak, half of a cosine between peak and end, the end.
        (BRN[0], {0: 1e-4 / 30_000, 29_999: 1e-4, 30_000: 1e-4, 215_000: 5.5e-5, 399_999: 1e-5}),
        # Linear to nothing at 400 000, of which the training sees half.
        ("muq", {0: 5e-4 / 32_000, 31_999: 5e-4, 199_999: 5e-4 * 200_001 / 368_000}),
        ("muq-iter", {149_999: 5e-4 * 250_001 / 368_000}),
        (OMAR[0], {0: 1e-4 / 30_000, 29_999: 1e-4, 215_000: (1e-4 + 1e-7) / 2, 399_999: 1e-7}),
        ("mel-rvq", {0: 1e-4, 3999: 1e-4}),
    ],
)
def test_learning_rates(name, rates):
    for step, rate in rates.items():
        assert RECIPES[name].learning_rate(step) == pytest.approx(rate, rel=1e-6, abs=1e-11)


def test_targets_of_the_papers():
    def tokens(name):
        return [(t.feature, t.quantiser, t.codes, t.codebooks, t.dimensions, t.seed) for t in RECIPES[name].targets]

    assert tokens(BRN[0]) == [("stacked-mel", "random-projection", 8192, 1, 16, 142)]
    assert tokens("musicfm") == [("stacked-mel", "random-projection", 4096, 1, 16, 142)]
    assert tokens("muq")[0][:5] == ("stacked-mel", "mel-rvq", 1024, 8, 16)
    assert tokens("muq-iter")[0][:5] == ("latents", "mel-rvq", 1024, 8, 16)
    assert RECIPES["muq-iter"].targets[0].layer == 10
    assert tokens("omar-rq-base") == [("mel", "random-projection", 8192, 1, 16, 0)]
    assert tokens("omar-rq-multicodebook") == [("mel", "random-projection", 8192, 4, 16, 0)]
    features = ["cqt", "encodec", "mel", "waveform"]
    assert tokens("omar-rq-multifeature") == [(name, "random-projection", 8196, 1, 16, 0) for name in features]
    assert {name.removesuffix("-tiny") for name, recipe in RECIPES.items() if recipe.random_channel} == {
        "mel-rvq",
        "muq",
        "muq-iter-rvq",
        "muq-iter",
    }
    fsq = RECIPES["omar-rq-multifeature-25hz-fsq"].targets
    assert [(t.feature, t.quantiser, t.dimensions, t.levels, t.formula) for t in fsq] == [
        (f, "fsq", 5, 6, "code") for f in features
    ]


@pytest.mark.parametrize(
    ("name", "share", "words"),
    [
        ("muq", 0.1, "dropout is .1"),
        ("musicfm", 0.1, "dropout is .1"),
        ("conformer-attention-large", 0.1, "dropout is not stated: .1"),
        ("omar-rq-base", 0.2, "dropout .2"),
        ("muq-tiny", 0.0, "there is no dropout"),
        ("omar-rq-tiny", 0.0, "there is no dropout"),
    ],
)
def test_the_dropout_that_is_stated_is_the_one_trained_with(name, share, words):
    with torch.device("meta"):
        upstream = registry.find_upstream(RECIPES[name].upstream).random()
    assert upstream.config.dropout == share
    assert words in " ".join((*RECIPES[name].assumptions, RECIPES[name].source))


def test_settings_replace_values():
    recipe = load_recipe(
        "muq",
        ["batch=32", "optimiser.learning_rate=1e-3", "optimiser.betas=0.8,0.9", "targets.0.codes=64", "optimiser.clip=none"],
    )
    assert (recipe.batch, recipe.optimiser.learning_rate, recipe.optimiser.betas) == (32, 1e-3, (0.8, 0.9))
    assert (recipe.targets[0].codes, recipe.optimiser.clip) == (64, None)
    assert load_recipe("muq") == RECIPES["muq"]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("batch", "sets nothing"),
        ("batches=3", "sets nothing"),
        ("targets.1.codes=3", "sets nothing"),
        ("targets.x.codes=3", "sets nothing"),
        ("optimiser=adam", "sets nothing"),
        ("mask.window.x=1", "sets nothing"),
        ("batch=many", "--set batch: .*integer.*'many'"),
        ("batch=0", "--set batch: .*greater than 0"),
        ("optimiser.learning_rate=-1", r"--set optimiser\.learning_rate"),
        ("mask.fill=music", r"--set mask\.fill"),
        ("targets.0.quantiser=vq", r"--set targets\.0\.quantiser"),
        ("optimiser.betas=0.9", r"--set optimiser\.betas"),
        ("average=1", "--set average"),
    ],
)
def test_a_wrong_setting_is_one_sentence(setting, sentence):
    with pytest.raises(MarbleError, match=sentence) as caught:
        load_recipe("muq", [setting])
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_one_sentence():
    with pytest.raises(MarbleError, match="There is no recipe called 'mulan': did you mean muq"):
        load_recipe("mulan")


# The margins below hold after forty steps of four seconds of audio; a first look may take two hundred.
QUICK = ("steps=40", "seconds=1", "batch=4", "micro_batch=4", "optimiser.warmup=10", "optimiser.learning_rate=2e-3")


def trained(make_trainer, name, *settings, folder="run", **options):
    """Train a recipe quickly; return the last line of its log and the checkpoint."""
    trainer = make_trainer(name, *QUICK, *settings, folder=folder, log_every=20, **options)
    last = trainer.train()
    line = json.loads((trainer.folder / "log.jsonl").read_text().splitlines()[-1])
    return line, last


@pytest.mark.parametrize(
    ("name", "margin"),
    [
        ("branchformer-summarymixing-tiny", 0.7),
        ("branchformer-attention-tiny", 0.7),
        ("conformer-summarymixing-tiny", 0.7),
        ("conformer-attention-tiny", 0.7),
        ("musicfm-tiny", 0.5),
        ("omar-rq-tiny", 1.0),
    ],
)
def test_tiny_recipes_learn(make_trainer, name, margin):
    """The loss falls below that of uniform guesses, ln 32, by so many nats."""
    codes = [f"targets.{place}.codes=32" for place in range(len(RECIPES[name].targets))]
    line, _ = trained(make_trainer, name, *codes)
    assert line["cross_entropy"] < math.log(32) - margin


def test_several_features_by_finite_scalars_are_learnt(make_trainer):
    """The input and three of the features of the largest OMAR-RQ (EnCodec needs transformers), 2^5 codes each."""
    torch.manual_seed(0)
    tiny = RECIPES["omar-rq-tiny"]
    config = {
        "input": {"kind": "waveform", "sample_rate": 24_000, "samples": 960, "std": 0.19},
        "sizes": {"width": 64, "depth": 2, "heads": 4, "hidden": 128},
        "deepnorm": 2.0**0.5,
        "dropout": 0.0,
    }
    features = [
        TargetSpec(feature=name, quantiser="fsq", dimensions=5, levels=2, seed=0) for name in ("cqt", "mel", "waveform")
    ]
    quick = {"steps": 60, "seconds": 1.0, "batch": 4, "micro_batch": 4, "targets": tuple(features)}
    recipe = tiny.model_copy(update=quick | {"optimiser": tiny.optimiser.model_copy(update={"warmup": 10})})
    trainer = make_trainer(recipe=recipe, upstream=OmarRQ.from_config("omar-rq-waveform", config), log_every=20)
    trainer.train()
    line = json.loads((trainer.folder / "log.jsonl").read_text().splitlines()[-1])
    assert line["cross_entropy"] < math.log(32) - 0.5


def test_muq_is_learnt_from_its_quantiser_and_again_from_itself(make_trainer):
    """Mel-RVQ, MuQ on its tokens, Mel-RVQ on the latents of that, and MuQ anew on those.

    The latents are those of layer 1: behind five blocks that have seen sixty steps, all clips are much alike.
    """
    longer = "steps=60"
    books = ("targets.0.codes=32", "targets.0.codebooks=2")
    mel = make_trainer("mel-rvq-tiny", *QUICK, *books)
    line, first = trained(make_trainer, "mel-rvq-tiny", *books, longer, folder="rvq")
    assert line["reconstruction"] < 0.95 * error_of_the_mean(mel)
    line, muq = trained(make_trainer, "muq-tiny", *books, f"targets.0.weights={first}", longer, folder="muq")
    assert line["cross_entropy"] < math.log(32) - 1.0
    assert line["usage"] > 0.2
    latents = (*books, f"targets.0.upstream={muq}", "targets.0.layer=1")
    teacher = make_trainer("muq-iter-rvq-tiny", *QUICK, *latents)
    line, second = trained(make_trainer, "muq-iter-rvq-tiny", *latents, "steps=200", folder="iter-rvq")
    assert line["reconstruction"] < 0.95 * error_of_the_mean(teacher)
    line, last = trained(make_trainer, "muq-iter-tiny", *latents, f"targets.0.weights={second}", longer, folder="iter")
    assert line["cross_entropy"] < math.log(32) - 0.5
    assert line["usage"] > 0.1
    assert registry.load_upstream(str(last)).info.name == "muq-tiny"


def error_of_the_mean(trainer):
    """The mean absolute error of always answering the mean, for the features of a quantiser."""
    with torch.no_grad():
        features = trainer.objective.feature(torch.stack([torch.from_numpy(clip) for clip in trainer.source.segments]))
    return float((features - features.mean((0, 1))).abs().mean())
