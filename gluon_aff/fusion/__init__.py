"""Feature fusion blocks, under the paper's names and the original's `--askc-type` flags."""

from __future__ import annotations

import difflib
from typing import Any

from mxnet.gluon import HybridBlock

from gluon_aff.errors import InputError
from gluon_aff.fusion.attention import AFF, MSCAM, DirectAdd, iAFF

ASKCFuse = AFF
ResGlobLocaforGlobLocaCha = iAFF

FUSIONS = {
    "DirectAdd": DirectAdd,
    "ASKCFuse": AFF,
    "ResGlobLocaforGlobLocaCha": iAFF,
    "AFF": AFF,
    "iAFF": iAFF,
}

__all__ = ["AFF", "FUSIONS", "MSCAM", "ASKCFuse", "DirectAdd", "ResGlobLocaforGlobLocaCha", "iAFF", "make_fusion"]


def make_fusion(name: str, channels: int, **kwargs: Any) -> HybridBlock:
    """Make the fusion called `name`, by paper name or original flag, for maps of `channels` channels.

    Raises:
        InputError: for an unknown name.
    """
    if name not in FUSIONS:
        close = difflib.get_close_matches(name, FUSIONS, 1, 0.4)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"unknown fusion {name!r} (--askc-type){hint} There are: {', '.join(FUSIONS)}")
    return FUSIONS[name](channels, **kwargs)
