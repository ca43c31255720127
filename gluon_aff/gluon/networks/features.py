"""Return the outputs of a network's stages, for users who put these backbones into networks of their own."""

from __future__ import annotations

from typing import Any, List

import mxnet as mx
from mxnet.gluon import HybridBlock

from gluon_aff.gluon.fusion.context import sequential
from gluon_aff.gluon.networks.layers import NormalisesInput, asking_for_gradient

PROBE_SIZE = 224  # divisible by the total stride of every network


class FeatureMaps(HybridBlock):
    """Return the outputs of a network's stages: (N, 3, H, W) -> a list of (N, width, H/stride, W/stride).

    The network's head is left out. The parameters are shared with the network, under other names (`stage1.`, `stage2.`,
    ...).

    Attributes:
        widths: channels of each output.
        strides: factor by which each output is smaller than the image.
    """

    def __init__(self, net: HybridBlock) -> None:
        super().__init__()
        self._normalises_input = isinstance(net, NormalisesInput)
        for number, blocks in enumerate(net.stages(), 1):
            setattr(self, f"stage{number}", sequential(*blocks))
        shapes = mx.sym.Group(self(mx.sym.var("images"))).infer_shape(images=(1, 3, PROBE_SIZE, PROBE_SIZE))[1]
        self.widths: List[int] = [shape[1] for shape in shapes]
        self.strides: List[int] = [PROBE_SIZE // shape[2] for shape in shapes]

    def forward(self, x: Any, *args: Any) -> Any:
        """Return the stages' outputs, a list of (N, width, H/stride, W/stride)."""
        return super().forward(asking_for_gradient(x) if self._normalises_input else x, *args)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the stages' outputs, a list of (N, width, H/stride, W/stride)."""
        outputs = []
        for stage in self._children.values():
            x = stage(x)
            outputs.append(x)
        return outputs
