"""The stages' outputs of a network, for users who put these backbones elsewhere."""

from __future__ import annotations

from typing import Any, List

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff.gluon.fusion.context import sequential
from gluon_aff.gluon.networks.layers import NormalisesInput, asking_for_gradient

PROBE_SIZE = 224  # a multiple of every network's stride


class FeatureMaps(HybridBlock):
    """Outputs of the stages of a network, without its head: (N, 3, H, W) -> a list of (N, width, H/stride, W/stride).

    It shares the network's parameters, under its own names (`stage1.`, `stage2.`, ...).

    Attributes:
        widths: channels of each output.
        strides: how many times smaller than the image each output is.
    """

    def __init__(self, net: HybridBlock) -> None:
        super().__init__(prefix=net.prefix)
        self._normalises_input = isinstance(net, NormalisesInput)
        for number, blocks in enumerate(net.stages(), 1):
            setattr(self, f"stage{number}", sequential(*blocks))
        shapes = mx.sym.Group(self(mx.sym.var("images"))).infer_shape(images=(1, 3, PROBE_SIZE, PROBE_SIZE))[1]
        self.widths: List[int] = [shape[1] for shape in shapes]
        self.strides: List[int] = [PROBE_SIZE // shape[2] for shape in shapes]

    def forward(self, x: Any, *args: Any) -> Any:
        """Return the stages' outputs."""
        return super().forward(asking_for_gradient(x) if self._normalises_input else x, *args)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the stages' outputs."""
        outputs = []
        for stage in self._children.values():
            x = stage(x)
            outputs.append(x)
        return outputs
