"""Protocols from outside MARBLE: jukemir, HEAR, and SUPERB's linear probe of a weighted sum.

Sources: p-lambda/jukemir at 2415556; hearbenchmark/hear-eval-kit at e728021, its default grid; s3prl/s3prl, the downstream
``voxceleb1`` (speaker identification) of SUPERB.
"""

from __future__ import annotations

from marble.probe.protocol import Stated, preset

_PROBE = "probe/__init__.py"
_GRID = f"{_PROBE}, _PAPER_GRID"
JUKEMIR = preset(
    "jukemir",
    "jukemir: the best of 216 probes on validation, one vector a clip; validated every 8 steps, 256 times without gain.",
    Stated(
        "grid", "216 points: standardised or not; no hidden layer or one; batch 64 or 256; dropout .25, .5, .75; "
        "L2 0, 1e-4, 1e-3; three rates", _GRID,
        "probe.grid=standardise=false/true,kind=linear/mlp,batch_size=64/256,input_dropout+dropout=0.25/0.5/0.75,"
        "weight_decay=0/1e-4/1e-3", "72 combinations, each at three rates; validation chooses",
    ),
    Stated("learning rate", "1e-5, 1e-4 or 1e-3", _GRID, "probe.learning_rates=1e-5,1e-4,1e-3"),
    Stated("hidden layer", "512 units, ReLU", _GRID, "probe.hidden=512"),
    Stated("dropout", "before each linear map", f"{_PROBE}:77", how="input_dropout and dropout change together in the grid"),
    Stated("optimiser", "Adam with L2", f"{_PROBE}:269", "probe.optimiser=adam"),
    Stated("batch", "drawn anew for each step", f"{_PROBE}:344", "probe.order=drawn"),
    Stated("validation", "every 8 steps, first before training", _PROBE,
           "probe.validate_every=8 probe.validate_unit=steps probe.validate_untrained=true"),
    Stated("patience", "256 validations", _PROBE, "probe.patience=256"),
    Stated("budget", "none", _PROBE, "probe.epochs=none probe.steps=1000000",
           "a bound, on which --plan counts in part; patience ends a run before it"),
    Stated("tested step", "the best on validation", _PROBE, "probe.selection=best"),
    Stated("features", "one vector a clip", "representations/", "probe.average_windows=true", "the mean of its windows"),
    Stated("clip", "30 s, the rest of a track dropped", "datasets/cache.py",
           "windows.seconds=30 windows.tail=30 probe.average_windows=false", tasks=("giantsteps-key",)),
    Stated("answer to a track", "best of vote, max, mean of logits or of probabilities", f"{_PROBE}:445",
           "probe.track_answer=best", tasks=("giantsteps-key",)),
    Stated("pooling", "mean over time", "representations/", "pooling=mean"),
    Stated("seeds", "one, 0", _PROBE, how="--seeds 1"),
)  # fmt: skip

_HEAR = "task_predictions.py, PARAM_GRID"
HEAR = preset(
    "hear",
    "HEAR: the best of 8 random points of its default grid of 16; hidden layers of 1024 with batch normalisation.",
    Stated(
        "grid", "16 points: 1 or 2 hidden layers; Xavier uniform or normal; four rates", _HEAR,
        "probe.grid=hidden_layers=1/2,initial=xavier-uniform/xavier-normal,learning_rates=3.2e-3/1e-3/3.2e-4/1e-4",
    ),
    Stated("points tried", "8, drawn at random", "runner.py, --grid-points", "probe.grid_points=8", "each seed draws its own"),
    Stated("hidden layer", "1024 units, ReLU", _HEAR, "probe.kind=mlp probe.hidden=1024"),
    Stated("norm", "batch normalisation before each ReLU", _HEAR, "probe.norm=batch"),
    Stated("dropout", "0.1, of each hidden layer", _HEAR, "probe.dropout=0.1"),
    Stated("features", "raw", _HEAR, "probe.standardise=false"),
    Stated("optimiser", "Adam without decay", _HEAR, "probe.optimiser=adam probe.weight_decay=0"),
    Stated("batch", "1024", _HEAR, "probe.batch_size=1024"),
    Stated("order", "that of the data, never shuffled", "task_predictions.py:848", "probe.order=fixed"),
    Stated("epochs", "500", _HEAR, "probe.epochs=500"),
    Stated("validation", "every 3 epochs", _HEAR, "probe.validate_every=3"),
    Stated("patience", "20 validations", _HEAR, "probe.patience=20"),
    Stated("tested epoch", "the best on validation", "task_predictions.py:999", "probe.selection=best"),
    Stated("features of a clip", "one embedding of the model", "task_embeddings.py",
           "probe.average_windows=true pooling=mean", "the mean of its windows"),
    Stated("several folds", "the grid is searched on the first", "task_predictions.py:1350", how="tasks have one split"),
    Stated("layer", "the model decides", "task_embeddings.py", how="--layers with one alone"),
    Stated("seeds", "one", "task_predictions.py:1294", how="--seeds 1"),
)  # fmt: skip

_SID = "downstream/voxceleb1/config.yaml"
SUPERB = preset(
    "superb",
    "SUPERB's speaker identification, for music: a softmax sum of all layers and a linear probe by way of 256 dimensions.",
    Stated("layer", "softmax sum of all, which begins equal", "upstream/interfaces.py, Featurizer",
           "probe.layer_weights=softmax probe.layer_start=equal probe.first_layer=0", "--layers weighted"),
    Stated("head", "linear to 256, mean over time, linear", "downstream/model.py, voxceleb1/expert.py",
           "probe.kind=mlp probe.hidden=256 probe.activation=none probe.dropout=0"),
    Stated("features of a clip", "the mean over its time", "downstream/model.py", "pooling=mean probe.track_answer=logits",
           "the mean over windows of the logits, which are linear"),
    Stated("features", "raw", "upstream/interfaces.py", "probe.standardise=false"),
    Stated("optimiser", "Adam without decay", _SID, "probe.optimiser=adam probe.weight_decay=0"),
    Stated("learning rate", "1e-4, or tuned by hand from 1e-1 to 1e-7", f"{_SID}; issue 498 of s3prl",
           "probe.learning_rates=1e-1,1e-2,1e-3,1e-4,1e-5,1e-6,1e-7", "validation chooses"),
    Stated("gradient", "norm of at most 1", _SID, "probe.clip=1"),
    Stated("batch", "32 (8, accumulated 4 times)", _SID, "probe.batch_size=32"),
    Stated("steps", "200,000", _SID, "probe.epochs=none probe.steps=200000"),
    Stated("validation", "every 4,000 steps", _SID, "probe.validate_every=4000 probe.validate_unit=steps"),
    Stated("early stop", "none", "downstream/runner.py", "probe.patience=none"),
    Stated("tested step", "the best on validation", "voxceleb1/expert.py", "probe.selection=best"),
    Stated("audio", "8 s of a training clip, drawn anew in each epoch", f"{_SID}, max_timestep",
           "windows.seconds=8 windows.hop=4 probe.train_windows=one", "from windows that begin every 4 s"),
    Stated("seeds", "one", "run_downstream.py", how="--seeds 1"),
)  # fmt: skip
