"""Return the outputs of a network's stages, for users who put these backbones into networks of their own."""

from __future__ import annotations

from typing import List, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gluon_aff.errors import InputError
from gluon_aff.pytorch.networks.layers import Network, image_dtype

PROBE_SIZE = 224  # divisible by the total stride of every network


class FeatureMaps(Network):
    """Return the outputs of a network's stages: (N, 3, H, W) -> a list of (N, width, H/stride, W/stride).

    The network's head is left out. The parameters are shared with the network, under other names (`stage1.`, `stage2.`,
    ...).

    Args:
        net: the network.
        out_indices: numbers, from 0, of the stages to return. If None, all stages.

    Attributes:
        out_indices: numbers, from 0, of the stages that are returned.
        widths: channels of each output.
        strides: factor by which each output is smaller than the image.

    Raises:
        InputError: a stage does not exist.
    """

    def __init__(self, net: Network, out_indices: Optional[Sequence[int]] = None) -> None:
        super().__init__()
        self.grad_checkpointing = net.grad_checkpointing
        stages = net.stages()
        try:
            self.out_indices = [range(len(stages))[index] for index in out_indices or range(len(stages))]
        except IndexError:
            raise InputError(f"out_indices={out_indices}: the stages are 0 to {len(stages) - 1}") from None
        for number, modules in enumerate(stages[: max(self.out_indices) + 1], 1):
            self.add_module(f"stage{number}", nn.Sequential(*modules))
        shapes = [each.shape for each in self._outputs_of_a_probe()]
        self.widths: List[int] = [shape[1] for shape in shapes]
        self.strides: List[int] = [PROBE_SIZE // shape[2] for shape in shapes]

    def _outputs_of_a_probe(self) -> List[Tensor]:
        """Return outputs without values for two images, since BatchNorm refuses a single one in training."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        without_values = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
        images = torch.empty(2, 3, PROBE_SIZE, PROBE_SIZE, dtype=image_dtype(self), device="meta")
        return functional_call(self, without_values, images)

    def forward(self, x: Tensor) -> List[Tensor]:
        """Return the stages' outputs, a list of (N, width, H/stride, W/stride)."""
        outputs = []
        for modules in self.stages():
            x = self.run_stage(modules, x)
            outputs.append(x)
        return [outputs[index] for index in self.out_indices]

    def stages(self) -> List[List[nn.Module]]:
        """Return the modules that lead to the end of each stage, starting after the previous stage."""
        return [list(stage.children()) for stage in self.children()]
