"""Reproduce Gluon's own parameter names, whose order decides how a Trainer numbers its states.

Gluon counts the blocks of each class from 0 within the scope that they are made in, as in
`bottleneck3_aff0_conv0_weight`. The names here are those of a fresh process. Most blocks are the scope of the blocks
inside them.
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
# Blocks inside these belong to the scope outside
CHAINS = (nn.Sequential, nn.ModuleList, AFFResNet, Group, Block)


def gluon_names(net: nn.Module) -> Dict[str, str]:
    """Return Gluon's own names of the parameters of `net`, by their names in `.params` files."""
    prefixes = dict(_prefixes("", net, "", Counter(), Counter()))
    return {name: prefixes[name.rpartition(".")[0]] + name.rpartition(".")[2] for name in parameter_names(net).values()}


def raw_names(architecture: Architecture) -> Dict[str, str]:
    """Return Gluon's own parameter names, as `gluon_aff.engines.Catalogue.raw_names` says."""
    with torch.device("meta"):
        return gluon_names(build(architecture))


def in_trainer_order(net: nn.Module) -> List[str]:
    """Return the names in `.params` files of the parameters of `net`, in the order in which a Trainer numbers them."""
    names = gluon_names(net)
    return sorted(names, key=names.__getitem__)


def _prefixes(
    name: str, module: nn.Module, scope: str, counts: Counts[str], outermost: Counts[str]
) -> Iterator[Tuple[str, str]]:
    """Yield the names of modules, and the prefixes that Gluon gives the names of their own parameters.

    Args:
        name: name of the module in the network.
        module: the module.
        scope: prefix of the scope that the module is made in.
        counts: number of blocks of each class in that scope so far.
        outermost: number of blocks of each class outside any scope so far.
    """
    if not isinstance(module, CHAINS):
        kind = next((kind for layer, kind in LAYERS if isinstance(module, layer)), type(module).__name__.lower())
        scope, counts[kind], counts = f"{scope}{kind}{counts[kind]}_", counts[kind] + 1, Counter()
        yield name, scope
    for own, child in module.named_children():
        where = ("", outermost) if isinstance(module, AFINet) and own == "features" else (scope, counts)
        yield from _prefixes(f"{name}.{own}" if name else own, child, *where, outermost)
