"""Upstreams: the frozen models that marble probes, one short file per model family.

`UPSTREAMS` names them without importing them: name -> "module:Class". See `marble.upstream` for the contract.
"""

from pathlib import Path

UPSTREAMS = {
    "muq": "marble.upstreams.muq:MuQ",
    "musicfm-msd": "marble.upstreams.musicfm:MusicFMMSD",
    "musicfm-fma": "marble.upstreams.musicfm:MusicFMFMA",
    "mert-95m": "marble.upstreams.mert:Mert95M",
    "mert-330m": "marble.upstreams.mert:Mert330M",
    "omar-rq-base": "marble.upstreams.omar_rq:OmarRQBase",
    "omar-rq-multicodebook": "marble.upstreams.omar_rq:OmarRQMulticodebook",
    "omar-rq-multifeature": "marble.upstreams.omar_rq:OmarRQMultifeature",
    "omar-rq-multifeature-25hz": "marble.upstreams.omar_rq:OmarRQMultifeature25Hz",
    "omar-rq-multifeature-25hz-fsq": "marble.upstreams.omar_rq:OmarRQMultifeature25HzFSQ",
    "branchformer-attention-tiny": "marble.upstreams.mel_encoder:BranchformerAttentionTiny",
    "branchformer-attention-small": "marble.upstreams.mel_encoder:BranchformerAttentionSmall",
    "branchformer-attention-large": "marble.upstreams.mel_encoder:BranchformerAttentionLarge",
    "branchformer-summarymixing-tiny": "marble.upstreams.mel_encoder:BranchformerSummaryMixingTiny",
    "branchformer-summarymixing-large": "marble.upstreams.mel_encoder:BranchformerSummaryMixingLarge",
    "conformer-attention-tiny": "marble.upstreams.mel_encoder:ConformerAttentionTiny",
    "conformer-attention-small": "marble.upstreams.mel_encoder:ConformerAttentionSmall",
    "conformer-attention-large": "marble.upstreams.mel_encoder:ConformerAttentionLarge",
    "conformer-summarymixing-tiny": "marble.upstreams.mel_encoder:ConformerSummaryMixingTiny",
    "conformer-summarymixing-large": "marble.upstreams.mel_encoder:ConformerSummaryMixingLarge",
    "muq-tiny": "marble.upstreams.mel_encoder:MuQTiny",
    "musicfm-tiny": "marble.upstreams.mel_encoder:MusicFMTiny",
    "omar-rq-tiny": "marble.upstreams.omar_rq:OmarRQTiny",
    "fbank-chroma": "marble.upstreams.fbank_chroma:FbankChroma",
    "constant": "marble.upstreams.controls:Constant",
    "random-init": "marble.upstreams.controls:RandomInit",
    "saved": "marble.upstreams.loading.saved:Saved",
}

# A folder for each in-house upstream whose trained weights come with marble, as `marble.upstreams.loading.saved` reads it.
SHIPPED = Path(__file__).parent / "shipped"

# What follows the colon of an upstream that is made from an argument; of in-house upstreams without weights, the path.
ARGUMENTS = {"random-init": "NAME", "saved": "PATH"} | {
    name: "PATH"
    for name in UPSTREAMS
    if name.startswith(("branchformer-", "conformer-")) or name.endswith("-tiny")
    if not (SHIPPED / name).is_dir()
}
