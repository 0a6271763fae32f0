"""The Hugging Face hub: whether its cache has a folder, and whether it answers."""

from __future__ import annotations

from marble.system.files import refuse_unknown_home

SECONDS = 10.0


def hub_answers(*, offline: bool = False) -> bool:
    """Return whether the hub answers within `SECONDS`; where it does not, its own library prints retries for a minute.

    Args:
        offline: do not ask.

    Raises:
        MarbleError: the hub's cache would lie in the home folder, and there is none.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    refuse_unknown_home(constants.HF_HUB_CACHE)
    if offline:
        return False
    try:
        return get_session().head(constants.ENDPOINT, timeout=SECONDS).status_code < 500
    except Exception:  # of the network libraries below the hub, which differ between its versions
        return False
