"""Segments of the synthesiser held in memory, and trainers of tiny recipes on them."""

import numpy as np
import pytest
import soxr
import torch

from marble import registry
from marble.audio.decode import BadAudioError
from marble.pretraining.objective import make_objective
from marble.pretraining.recipes import load_recipe
from marble.pretraining.trainer import Trainer
from marble.system.progress import Reporter
from marble.tasks.synth.stream import segment
from marble.upstreams.mel_encoder import InHouse, InHouseConfig


class InMemory:
    """The same few segments for ever; `bad` numbers have none, for a reason."""

    hours = None

    def __init__(self, segments, bad=(), reason="is silent"):
        self.segments, self.bad, self.reason, self.refused = segments, bad, reason, {}

    def decoded(self, numbers, workers, ahead):
        for number in numbers:
            bad = number in self.bad
            yield f"segment {number}", BadAudioError(self.reason) if bad else self.segments[number % len(self.segments)]


class Noted(Reporter):
    """Keeps what is said."""

    def __init__(self):
        super().__init__()
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="session")
def medleys():
    """Ten seconds each of the synthesiser at 24 kHz, and at 16 kHz, by rate."""
    at_24 = [segment(number, 10.0, 24_000) for number in range(8)]
    return {24_000: at_24, 16_000: [soxr.resample(clip, 24_000, 16_000) for clip in at_24]}


@pytest.fixture(scope="session")
def in_memory(medleys):
    """A function of (seconds, sample rate) to a source of segments."""

    def source(seconds, rate, **bad):
        samples = round(seconds * rate)
        clips = [
            np.float32(clip[k : k + samples]) for clip in medleys[rate] for k in range(0, len(clip) - samples + 1, samples)
        ]
        return InMemory(clips[0::3] + clips[1::3] + clips[2::3], **bad)

    return source


@pytest.fixture
def make_trainer(in_memory, tmp_path):
    """A function that makes a trainer of a recipe with settings, quick ones by default."""

    def make(
        name="branchformer-summarymixing-tiny", *settings, folder="run", recipe=None, upstream=None, source=None, **options
    ):
        quick = ("seconds=1", "batch=4", "micro_batch=4", "steps=6", "optimiser.warmup=2", "targets.0.codes=32")
        recipe = recipe or load_recipe(name, (*quick, *settings))
        torch.manual_seed(recipe.seed)
        upstream = upstream or registry.find_upstream(recipe.upstream).random()
        source = source or in_memory(recipe.seconds, upstream.info.sample_rate)
        given = {"device": torch.device("cpu"), "workers": 1, "reporter": Noted(), "checkpoint_every": 1000, "log_every": 2}
        return Trainer(recipe, make_objective(recipe, upstream), source, tmp_path / folder, **given | options)

    return make


@pytest.fixture
def small():
    """A function that makes a network of very few weights: a Conformer with attention, and dropout, unless told otherwise."""

    def make(**changes):
        sizes = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "channels": 2, "local": (16, 16), "summary": (16, 16)}
        config = {"family": "conformer", "mixer": "attention", "summary_heads": 2, "dropout": 0.1}
        torch.manual_seed(0)
        return InHouse("small", InHouseConfig.model_validate(config | sizes | changes))

    return make
