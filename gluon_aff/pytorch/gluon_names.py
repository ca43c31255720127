"""The names that Gluon gives parameters itself, by whose order a Trainer numbers its states.

Gluon counts the blocks of a class from 0 within the scope that they are made in, as in `bottleneck3_aff0_conv0_weight`,
and here as in a fresh process. Most blocks are the scope of what is in them.
"""

from __future__ import annotations

from collections import Counter
from typing import Counter as Counts
from typing import Dict, Iterator, List, Tuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gluon_aff.models import Architecture
from gluon_aff.pytorch.networks.afi import AFINet, Block, Group
from gluon_aff.pytorch.networks.resnet import AFFResNet
from gluon_aff.pytorch.networks.zoo import build
from gluon_aff.pytorch.parameters import parameter_names

LAYERS = ((nn.Conv2d, "conv"), (nn.Linear, "dense"), (_BatchNorm, "batchnorm"), (nn.LayerNorm, "layernorm"))
# What is in them is in the scope around them
CHAINS = (nn.Sequential, nn.ModuleList, AFFResNet, Group, Block)


def gluon_names(net: nn.Module) -> Dict[str, str]:
    """Gluon's names of the parameters of `net`, by the names that `.params` files have."""
    prefixes = dict(_prefixes("", net, "", Counter(), Counter()))
    return {name: prefixes[name.rpartition(".")[0]] + name.rpartition(".")[2] for name in parameter_names(net).values()}


def raw_names(architecture: Architecture) -> Dict[str, str]:
    """`gluon_aff.engines.Engine.raw_names`."""
    with torch.device("meta"):
        return gluon_names(build(architecture))


def in_trainer_order(net: nn.Module) -> List[str]:
    """The names that `.params` files have for the parameters of `net`, each at the index that a Trainer gives it."""
    names = gluon_names(net)
    return sorted(names, key=names.__getitem__)


def _prefixes(
    name: str, module: nn.Module, scope: str, counts: Counts[str], outermost: Counts[str]
) -> Iterator[Tuple[str, str]]:
    """Names of modules, and what Gluon puts before the names of their own parameters.

    Args:
        name: of the module in the network.
        module: it.
        scope: what Gluon puts before names of what is made where the module is.
        counts: of the classes' blocks in that scope.
        outermost: of those outside of any scope.
    """
    if not isinstance(module, CHAINS):
        kind = next((kind for layer, kind in LAYERS if isinstance(module, layer)), type(module).__name__.lower())
        scope, counts[kind], counts = f"{scope}{kind}{counts[kind]}_", counts[kind] + 1, Counter()
        yield name, scope
    for own, child in module.named_children():
        where = ("", outermost) if isinstance(module, AFINet) and own == "features" else (scope, counts)
        yield from _prefixes(f"{name}.{own}" if name else own, child, *where, outermost)
