"""Upstreams: the frozen models that marble probes, one short file for each model family.

`UPSTREAMS` names them without importing them: name -> "module:attribute". The attribute is a `marble.upstream.UpstreamSource`
(a subclass of `marble.upstream.Upstream` is one), a function ``load(argument, *, offline)`` that returns an upstream, or a
mapping that holds one of these under the name.
"""

from pathlib import Path

from marble.upstreams.sizes import IN_HOUSE

# A folder for each upstream whose trained weights come with marble, as `marble.upstreams.loading.saved` reads it.
SHIPPED = Path(__file__).parent / "shipped"

# The upstreams that marble trains.
_TRAINED = dict.fromkeys(IN_HOUSE, "marble.upstreams.mel_encoder:TRAINED") | {
    "omar-rq-tiny": "marble.upstreams.omar_rq:OMAR_RQ",
}

UPSTREAMS = {
    "muq": "marble.upstreams.muq:MUQ",
    "musicfm-msd": "marble.upstreams.musicfm:MUSICFM_MSD",
    "musicfm-fma": "marble.upstreams.musicfm:MUSICFM_FMA",
    "mert-95m": "marble.upstreams.mert:MERT_95M",
    "mert-330m": "marble.upstreams.mert:MERT_330M",
    "omar-rq-base": "marble.upstreams.omar_rq:OMAR_RQ",
    "omar-rq-multicodebook": "marble.upstreams.omar_rq:OMAR_RQ",
    "omar-rq-multifeature": "marble.upstreams.omar_rq:OMAR_RQ",
    "omar-rq-multifeature-25hz": "marble.upstreams.omar_rq:OMAR_RQ",
    "omar-rq-multifeature-25hz-fsq": "marble.upstreams.omar_rq:OMAR_RQ",
    **_TRAINED,
    "fbank-chroma": "marble.upstreams.fbank_chroma:FbankChroma",
    "constant": "marble.upstreams.controls:Constant",
    "random-init": "marble.upstreams.controls:random_init",
    "saved": "marble.upstreams.loading.saved:load_saved",
}

# The arguments of the upstreams that need one: an upstream without weights needs the path of trained ones.
ARGUMENTS = {"random-init": "NAME", "saved": "PATH"} | {name: "PATH" for name in _TRAINED if not (SHIPPED / name).is_dir()}
