"""Suites: the tasks of one paper under one name, in the order of its tables; ``--task suite:muq`` runs them all.

A suite names every task of its paper, also tasks that marble lacks or has for the user's own data only: a run reports them as
missing, and includes them as soon as `marble.tasks.TASKS` has the name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """The tasks of a paper, the tables that list them, and the protocol preset nearest to the paper's."""

    paper: str
    tables: str
    protocol: str
    tasks: tuple[str, ...]


_MUQ = (
    "gtzan", "giantsteps-key", "emomusic", "vocalset-singer", "vocalset-technique", "harmonix-structure", "mtt",
    "nsynth-instrument", "nsynth-pitch",
)  # fmt: skip

SUITES = {
    "muq": Suite(
        paper="Zhu et al. 2025, MuQ: Self-Supervised Music Representation Learning with Mel Residual Vector Quantization, "
        "arXiv:2501.01108",
        tables="Tables 1 and 2",
        protocol="muq",
        tasks=_MUQ,
    ),
    "layerwise": Suite(
        paper="Zhou, Zhu and Chen 2025, Layer-wise Investigation of Large-Scale Self-Supervised Music Representation Models",
        tables="Table 1",
        protocol="layerwise",
        tasks=(*_MUQ, "music-preference", "rap-detection", "sound-quality"),
    ),
    "omar": Suite(
        paper="Alonso-Jiménez et al. 2025, OMAR-RQ, arXiv:2507.03482",
        tables="Table 4",
        protocol="omar",
        tasks=("mtt-clean", "nsynth-pitch", "chords", "gtzan-beat", "harmonix-structure", "piano-difficulty"),
    ),
    "branchformer": Suite(
        paper="Vavaroutsos, Palamas and Vikatos, Linear Complexity Self-Supervised Learning for Music Understanding with "
        "Random Quantizer",
        tables="Table 3",
        protocol="branchformer",
        tasks=(
            "mtt", "mtg-top50", "giantsteps-key", "gtzan", "mtg-genre", "emomusic", "nsynth-instrument", "mtg-instrument",
            "nsynth-pitch", "vocalset-technique", "vocalset-singer",
        ),
    ),
    "marble": Suite(
        paper="Yuan et al. 2023, MARBLE: Music Audio Representation Benchmark for Universal Evaluation, arXiv:2306.10548",
        tables="the 14 tasks of its abstract, then what version 2 of its code adds",
        protocol="marble",
        tasks=(
            "mtt", "gtzan", "gtzan-beat", "giantsteps-key", "emomusic", "nsynth-instrument", "nsynth-pitch",
            "vocalset-singer", "vocalset-technique", "mtg-top50", "mtg-genre", "mtg-instrument", "mtg-mood",
            "musdb18-separation", "chords", "hooktheory-key", "hooktheory-structure",
        ),
    ),
}  # fmt: skip
