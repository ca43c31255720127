"""Build what the networks of both engines share: stages of blocks, and adapters of the builders' arguments."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, TypeVar

from gluon_aff.errors import InputError
from gluon_aff.models import INTEGRATION
from gluon_aff.operators import FusionOptions, Integration, fusion_operator

Fusing = TypeVar("Fusing", bound=FusionOptions)
Builder = Callable[..., Any]


def stage_fusions(fusing: Fusing, stages: int, start_layer: int) -> List[Fusing]:
    """Return how each stage fuses: by plain addition before the 1-based `start_layer`, and by `fusing` from there on.

    Raises:
        InputError: the operator is unknown, even if no stage uses it.
    """
    fusion_operator(fusing.operator)
    plain = replace(fusing, operator="Add")
    return [fusing if stage >= start_layer else plain for stage in range(1, stages + 1)]


def stage_blocks(
    block: Any,
    fusings: Sequence[FusionOptions],
    layers: Sequence[int],
    widths: Sequence[int],
    strides: Sequence[int],
    arguments: Sequence[Mapping[str, Any]],
) -> Iterator[List[Any]]:
    """Yield the blocks of each stage.

    Args:
        block: class of the blocks. It is called with the stage's fusion, the input channels, the width and, for the
            first block of a stage, the stride. Its output has `expansion` times as many channels as its width.
        fusings: how each stage fuses.
        layers: number of blocks in each stage.
        widths: input channels of the first stage, followed by the width of each stage.
        strides: stride of the first block of each stage. The other blocks have stride 1.
        arguments: further arguments of each stage's blocks.
    """
    in_channels = widths[0]
    for fusing, blocks, width, stride, own in zip(fusings, layers, widths[1:], strides, arguments):
        first = block(fusing, in_channels, width, stride=stride, **own)
        in_channels = width * block.expansion
        yield [first, *(block(fusing, in_channels, width, **own) for _ in range(blocks - 1))]


def fused(fusing: FusionOptions) -> Callable[[Builder], Builder]:
    """Return a decorator for builders whose first argument is the network's fusion; `fusing` has the defaults.

    The decorated builder takes the parts of that argument one by one: `askc_type`, the original's flag or the paper's
    name of the operator, comes first; `r`, `scale`, `context` and the engine's normalisation arguments are keywords.
    """
    usual = {each.name: getattr(fusing, each.name) for each in fields(fusing) if each.name not in ("operator", "skip")}

    def decorate(build: Builder) -> Builder:
        @wraps(build)
        def host(askc_type: str, *arguments: Any, **given: Any) -> Any:
            own = {name: given.pop(name) for name in usual if name in given}
            return build(replace(fusing, operator=askc_type, **own), *arguments, **given)

        _, *parameters = signature(build).parameters.values()
        positional = [each for each in parameters if each.kind is not Parameter.VAR_KEYWORD]
        keywords = [Parameter(name, Parameter.KEYWORD_ONLY, default=value) for name, value in usual.items()]
        first = Parameter("askc_type", Parameter.POSITIONAL_OR_KEYWORD)
        rest = parameters[len(positional) :]
        host.__signature__ = signature(build).replace(  # type: ignore[attr-defined]
            parameters=[first, *positional, *keywords, *rest]
        )
        return host

    return decorate


def integrated(build: Builder) -> Builder:
    """Let a builder of an AFINet take the attributes of `Integration` one by one; the plain network has no variant."""

    def host(classes: int, variant: str = "", **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in INTEGRATION if name in kwargs}
        if "askc_type" in kwargs:
            raise InputError(f"fusion {kwargs['askc_type']}: AFINets and their plain versions have no fusion; omit it")
        if given and not variant:
            raise InputError(f"{', '.join(given)}: a plain network integrates no features; take afi_... or afi_b_...")
        return build(Integration(variant, **given), classes=classes, **kwargs)

    return host


def all_arguments(build: Builder, given: Mapping[str, Any]) -> Dict[str, Any]:
    """Return all arguments of a builder, with the defaults of those that are not given.

    Two networks with equal arguments are the same network.

    Raises:
        InputError: the fusion is unknown.
    """
    bound = signature(build).bind(**given)
    bound.apply_defaults()
    arguments = {**bound.arguments, **bound.arguments.get("kwargs", {})}
    arguments.pop("kwargs", None)
    if "askc_type" in arguments:
        arguments["askc_type"] = fusion_operator(arguments["askc_type"]).name
    return arguments
