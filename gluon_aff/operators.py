"""List the papers' fusion operators by name, with the block and the arguments that implement each of them.

Each engine has its own blocks: `gluon_aff.gluon.fusion` and `gluon_aff.pytorch.fusion` have one class for each name in
`Operator.block`. `register_operator` adds operators from outside the package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from gluon_aff.errors import InputError, unknown_name
from gluon_aff.models import is_count
from gluon_aff.registry import register_implementation

SKIPS = ("same layer", "short", "long")
BRANCHES = ("local", "global")
CONTEXTS = ("bottleneck", "conv")
WAYS = ("chain", "softmax")  # how more than two features are fused
ATTENTIONS = ("SE", "GE", "CBAM", "ECA")
SELECTIONS = ("AFF", "iAFF", "SelectiveKernel")
ONE_CONVOLUTION_FLAGS = ("AYforXplusY", "XplusAYforY", "AXYforXplusY", "ResGlobLocaCha", "GAUFuse")


@dataclass(frozen=True)
class Operator:
    """Describe a fusion operator, a row of the paper's Tables 1, 3 and 4.

    Attributes:
        name: the paper's name.
        equation: output in terms of X, Y and the attention w.
        reads: input from which w is computed.
        awareness: which of X and Y the attention w takes into account: 'none', 'partial' or 'full' (paper, Table 1).
        strategy: kind of fusion by the paper's terms: addition, concatenation, modulation, refinement or selection.
        block: name of the block's class.
        arguments: arguments of that class.
        flags: names of the operator in the original's `--askc-type`.
    """

    name: str
    equation: str
    reads: str
    awareness: str
    strategy: str
    block: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    flags: Tuple[str, ...] = ()


_MODULATION, _REFINEMENT, _SELECTION = "w X + Y", "X + w Y", "scale (w X + (1 - w) Y)"
_Y_GATES_X, _Y_GATES_Y = {"reads": "Y", "gates": "X"}, {"reads": "Y", "gates": "Y"}
_GLOBAL, _TWO_GLOBAL, _TWO_LOCAL = ({"branches": each} for each in (("global",), ("global",) * 2, ("local",) * 2))
_ROWS = (
    Operator("Add", "X + Y", "-", "none", "addition", "DirectAdd", flags=("DirectAdd",)),
    Operator("Concatenation", "W [X; Y]", "-", "none", "concatenation", "Concatenation", flags=("Concat",)),
    Operator("MS-GAU", _MODULATION, "Y", "partial", "modulation", "GatedSum", _Y_GATES_X, ("AYforXplusY",)),
    Operator("MS-SENet", _REFINEMENT, "Y", "partial", "refinement", "GatedSum", _Y_GATES_Y, ("XplusAYforY",)),
    Operator(
        "MS-SA",
        _MODULATION,
        "X + Y",
        "full",
        "modulation",
        "GatedSum",
        {"reads": "X+Y", "gates": "X"},
        ("AXYforXplusY",),
    ),
    Operator("AFF", _SELECTION, "X + Y", "full", "selection", "AFF", flags=("ASKCFuse", "ResGlobLocaCha")),
    Operator("iAFF", _SELECTION, "AFF(X, Y)", "full", "selection", "iAFF", flags=("ResGlobLocaforGlobLocaCha",)),
    Operator("SKNet", _SELECTION, "X + Y, global", "full", "selection", "SelectiveKernel", flags=("SK",)),
    Operator(
        "SENet",
        _REFINEMENT,
        "Y, global",
        "partial",
        "refinement",
        "GatedSum",
        {**_Y_GATES_Y, **_GLOBAL},
        ("SEFuse",),
    ),
    Operator(
        "GAU", _MODULATION, "Y, global", "partial", "modulation", "GatedSum", {**_Y_GATES_X, **_GLOBAL}, ("GAUFuse",)
    ),
    Operator(
        "Global+Global", _SELECTION, "X + Y, global twice", "full", "selection", "AFF", _TWO_GLOBAL, ("ResGlobGlobCha",)
    ),
    Operator(
        "Local+Local",
        _SELECTION,
        "X + Y, local twice",
        "full",
        "selection",
        "AFF",
        _TWO_LOCAL,
        ("ResLocaLocaCha", "ResLocalLocaCha"),
    ),
)
OPERATORS: Dict[str, Operator] = {operator.name: operator for operator in _ROWS}
_SYNONYMS = {"Global+Local": OPERATORS["AFF"]}  # the name in the paper's Table 3


def fusion_operator(name: str) -> Operator:
    """Return the operator with that name, the paper's or one of the original's `--askc-type`.

    Raises:
        InputError: the name is unknown.
    """
    flags = {flag: operator for operator in OPERATORS.values() for flag in operator.flags}
    known = {**OPERATORS, **_SYNONYMS, **flags}
    if name not in known:
        unknown = unknown_name("fusion (--fusion, --askc-type)", name, known)
        raise InputError(f"{unknown}; for an operator of your own, name its module with --import")
    return known[name]


def register_operator(
    name: str, *, equation: str = "", reads: str = "", flags: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a class decorator that makes a fusion block known to `--fusion NAME` and to `get_model`.

    The block fuses Y and X, (N, C, H, W) each. Its base class, Gluon's HybridBlock or PyTorch's nn.Module, decides
    which engine it is for; each engine can have one block of the same name. The block is constructed with the number of
    channels C, and with those of `r`, `scale`, `context`, `skip`, `norm` (Gluon) and `norm_layer` (PyTorch) that its
    constructor names. `FusionOptions` explains them.

    Args:
        name: letters, digits, underscores, + and -, since the names of runs contain it.
        equation: output in terms of X, Y and the attention w.
        reads: input from which w is computed.
        flags: further names of the operator.

    Raises:
        InputError: one of the names is taken or contains other characters.
    """

    def register(block: Callable[..., Any]) -> Callable[..., Any]:
        known = {**OPERATORS, **_SYNONYMS, **{flag: each for each in OPERATORS.values() for flag in each.flags}}
        for each in (name, *flags):
            if not re.fullmatch(r"[\w+-]+", each):
                raise InputError(f"register_operator({each!r}): only letters, digits, underscores, + and - are allowed")
            if each in known and (known[each] in _ROWS or known[each].name != name):
                raise InputError(f"register_operator({each!r}): {known[each].name} has this name already; take another")
        OPERATORS[name] = Operator(name, equation, reads, "", "", name, flags=tuple(flags))
        register_implementation(name, block)
        return block

    return register


