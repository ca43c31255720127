"""The paper's fusion operators by name, and how each kind of skip connection uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import unknown_name
from gluon_aff.gluon.fusion.attention import AFF, Concatenation, DirectAdd, GatedSum, SelectiveKernel, iAFF
from gluon_aff.gluon.fusion.context import Norm

SKIPS = ("same layer", "short", "long")
ONE_CONVOLUTION_FLAGS = ("AYforXplusY", "XplusAYforY", "AXYforXplusY", "ResGlobLocaCha", "GAUFuse")


@dataclass(frozen=True)
class Fusing:
    """How a network fuses.

    Attributes:
        operator: name in `OPERATORS`, or one of the original's flags.
        r: channel reduction ratio.
        scale: factor on the output of a selection; the first release's if None (paper_spec 1.5: 2 for AFF and SKNet on
            short and long skips, 1 within a layer and for iAFF). The paper's equations have 1.
        context: 'bottleneck' context branches, or 'conv' for one convolution each. If None, bottlenecks, but for the
            first release's flags that meant one convolution.
        skip: one of `SKIPS`; they differ in what w multiplies and in the concatenation, as in the first release.
        norm: makes a normalisation layer from `in_channels`.
    """

    operator: str = "AFF"
    r: int = 4
    scale: Optional[float] = None
    context: Optional[str] = None
    skip: str = "short"
    norm: Norm = nn.BatchNorm

    def __call__(self, channels: int) -> HybridBlock:
        """Make the block that fuses Y and X, (N, channels, H, W) each.

        Raises:
            InputError: for an unknown operator or context, or an `r` that leaves no channel.
        """
        context = self.context or ("conv" if self.operator in ONE_CONVOLUTION_FLAGS else "bottleneck")
        return fusion_operator(self.operator).make(channels, replace(self, context=context))


@dataclass(frozen=True)
class Operator:
    """A row of the paper's tables.

    Attributes:
        name: the paper's.
        equation: output, from X, Y and the attention w.
        reads: what w is computed from.
        context: of X and Y that w knows: none, partial or full (paper, Table 1).
        strategy: what the paper calls it: addition, concatenation, modulation, refinement or selection.
        make: builds the block of so many channels.
        flags: its names in the original's `--askc-type`.
    """

    name: str
    equation: str
    reads: str
    context: str
    strategy: str
    make: Callable[[int, Fusing], HybridBlock]
    flags: Tuple[str, ...] = ()


def _addition(channels: int, fusing: Fusing) -> HybridBlock:
    return DirectAdd(channels)


def _concatenation(channels: int, fusing: Fusing) -> HybridBlock:
    # As in the first release; a 3x3 convolution follows on a long skip
    return Concatenation(channels, fusing.norm, normalised=fusing.skip == "short", projected=fusing.skip != "long")


def _gated_sum(channels: int, fusing: Fusing, **arguments: Any) -> HybridBlock:
    return GatedSum(channels, fusing.r, fusing.norm, context=fusing.context, **arguments)


def _selection(
    channels: int, fusing: Fusing, block: Callable[..., HybridBlock] = AFF, factor: float = 2, **arguments: Any
) -> HybridBlock:
    """`factor`: scale of the first release, but for fusions within a layer."""
    within = fusing.skip == "same layer"
    scale = fusing.scale if fusing.scale is not None else 1 if within else factor
    if block is not SelectiveKernel:
        arguments["context"] = fusing.context
    return block(channels, fusing.r, fusing.norm, scale, gates="X" if within else "Y", **arguments)


_SELECTION = "scale (w X + (1 - w) Y)"
_MODULATION = "w X + Y"
_REFINEMENT = "X + w Y"
_ROWS = (
    Operator("Add", "X + Y", "-", "none", "addition", _addition, ("DirectAdd",)),
    Operator("Concatenation", "W [X; Y]", "-", "none", "concatenation", _concatenation, ("Concat",)),
    Operator(
        "MS-GAU",
        _MODULATION,
        "Y",
        "partial",
        "modulation",
        partial(_gated_sum, reads="Y", gates="X"),
        ("AYforXplusY",),
    ),
    Operator(
        "MS-SENet",
        _REFINEMENT,
        "Y",
        "partial",
        "refinement",
        partial(_gated_sum, reads="Y", gates="Y"),
        ("XplusAYforY",),
    ),
    Operator(
        "MS-SA",
        _MODULATION,
        "X + Y",
        "full",
        "modulation",
        partial(_gated_sum, reads="X+Y", gates="X"),
        ("AXYforXplusY",),
    ),
    Operator("AFF", _SELECTION, "X + Y", "full", "selection", _selection, ("ASKCFuse", "ResGlobLocaCha")),
    Operator(
        "iAFF",
        _SELECTION,
        "AFF(X, Y)",
        "full",
        "selection",
        partial(_selection, block=iAFF, factor=1),
        ("ResGlobLocaforGlobLocaCha",),
    ),
    Operator(
        "SKNet",
        _SELECTION,
        "X + Y, global",
        "full",
        "selection",
        partial(_selection, block=SelectiveKernel),
        ("SK",),
    ),
    Operator(
        "SENet",
        _REFINEMENT,
        "Y, global",
        "partial",
        "refinement",
        partial(_gated_sum, reads="Y", gates="Y", scales=("global",)),
        ("SEFuse",),
    ),
    Operator(
        "GAU",
        _MODULATION,
        "Y, global",
        "partial",
        "modulation",
        partial(_gated_sum, reads="Y", gates="X", scales=("global",)),
        ("GAUFuse",),
    ),
    Operator(
        "Global+Global",
        _SELECTION,
        "X + Y, global twice",
        "full",
        "selection",
        partial(_selection, scales=("global", "global")),
        ("ResGlobGlobCha",),
    ),
    Operator(
        "Local+Local",
        _SELECTION,
        "X + Y, local twice",
        "full",
        "selection",
        partial(_selection, scales=("local", "local")),
        ("ResLocaLocaCha", "ResLocalLocaCha"),
    ),
)
OPERATORS: Dict[str, Operator] = {operator.name: operator for operator in _ROWS}
_FLAGS = {flag: operator for operator in _ROWS for flag in operator.flags}
_SYNONYMS = {"Global+Local": OPERATORS["AFF"]}  # Table 3's name for it


def fusion_operator(name: str) -> Operator:
    """Operator called `name`, by the paper's name or the original's `--askc-type`.

    Raises:
        InputError: for an unknown name.
    """
    known = {**OPERATORS, **_SYNONYMS, **_FLAGS}
    if name not in known:
        raise unknown_name("fusion (--fusion, --askc-type)", name, known)
    return known[name]
