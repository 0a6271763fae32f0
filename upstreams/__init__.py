"""Upstreams: the frozen models that marble probes, one short file per model family.

`UPSTREAMS` names them without importing them: name -> "module:Class". See `marble.upstream` for the contract.
"""

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
    "fbank-chroma": "marble.upstreams.fbank_chroma:FbankChroma",
    "constant": "marble.upstreams.controls:Constant",
    "random-init": "marble.upstreams.controls:RandomInit",
}

# What follows the colon of an upstream that is made from an argument.
ARGUMENTS = {"random-init": "NAME"}