@dataclass(frozen=True)
class FusionOptions:
    """Describe how a network fuses features.

    Attributes:
        operator: name in `OPERATORS`, or one of the original's `--askc-type` flags.
        r: channel reduction ratio.
        scale: factor on the output of a selection. If None, the value of the original's first release: 2 for AFF and
            SKNet on short and long skips, 1 within a layer and for iAFF. The paper's equations have 1.
        context: 'bottleneck' context branches, or 'conv' for a single convolution in each. If None, bottlenecks, except
            for the flags of the first release that stood for a single convolution.
        skip: one of `SKIPS`. It decides what w multiplies and how a concatenation is built, as in the first release.
    """

    operator: str = "AFF"
    r: int = 4
    scale: Optional[float] = None
    context: Optional[str] = None
    skip: str = "short"

    def block(self) -> Tuple[str, Dict[str, Any]]:
        """Return the name of the block's class and its arguments, without the channels and the normalisation.

        Raises:
            InputError: the operator is unknown.
        """
        operator = fusion_operator(self.operator)
        return operator.block, {**self._arguments(operator.block), **operator.arguments}

    def own_arguments(self, block: Callable[..., Any], **norm: Any) -> Dict[str, Any]:
        """Return the options, and the arguments in `norm`, that the constructor of a registered block names."""
        options = {name: getattr(self, name) for name in ("r", "scale", "context", "skip")}
        given = {name: value for name, value in {**options, **norm}.items() if value is not None}
        return {name: value for name, value in given.items() if name in signature(block).parameters}

    def _arguments(self, block: str) -> Dict[str, Any]:
        within = self.skip == "same layer"
        context = self.context or ("conv" if self.operator in ONE_CONVOLUTION_FLAGS else "bottleneck")
        if block == "Concatenation":
            # As in the first release; on a long skip a 3x3 convolution follows instead.
            return {"normalised": self.skip == "short", "projected": self.skip != "long"}
        if block == "GatedSum":
            return {"r": self.r, "context": context}
        if block in SELECTIONS:
            released = 1 if within or block == "iAFF" else 2
            scale = released if self.scale is None else self.scale
            selection = {"r": self.r, "scale": scale, "gates": "X" if within else "Y"}
            return selection if block == "SelectiveKernel" else {**selection, "context": context}
        return {}


