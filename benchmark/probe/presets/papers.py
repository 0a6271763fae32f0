"""The protocols of four papers.

Sources: MuQ (Zhu et al. 2025, arXiv:2501.01108); the layer-wise study (Zhou, Zhu and Chen 2025); OMAR-RQ (Alonso-Jiménez et al.
2025, arXiv:2507.03482), and MTG/omar-rq at c110659; Branchformer with SummaryMixing (Vavaroutsos, Palamas and Vikatos).
"""

from __future__ import annotations

from marble.probe.presets.marble import TAGS, V1_TRAINING, VOCALSET
from marble.probe.protocol import Stated, preset

_PIANO = tuple(f"piano-difficulty{split}" for split in ("", "-1", "-2", "-3", "-4"))
_APPENDIX = "MuQ, Appendix I"
_MUQ_WINDOWS = (
    Stated("window", "10 s", _APPENDIX, "windows.seconds=10", tasks=("gtzan",)),
    Stated(
        "features of a track", "those of its windows combined", _APPENDIX, "probe.average_windows=true probe.batch_of=rows",
        "their mean", ("gtzan",),
    ),
    Stated("window", "5 s; several predictions a song", _APPENDIX, "windows.seconds=5", tasks=("emomusic",)),
    Stated("window", "3 s", _APPENDIX, "windows.seconds=3", tasks=("vocalset-technique",)),
    Stated("window", "not stated: 30 s in v1", "v1, base configs", "windows.seconds=30", tasks=("giantsteps-key", *TAGS)),
    Stated("rest of a clip", "not stated: v1 drops it", "v1, preprocess.py", "windows.tail=3", tasks=VOCALSET),
    Stated("rest of a clip", "not stated: v1 drops it", "v1, preprocess.py", "windows.tail=30", tasks=("giantsteps-key",)),
)  # fmt: skip
_ON_V1 = Stated("training", "most tasks are based on the code of MARBLE", _APPENDIX, how="that of marble-v1, as follows")
MUQ = preset(
    "muq",
    "MuQ: the probes of MARBLE v1, on which its appendix says they are based; windows by task.",
    _ON_V1,
    Stated("head", '"linear probe"', "MuQ, Experiments", how="not set: the code and the layer-wise study have a hidden layer"),
    *_MUQ_WINDOWS,
    Stated("seeds", "5", "MuQ, Results", how="--seeds 5"),
    Stated("layer", "each; how the best is chosen is not stated", "MuQ, Experiments", how="--layers all; validation chooses"),
    *V1_TRAINING,
)
LAYERWISE = preset(
    "layerwise",
    "The layer-wise study: every layer and a softmax sum of all blocks; unstated values are those of MuQ and MARBLE v1.",
    Stated("hidden layer", "one of 512 units", "Section 3.1", "probe.kind=mlp probe.hidden=512"),
    Stated("training", "consistent with prior work", "Section 3.1", how="that of marble-v1, as follows"),
    Stated("layer", "each, and a weighted sum", "Section 3.5", how="--layers all,weighted"),
    *V1_TRAINING,
    Stated(
        "weighted sum",
        "softmax over the L blocks",
        "equations 3 and 4",
        "probe.layer_weights=softmax probe.first_layer=1",
        "--layers weighted",
    ),
    *_MUQ_WINDOWS,
)

_CODE = "sequence_classifiers.py"
_TAGGING = "cfg/downstream/tagging.gin"
_PITCH = "cfg/downstream/nsynth_pitch.gin"
_PITCHES = ("nsynth-pitch", "nsynth-pitch-clean")
OMAR = preset(
    "omar",
    "OMAR-RQ: AdamW on a cosine of 20,000 steps, one random window a track and epoch, the first window alone in testing.",
    Stated("hidden layer", "one of 512 units, ReLU", _TAGGING, "probe.kind=mlp probe.hidden=512"),
    Stated("dropout", "0.2, before each linear map", _CODE, "probe.dropout=0.2 probe.input_dropout=0.2"),
    Stated("dropout", "0", _PITCH, "probe.dropout=0 probe.input_dropout=0", tasks=_PITCHES),
    Stated("features", "raw", "magnatagatune.py", "probe.standardise=false"),
    Stated("loss", "binary cross-entropy, pitches one-hot", _CODE, "probe.loss=binary", tasks=_PITCHES),
    Stated("loss", "an ordinal regression loss", "Section 3.5", how="that of the task's kind", tasks=_PIANO),
    Stated("optimiser", "AdamW with its decay of 0.01", _CODE, "probe.optimiser=adamw probe.weight_decay=0.01"),
    Stated("learning rate", "1e-4", _TAGGING, "probe.learning_rates=1e-4"),
    Stated("learning rate", "1e-3", _PITCH, "probe.learning_rates=1e-3", tasks=_PITCHES),
    Stated(
        "schedule", "2,000 steps of warm-up, then cosine to 1e-7", _TAGGING,
        "probe.schedule=cosine probe.warm_up=2000 probe.final_rate=1e-7",
    ),
    Stated("steps", "20,000", _TAGGING, "probe.epochs=none probe.steps=20000"),
    Stated("steps", "100,000", _PITCH, "probe.steps=100000", tasks=_PITCHES),
    Stated("batch", "64 tracks", _TAGGING, "probe.batch_size=64"),
    Stated("batch", "32 notes", _PITCH, "probe.batch_size=32", tasks=_PITCHES),
    Stated("early stop", "none", "downstream.py", "probe.patience=none"),
    Stated("tested epoch", "the best on validation, after each epoch", "downstream.py", "probe.selection=best"),
    Stated("chosen by", "average precision", _TAGGING, "probe.metric=average_precision", tasks=("mtt-clean", "mtt")),
    Stated("training windows", "one of a track, drawn in each epoch", "magnatagatune.py", "probe.train_windows=one"),
    Stated("tested windows", "the first of a track", "magnatagatune.py", "probe.test_windows=first"),
    Stated(
        "features of a track", "the mean over its time", "Section 3", "probe.average_windows=true probe.train_windows=all "
        "probe.test_windows=all", "no code of this task is published", _PIANO,
    ),
    Stated("window", "30 s, half overlapping, rests from 3 s", _TAGGING, "windows.seconds=30 windows.hop=15 windows.tail=3"),
    Stated(
        "window", "4 s, half overlapping, a rest from 0.4 s on", _PITCH, "windows.seconds=4 windows.hop=2 windows.tail=0.4",
        tasks=_PITCHES,
    ),
    Stated("pooling", "mean over time", _TAGGING, "pooling=mean"),
    Stated("layer", "6", _TAGGING, how="--layers 6"),
    Stated("seeds", "not stated", "", how="--seeds 1"),
)  # fmt: skip

BRANCHFORMER = preset(
    "branchformer",
    "Branchformer with SummaryMixing: what little its paper states; the rest is not published and that of marble.",
    Stated("hidden layer", "one of 512 units", "Section 4.3", "probe.kind=mlp probe.hidden=512"),
    Stated("dropout", "0.25", "Section 4.3", "probe.dropout=0.25"),
    Stated(
        "batch", "16 or 32, by tasks that are not named", "Section 4.3", "probe.batch_size=32", "or --set probe.batch_size=16"
    ),
    Stated("window", "30 s, said of tagging", "Section 4.2.2", "windows.seconds=30"),
    Stated("layer", "not stated, apparently the last", "Section 4.2.2", how="--layers with the last alone"),
    Stated("optimiser, rate, epochs, pooling, standardisation, seeds", "not stated", "", how="those of marble"),
)
