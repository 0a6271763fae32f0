"""The protocols of MARBLE: the constrained track, which is the default, and those of both versions of its code.

Sources: the rules of the constrained track at marble-bm.sheffield.ac.uk/submit; ``v1``: a43992899/MARBLE, branch
main-v1-archived at d9300e3, its base configs (for MERT-95M) under ``benchmark/tasks``; ``v2``: branch main at 938c03a, the
configs of MuQ and MERT-95M under ``configs``.
"""

from __future__ import annotations

from marble.probe.protocol import Stated, preset

TAGS = ("mtt", "mtg-top50", "mtg-genre", "mtg-instrument", "mtg-mood")
MTG = TAGS[1:]
NSYNTH = ("nsynth-instrument", "nsynth-pitch", "nsynth-instrument-clean", "nsynth-pitch-clean")
VOCALSET = ("vocalset-singer", "vocalset-technique")

_RULES = "rules of the constrained track"
_OURS = "marble's own"
MARBLE = preset(
    "marble",
    "The constrained track of MARBLE: 512 hidden units, Adam, six learning rates; standardised features.",
    Stated("hidden layer", "one of 512 units", _RULES, "probe.kind=mlp probe.hidden=512"),
    Stated("dropout", "0.2", _RULES, "probe.dropout=0.2"),
    Stated("batch size", "64", _RULES, "probe.batch_size=64"),
    Stated("learning rate", "best of six", _RULES, "probe.learning_rates=5e-5,1e-4,5e-4,1e-3,5e-3,1e-2", "validation chooses"),
    Stated("layer", "every single one, weighted sum", _RULES, how="--layers all,weighted"),
    Stated("optimiser", "Adam", "v1, every config", "probe.optimiser=adam"),
    Stated("epochs, patience", "100, 20", "v1, most configs", "probe.epochs=100 probe.patience=20"),
    Stated("features", "standardised", _OURS, "probe.standardise=true", "as half of jukemir's grid does"),
    Stated("weight of long tracks", "each window weighs the same in training", _OURS, "probe.weight=window", "as v1 and v2 do"),
    Stated("seeds", "5", _OURS, how="--seeds 5"),
)