def reduced(channels: int, r: Any) -> int:
    """Return channels // r, the channels after reduction, 0 if `r` is larger than `channels`.

    Raises:
        InputError: `r` is not a whole number from 1.
    """
    if not is_count(r):
        raise InputError(f"r={r!r}: the channel reduction ratio is a whole number from 1")
    return channels // r


def bottleneck_width(channels: int, r: Any) -> int:
    """Return the channels of a context branch's bottleneck, channels // r.

    Raises:
        InputError: `r` is not a whole number from 1, or leaves no channel.
    """
    width = reduced(channels, r)
    if not width:
        raise InputError(f"channel reduction ratio r={r} leaves no channel of {channels}: take r <= {channels}")
    return width


def check_context(branch: str, context: str) -> None:
    """Raise InputError unless `branch` is one of `BRANCHES` and `context` is one of `CONTEXTS`."""
    for what, name, known in (("context branch", branch, BRANCHES), ("context", context, CONTEXTS)):
        if name not in known:
            raise unknown_name(what, name, known)


def check_features(in_channels: Sequence[int], way: str) -> None:
    """Raise InputError unless there are two features or more, and `way` is one of `WAYS`."""
    if len(in_channels) < 2:
        raise InputError(f"in_channels={list(in_channels)}: a fusion takes two features or more")
    if way not in WAYS:
        raise unknown_name("way to fuse", way, WAYS)


VARIANTS = ("", "A", "B")
FIRST_FEATURES = ("part", "halves")


@dataclass(frozen=True)
class Integration:
    """Describe how the blocks of a group of an AFINet integrate the features of earlier blocks.

    Attributes:
        variant: 'A' (AFI-Network): first convolutions have half of their channels, and the integrated feature takes the
            place of the other half. 'B' (AFI-Network-B): the integrated feature is appended to all channels. '': the
            plain network, which integrates nothing.
        r: channel reduction ratio of the layers that score the features.
        stages: numbers, from 1, of the groups that integrate features (AFINets paper, Table 1). If None, all groups do.
        attention: one of `ATTENTIONS`, applied to the integrated feature (AFINets paper, Table 2). None for no
            attention.
        first: what the first block of a group, which has all channels, contributes in variant A: 'part', the first half
            of its channels, or 'halves', both halves as two features. The paper's FLOPs fit 'part'.
    """

    variant: str = "A"
    r: int = 4
    stages: Optional[Sequence[int]] = None
    attention: Optional[str] = None
    first: str = "part"

    def check(self, groups: int) -> None:
        """Raise InputError if these settings do not fit a network with this number of groups."""
        for what, name, known in (
            ("AFI variant", self.variant, VARIANTS),
            ("first feature", self.first, FIRST_FEATURES),
            ("attention", self.attention or "SE", ATTENTIONS),
        ):
            if name not in known:
                raise unknown_name(what, name, known)
        if self.stages is None:
            return
        stages: List[Any] = list(self.stages) if isinstance(self.stages, Sequence) else []
        if not stages or not all(is_count(stage) and stage <= groups for stage in stages):
            raise InputError(f"stages {self.stages}: name those that integrate features, from 1 to {groups}")

    def of_group(self, number: int) -> str:
        """Return the variant of the group with that number, or '' if the group integrates nothing."""
        return self.variant if self.stages is None or number in self.stages else ""
