"""Feature fusion blocks, under the paper's names and the original's `--askc-type` flags."""

from __future__ import annotations

from typing import Type

from mxnet.gluon import HybridBlock

from gluon_aff.errors import unknown_name
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

__all__ = ["AFF", "FUSIONS", "MSCAM", "ASKCFuse", "DirectAdd", "ResGlobLocaforGlobLocaCha", "fusion_class", "iAFF"]


def fusion_class(name: str) -> Type[HybridBlock]:
    """Fusion called `name`, by paper name or original flag.

    Raises:
        InputError: for an unknown name.
    """
    if name not in FUSIONS:
        raise unknown_name("fusion (--askc-type)", name, FUSIONS)
    return FUSIONS[name]
