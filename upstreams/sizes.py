"""The sizes of the upstreams that share a convolution stem over decibel mel bands; a new size is one entry of `SIZES`.

Conventions
-----------
- An entry is what `marble.upstreams.mel_encoder.InHouseConfig` reads, where each key is described. Nothing is imported here,
  so that names are listed at once.
- The sizes of the music-SummaryMixing paper follow from its six parameter counts: 60, 187 and 164 M for the Branchformers
  (here 60.05, 187.47, 164.67 M), 95, 330 and 302 M for the Conformers (93.79, 324.73, 301.93 M). The paper does not print
  them. Its Conformers reach their counts only with the positional convolution of wav2vec 2.0 (8.4 M), which the usual
  implementation builds beside rotary positions and never calls. Here it is called, before the first block, since a weight
  that is counted should work; ``positional_convolution=False`` leaves it out.
- The sizes called ``tiny`` are marble's own, for a laptop.
"""

from typing import Any

MSD_MEAN, MSD_STD = 6.768444971712967, 18.417922652295623  # dB, of the Million Song Dataset (MusicFM's msd_stats.json)
FMA_MEAN, FMA_STD = 3.0710578151459664, 20.999089814337626  # dB, of the Free Music Archive (MusicFM's fma_stats.json)

_ATTENTION, _SUMMARY = {"mixer": "attention"}, {"mixer": "summarymixing"}
_BRANCHFORMER = {"family": "branchformer", "heads": 8, "hidden": 3072, "channels": 512}
_CONFORMER = {"family": "conformer", "heads": 16, "hidden": 4096, "channels": 512, "positional_convolution": True}
_OFFICIAL = {"family": "conformer", "mixer": "attention", "heads": 16, "hidden": 4096, "channels": 512, "rotate_input": True}
_SMALL = {"width": 768, "depth": 4}
_LARGE = {"width": 1024, "depth": 12}
_TINY = {
    "width": 160,
    "depth": 6,
    "heads": 4,
    "channels": 16,
    "hidden": 480,
    "linear_after_conv": False,
    "local": (160, 160),
    "summary": (160, 160),
    "dropout": 0.0,
}

# Name -> sizes, of those whose weights are trained by marble.
IN_HOUSE: dict[str, dict[str, Any]] = {
    "branchformer-attention-tiny": _BRANCHFORMER | _ATTENTION | _TINY,
    "branchformer-attention-small": _BRANCHFORMER | _ATTENTION | _SMALL,
    "branchformer-attention-large": _BRANCHFORMER | _ATTENTION | _LARGE,
    "branchformer-summarymixing-tiny": _BRANCHFORMER | _SUMMARY | _TINY,
    "branchformer-summarymixing-large": _BRANCHFORMER | _SUMMARY | _LARGE,
    "conformer-attention-tiny": _CONFORMER | _ATTENTION | _TINY,
    "conformer-attention-small": _CONFORMER | _ATTENTION | _SMALL,
    "conformer-attention-large": _CONFORMER | _ATTENTION | _LARGE,
    "conformer-summarymixing-tiny": _CONFORMER | _SUMMARY | _TINY,
    "conformer-summarymixing-large": _CONFORMER | _SUMMARY | _LARGE,
    "muq-tiny": _OFFICIAL | _TINY,
    "musicfm-tiny": _OFFICIAL | _TINY,
}
SIZES = IN_HOUSE | {
    "muq": _OFFICIAL | _LARGE,
    "musicfm-msd": _OFFICIAL | _LARGE,
    "musicfm-fma": _OFFICIAL | _LARGE | {"mean": FMA_MEAN, "std": FMA_STD},
}