_V1 = "v1, base configs"
# What MARBLE v1 does to train a probe, on which other papers build.
V1_TRAINING = (
    Stated("hidden layer", "one of 512 units, ReLU", "v1, probers.py:209", "probe.kind=mlp probe.hidden=512"),
    Stated("dropout", "0.2, after the ReLU", "v1, probers.py:210", "probe.dropout=0.2"),
    Stated("features", "raw", "v1, *_dataset.py", "probe.standardise=false"),
    Stated("optimiser", "Adam without decay", _V1, "probe.optimiser=adam probe.weight_decay=0"),
    Stated("learning rate", "1e-3", _V1, "probe.learning_rates=1e-3"),
    Stated("learning rate", "5e-3 (MERT-330M: 1e-3)", _V1, "probe.learning_rates=5e-3", tasks=("gtzan",)),
    Stated(
        "learning rate", "found by auto_lr_find", "v1, GS_base_config.yaml, probe.py:48", "probe.find_rate=true",
        "a range test of 100 steps from 1e-8 to 1, the rate of the steepest fall", ("giantsteps-key",),
    ),
    Stated("schedule", "halved on a plateau", "v1, probers.py:163", "probe.schedule=plateau probe.factor=0.5"),
    Stated("plateau", "5", _V1, "probe.plateau_patience=5"),
    Stated("plateau", "6", _V1, "probe.plateau_patience=6", tasks=("gtzan",)),
    Stated("plateau", "3", _V1, "probe.plateau_patience=3", tasks=(*TAGS, *NSYNTH)),
    Stated("batch", "64 tracks with all their windows", "v1, train_collate_fn", "probe.batch_size=64 probe.batch_of=tracks"),
    Stated("batch", "64 windows, each a file", "v1, preprocess.py", "probe.batch_of=rows", tasks=("giantsteps-key", *VOCALSET)),
    Stated("epochs", "100", _V1, "probe.epochs=100"),
    Stated("epochs", "50", _V1, "probe.epochs=50", tasks=NSYNTH),
    Stated("patience", "20", _V1, "probe.patience=20"),
    Stated("patience", "10", _V1, "probe.patience=10", tasks=(*TAGS, *NSYNTH, "vocalset-technique")),
    Stated("tested epoch", "the best on validation", "v1, get_callbacks.py", "probe.selection=best"),
    Stated("chosen by", "the main metric, over all validation tracks", "v1, probers.py", "probe.validate_by=track"),
    Stated("chosen by", "accuracy of windows", "v1, VocalSet*_dataset.py", "probe.validate_by=window", tasks=VOCALSET),
    Stated("answer to a track", "mean of the logits of its windows", "v1, probers.py:224", "probe.track_answer=logits"),
    Stated(
        "answer to a track", "best of vote, max, mean of logits or of probabilities", "v1, GS/utils.py",
        "probe.track_answer=best", tasks=("giantsteps-key",),
    ),
    Stated(
        "weighted sum", "softmax without layer 0, drawn from a normal", "v1, probers.py:204,353",
        "probe.layer_weights=softmax probe.layer_start=random probe.first_layer=1", "--layers weighted",
    ),
    Stated("arithmetic", "float16 with float32 weights", _V1, "probe.arithmetic=float16"),
)  # fmt: skip
_V1_WINDOWS = (
    Stated("window", "30 s", "v1, preprocess.py", "windows.seconds=30", tasks=("giantsteps-key",)),
    Stated("rest of a track", "dropped", "v1, preprocess.py", "windows.tail=30", tasks=("giantsteps-key",)),
    Stated("window", "3 s", "v1, preprocess.py", "windows.seconds=3 windows.tail=3", tasks=VOCALSET),
    Stated("window", "30 s, which is all of a clip but for MTG-Jamendo", _V1, "windows.seconds=30", tasks=("gtzan", *TAGS)),
    Stated("window", "5 s", _V1, "windows.seconds=5", tasks=("emomusic",)),
    Stated("rest of a clip", "kept from 1 s on, unpadded", "v1, extract_bert_features.py", "windows.tail=1"),
    Stated("pooling", "mean over time", _V1, "pooling=mean"),
)
_V1_REST = (
    Stated("layer of MERT-95M", "7", _V1, how="--layers 7", tasks=("gtzan", "mtg-genre")),
    Stated("layer of MERT-95M", "8", _V1, how="--layers 8", tasks=("giantsteps-key",)),
    Stated("layer of MERT-95M", "5", _V1, how="--layers 5", tasks=("emomusic",)),
    Stated("layer of MERT-95M", "2", _V1, how="--layers 2", tasks=("vocalset-singer",)),
    Stated("layer of MERT-95M", "9", _V1, how="--layers 9", tasks=("vocalset-technique",)),
    Stated("layer of MERT-95M", "6", _V1, how="--layers 6", tasks=("nsynth-instrument", "mtg-top50", "mtg-mood")),
    Stated("layer of MERT-95M", "1", _V1, how="--layers 1", tasks=("nsynth-pitch",)),
    Stated("layer of MERT-95M", "all", _V1, how="--layers weighted", tasks=("mtt", "mtg-instrument")),
    Stated("seeds", "one, 1234", _V1, how="--seeds 1"),
    Stated("audio", "its first 30 s", "v1, EMO_base_config.yaml", "windows.until=30", tasks=("emomusic",)),
    Stated("audio", "every window of a track", _V1, "windows.most=all", tasks=MTG),
    Stated("level of a window", "mean 0, deviation 1", "v1, preprocess.py:46", "windows.level=standard", tasks=VOCALSET),
    Stated(
        "audio", "leading silence trimmed by a voice detector", "v1, preprocess.py:33",
        how="not expressed: neither the chunks that it left nor their splits were published, so the task is another one",
        tasks=VOCALSET,
    ),
)  # fmt: skip
MARBLE_V1 = preset(
    "marble-v1",
    "Version 1 of MARBLE's code: one rate, which halves on a plateau; batches of whole tracks; raw features.",
    *V1_TRAINING,
    *_V1_WINDOWS,
    *_V1_REST,
)

