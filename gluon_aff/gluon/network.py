"""A network in MXNet (`gluon_aff.engines.Network`)."""

from __future__ import annotations

from typing import List

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from gluon_aff.engines import Awaited
from gluon_aff.evaluation.inference import in_mxnet


class GluonNetwork:
    """A network with its parameters, on its devices."""

    def __init__(self, net: HybridBlock, contexts: List[mx.Context]) -> None:
        self.net = net
        self._infer = in_mxnet(net, contexts)

    def infer(self, images: np.ndarray) -> Awaited:
        """Start on images, float32 (N, 3, H, W); what is returned waits for the outputs, float32 (N, ...)."""
        return self._infer(images)
