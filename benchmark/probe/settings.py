"""The settings of a probe: the shape of its head, its rows, its training, and how validation chooses.

Conventions
-----------
- Every setting is reached by ``--set probe.NAME=VALUE``. Settings that make no sense together are refused in one sentence.
- The identity of a probe (`Probe.identity`) leaves out later settings that have their default, so that a new setting makes no
  trained probe and no result an older one.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from marble.errors import MarbleError
from marble.settings import STRICT, Positive, change, validated

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# In the identity of every probe, whatever their values: the settings of the first release.
_ALWAYS = ("kind", "hidden", "dropout", "learning_rates", "batch_size", "epochs", "patience", "standardise")
# A setting other than its default needs this value of another.
_NEEDS = {
    "hidden_layers": ("kind", "mlp"),
    "activation": ("kind", "mlp"),
    "norm": ("kind", "mlp"),
    "factor": ("schedule", "plateau"),
    "plateau_patience": ("schedule", "plateau"),
    "warm_up": ("schedule", "cosine"),
    "final_rate": ("schedule", "cosine"),
    "validation_batch": ("validate_by", "window"),
}
# Settings that all points of a grid share, since they decide the rows and the choice.
_SHARED = {"grid", "grid_points", "average_windows", "test_windows", "metric"}
# Settings of rows that mean nothing where each track has one row.
_ROWS = ("weight", "train_windows", "test_windows", "track_answer", "batch_of", "validate_by")


class Probe(BaseModel):
    """The head that is trained on frozen features, and its training.

    Attributes:
        kind: ``mlp`` or ``linear``, which has no hidden layer.
        hidden, hidden_layers: units of each hidden layer of the ``mlp``, and their number.
        activation: after each hidden layer; None is none.
        norm: before the activation; ``batch`` is batch normalisation (Ioffe and Szegedy 2015; eps 1e-5, momentum .1).
        initial: weights of linear maps: ``uniform`` as `torch.nn.Linear` draws them, or Glorot and Bengio 2010 with the gain of
            the activation before; biases are uniform always.
        arithmetic: of linear maps: operands, results and their gradients are rounded to this type and sums are in float32, as
            under autocast on a GPU. Exponents are as wide as needed, which a scaled loss gives float16.
        dropout: share of hidden units that is silenced, after each activation.
        input_dropout: share of the dimensions of the inputs that is silenced, before the first linear map.
        layer_weights: of a weighted sum: ``softmax``; ``positive``, exponentials; ``free``, with one bias for all dimensions;
            ``matrix``, a square matrix for each layer and a bias, the linear reduction of all layers side by side.
        layer_start: of the weights of a sum: ``equal``, or drawn (``random``); a matrix is always drawn.
        first_layer: the lowest layer of a weighted sum.
        loss: ``default`` is that of the task's kind; ``binary`` is binary cross-entropy, each class against the rest.
        weight: of a row in the loss and in standardisation: each ``window`` weighs the same, as in the code of MARBLE, or each
            ``track``, as in scoring.
        average_windows: the mean of the windows of a track is its one row.
        train_windows: of a track in an epoch: ``all``, or ``one``, drawn anew.
        test_windows: that validation and test use: ``all``, or the ``first`` of each track.
        track_answer: from rows to a track: the mean of ``logits`` or of ``probabilities``, the highest logit (``max``), the
            ``vote``, or the ``best`` of the four on validation.
        batch_size, batch_of: rows of a batch, or ``tracks`` with all their rows; of a frame task, chunks.
        chunk: seconds of the chunk of a training track in an epoch of a frame task.
        order: of training rows: ``shuffled`` anew in each epoch, ``drawn`` for each batch, or ``fixed``.
        optimiser: Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), betas .9 and .999, eps 1e-8.
        weight_decay: of all weights: added to the gradient by Adam, decoupled in AdamW.
        clip: longest gradient of a probe, its norm over all weights; None is any.
        learning_rates: each trains a probe; validation chooses.
        find_rate: replace the one learning rate by that which a range test finds (`marble.probe.training.rate_search`).
        schedule: ``constant``; ``plateau`` multiplies the rate by `factor` after more than `plateau_patience` validations
            without a better one (as `torch.optim.lr_scheduler.ReduceLROnPlateau`); ``cosine`` rises linearly for `warm_up`
            steps and falls to `final_rate` at the last of `steps`.
        epochs, steps: the budget: training ends with the first that is reached.
        validate_every, validate_unit: epochs or steps between two validations.
        validate_untrained: validate before the first step as well; the untrained probe is of epoch 0.
        validate_by: the answers that validation scores: to a ``track`` or to a ``window``.
        validation_batch: windows of a validation batch, over which the metric is averaged, each with the weight of its windows;
            None is all at once.
        metric: of the task, by which validation chooses all but the layer; None is the main one, which chooses that too.
        patience: validations without a better one after which a probe stops; None is never.
        selection: the probe that is tested: of the ``best`` validation or of the ``last``.
        standardise: shift and scale each dimension to mean 0 and deviation 1 over the training rows.
        grid: alternatives ``FIELD=VALUE/VALUE/…``, fields that change together joined by ``+``. Each combination is trained
            on its own; validation chooses the combination with the rate.
        grid_points: of all combinations, how many are drawn for each seed; None is all.
    """

    model_config = STRICT
    kind: Literal["mlp", "linear"] = "mlp"
    hidden: Count = 512
    dropout: Share = 0.2
    learning_rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
    batch_size: Count = 64
    epochs: Count | None = 100
    patience: Count | None = 20
    standardise: bool = True
    hidden_layers: Annotated[int, Field(gt=0, le=8)] = 1
    activation: Literal["relu"] | None = "relu"
    norm: Literal["batch"] | None = None
    initial: Literal["uniform", "xavier-uniform", "xavier-normal"] = "uniform"
    arithmetic: Literal["float32", "float16", "bfloat16"] = "float32"
    input_dropout: Share = 0.0
    layer_weights: Literal["softmax", "positive", "free", "matrix"] = "softmax"
    layer_start: Literal["equal", "random"] = "equal"
    first_layer: Annotated[int, Field(ge=0)] = 0
    loss: Literal["default", "binary"] = "default"
    weight: Literal["window", "track"] = "window"
    average_windows: bool = False
    train_windows: Literal["all", "one"] = "all"
    test_windows: Literal["all", "first"] = "all"
    track_answer: Literal["logits", "probabilities", "max", "vote", "best"] = "logits"
    batch_of: Literal["rows", "tracks"] = "rows"
    chunk: Positive = 30.0
    order: Literal["shuffled", "drawn", "fixed"] = "shuffled"
    optimiser: Literal["adam", "adamw"] = "adam"
    weight_decay: Decay = 0.0
    clip: Positive | None = None
    find_rate: bool = False
    schedule: Literal["constant", "plateau", "cosine"] = "constant"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: Annotated[int, Field(ge=0)] = 5
    warm_up: Annotated[int, Field(ge=0)] = 0
    final_rate: Decay = 0.0
    steps: Count | None = None
    validate_every: Count = 1
    validate_unit: Literal["epochs", "steps"] = "epochs"
    validate_untrained: bool = False
    validate_by: Literal["track", "window"] = "track"
    validation_batch: Count | None = None
    metric: str | None = None
    selection: Literal["best", "last"] = "best"
    grid: tuple[str, ...] = ()
    grid_points: Count | None = None

    @model_validator(mode="after")
    def _refuse_nonsense(self) -> Probe:
        for name, (other, value) in _NEEDS.items():
            if self._differs(name) and getattr(self, other) != value:
                raise MarbleError(
                    f"probe.{name}={getattr(self, name)} needs probe.{other}={value}: set that, or leave out probe.{name}."
                )
        for wrong, sentence in (
            (not (self.epochs or self.steps), "probe.epochs=none has no end: set probe.steps, or a number of epochs."),
            (
                self.schedule == "cosine" and not (self.steps and self.steps > self.warm_up),
                "probe.schedule=cosine falls until the last step: set probe.steps to more than probe.warm_up.",
            ),
            (
                self.find_rate and len(self.learning_rates) > 1,
                "probe.find_rate=true finds one learning rate: name a single one in probe.learning_rates, where it begins.",
            ),
            (
                self.weight == "track" and self.train_windows == "one",
                "probe.train_windows=one lets every track weigh the same already: leave out probe.weight=track.",
            ),
            (
                self.layer_weights == "matrix" and self.layer_start == "random",
                "probe.layer_weights=matrix is always drawn: leave out probe.layer_start=random.",
            ),
            (
                self.validate_by == "window" and self.track_answer == "best",
                "probe.track_answer=best is chosen by tracks: leave out probe.validate_by=window.",
            ),
            (bool(self.grid_points and not self.grid), "probe.grid_points draws from a grid: set probe.grid."),
        ):
            if wrong:
                raise MarbleError(sentence)
        for name in _ROWS if self.average_windows else ():
            if self._differs(name):
                raise MarbleError(f"probe.average_windows=true leaves one row a track: leave out probe.{name}.")
        self.points()
        return self

    def _differs(self, name: str) -> bool:
        return getattr(self, name) != type(self).model_fields[name].default

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide a trained probe: those of the first release, and the others that are no default."""
        document = self.model_dump(mode="json")
        return {name: value for name, value in document.items() if name in _ALWAYS or self._differs(name)}

    def points(self) -> list[tuple[dict[str, Any], Probe]]:
        """Return the combinations of the grid in order: what each sets, and its probe; without a grid the probe alone.

        Raises:
            MarbleError: an entry of the grid sets nothing, or a combination makes no sense.
        """
        if not self.grid:
            return [({}, self)]
        document = self.model_dump() | {"grid": (), "grid_points": None}
        fields = ", ".join(name for name in document if name not in _SHARED)
        entries = []
        for entry in self.grid:
            names, equals, values = entry.partition("=")
            if not (equals and set(names.split("+")) <= set(document) - _SHARED and values):
                raise MarbleError(f"probe.grid: '{entry}' sets nothing: write FIELD=VALUE/VALUE with a field among {fields}.")
            entries.append([[f"probe.{name}={value}" for name in names.split("+")] for value in values.split("/")])
        points = []
        for combination in itertools.product(*entries):
            parts = {"probe": dict(document)}
            chosen = [next(iter(change(parts, setting, fields))) for settings in combination for setting in settings]
            probe = validated(type(self), parts["probe"])
            names = [key.removeprefix("probe.") for key in chosen]
            points.append(({name: getattr(probe, name) for name in names}, probe))
        return points