_V2 = "v2, configs"
_FEW = ("gtzan", "emomusic", "giantsteps-key")
MARBLE_V2 = preset(
    "marble-v2",
    "Version 2 of MARBLE's code, for the tasks that have a config: the last epoch is tested, whatever its name.",
    Stated("hidden layer", "one of 512 units, ReLU", _V2, "probe.kind=mlp probe.hidden=512"),
    Stated("dropout", "0.2, after the ReLU", _V2, "probe.dropout=0.2"),
    Stated("features", "raw", "v2, base_task.py:65", "probe.standardise=false"),
    Stated("optimiser", "Adam without decay", _V2, "probe.optimiser=adam probe.weight_decay=0"),
    Stated("learning rate", "1e-3", _V2, "probe.learning_rates=1e-3"),
    Stated("learning rate", "5e-3", _V2, "probe.learning_rates=5e-3", tasks=("gtzan",)),
    Stated("schedule", "halved on a plateau", _V2, "probe.schedule=plateau probe.factor=0.5"),
    Stated("schedule", "a tenth on a plateau", _V2, "probe.factor=0.1", tasks=("giantsteps-key",)),
    Stated("plateau", "5", _V2, "probe.plateau_patience=5", tasks=("emomusic", "giantsteps-key")),
    Stated("plateau", "6", _V2, "probe.plateau_patience=6", tasks=("gtzan",)),
    Stated("plateau", "3", _V2, "probe.plateau_patience=3", tasks=TAGS),
    Stated("batch", "64 windows (accumulated: 8 × 8, 16 × 4)", _V2, "probe.batch_size=64 probe.batch_of=rows", tasks=_FEW),
    Stated("batch", "128 windows (32 on each of 4 GPUs)", _V2, "probe.batch_size=128", tasks=TAGS),
    Stated("epochs", "50", _V2, "probe.epochs=50"),
    Stated("epochs of MERT-95M", "100", _V2, how="--set probe.epochs=100", tasks=("gtzan", "emomusic")),
    Stated("epochs", "20", _V2, "probe.epochs=20", tasks=MTG),
    Stated("patience", "20", _V2, "probe.patience=20"),
    Stated("patience", "10", _V2, "probe.patience=10", tasks=TAGS),
    Stated("tested epoch", 'the last: "best" is a checkpoint without a monitor', _V2, "probe.selection=last"),
    Stated("validation", "of windows", "v2, base_task.py:71", "probe.validate_by=window", tasks=_FEW),
    Stated("validation", "of tracks", "v2, MTGMood/probe.py", "probe.validate_by=track", tasks=TAGS),
    Stated("validation", "mean of the metric over batches of 8 windows", "v2, base_task.py:90", "probe.validation_batch=8",
           tasks=("gtzan",)),
    Stated("validation", "mean of the metric over batches of 16 windows", "v2, base_task.py:90", "probe.validation_batch=16",
           tasks=("emomusic", "giantsteps-key")),
    Stated("answer to a track", "mean of the logits of its windows", "v2, probe.py", "probe.track_answer=logits"),
    Stated(
        "answer to a track", "mean of probabilities", "v2, GTZANGenre/probe.py:58", "probe.track_answer=probabilities",
        tasks=("gtzan",),
    ),
    Stated(
        "all layers", "MLPReduce: one linear map of 13 layers side by side to the width of one", "v2, transforms.py:276",
        "probe.layer_weights=matrix", "--layers weighted",
    ),
    Stated("layer of MuQ", "6", _V2, how="--layers 6", tasks=("gtzan", "emomusic")),
    Stated("layer of MuQ", "MLPReduce", _V2, how="--layers weighted", tasks=("giantsteps-key", *TAGS)),
    Stated("layer of MERT-95M", "7", _V2, how="--layers 7", tasks=("gtzan",)),
    Stated("layer of MERT-95M", "5", _V2, how="--layers 5", tasks=("emomusic",)),
    Stated("layer of MERT-95M", "8", _V2, how="--layers 8", tasks=("giantsteps-key",)),
    Stated("layer of MERT-95M", "6", _V2, how="--layers 6", tasks=("mtg-genre", "mtg-instrument", "mtg-mood")),
    Stated("layer of MERT-95M", "MLPReduce", _V2, how="--layers weighted", tasks=("mtt", "mtg-top50")),
    Stated("window", "30.2 s", _V2, "windows.seconds=30.2 windows.tail=24.16", tasks=("gtzan",)),
    Stated("window", "15 s, a rest from 12 s on", _V2, "windows.seconds=15 windows.tail=12", tasks=("emomusic",)),
    Stated("window", "30 s, a rest from 24 s on", _V2, "windows.seconds=30 windows.tail=24", tasks=("giantsteps-key", *TAGS)),
    Stated("pooling", "mean over time", "v2, TimeAvgPool", "pooling=mean"),
    Stated("short windows", "padded with zeros", "v2, base_datamodule.py:316", "windows.short=padded"),
    Stated("channels", "the first", _V2, "audio.channels=left", tasks=_FEW),
    Stated("channels", "their mean", _V2, "audio.channels=mean", tasks=TAGS),
    Stated("audio", "every window of a track", _V2, "windows.most=all", tasks=MTG),
    Stated("arithmetic", "bfloat16 with float32 weights", _V2, "probe.arithmetic=bfloat16",
           "of the upstream as well: --precision bf16"),
    Stated("seeds", "one, 1234", _V2, how="--seeds 1"),
)  # fmt: skip
