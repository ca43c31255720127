"""ImageNet ResNet with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Type, Union

from mxnet.gluon import HybridBlock, nn

from gluon_aff.errors import unknown_name
from gluon_aff.gluon.fusion import Fusing
from gluon_aff.gluon.fusion.context import GlobalAveragePool, sequential
from gluon_aff.gluon.networks.layers import (
    WithHead,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initial_gamma,
    norm_factory,
    projection,
    relu,
    stage_fusions,
)

WIDTHS = (64, 128, 256, 512)


class Bottleneck(HybridBlock):
    """1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, BN, fused with the shortcut, ReLU.

    (N, in_channels, H, W) -> (N, 4 * planes, H/stride, W/stride); the 3x3 convolution strides and dilates.
    """

    expansion = 4

    def __init__(
        self,
        fusing: Fusing,
        planes: int,
        in_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        avg_down: bool = True,
        last_gamma: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels, norm = planes * self.expansion, fusing.norm
        with self.name_scope():
            self.conv1 = conv1x1(planes, in_channels)
            self.bn1 = norm(in_channels=planes)
            self.relu1 = relu()
            self.conv2 = conv3x3(planes, planes, stride, dilation)
            self.bn2 = norm(in_channels=planes)
            self.relu2 = relu()
            self.conv3 = conv1x1(channels, planes)
            self.bn3 = norm(in_channels=channels, gamma_initializer=initial_gamma(last_gamma))
            self.downsample = projection(channels, in_channels, stride, norm, avg_down) if project else None
            self.attention = fusing(channels)
            self.relu3 = relu()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(self.attention(out, shortcut))


class BasicBlock(HybridBlock):
    """3x3, BN, ReLU, 3x3, BN, fused with the shortcut, ReLU: the block of ResNet-18 and -34.

    (N, in_channels, H, W) -> (N, planes, H/stride, W/stride); the first convolution strides, both dilate.
    """

    expansion = 1

    def __init__(
        self,
        fusing: Fusing,
        planes: int,
        in_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        avg_down: bool = True,
        last_gamma: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = fusing.norm
        with self.name_scope():
            self.conv1 = conv3x3(planes, in_channels, stride, dilation)
            self.bn1 = norm(in_channels=planes)
            self.relu1 = relu()
            self.conv2 = conv3x3(planes, planes, 1, dilation)
            self.bn2 = norm(in_channels=planes, gamma_initializer=initial_gamma(last_gamma))
            self.downsample = projection(planes, in_channels, stride, norm, avg_down) if project else None
            self.attention = fusing(planes)
            self.relu2 = relu()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.attention(out, shortcut))


BlockClass = Type[Union[Bottleneck, BasicBlock]]
BLOCKS: Dict[str, BlockClass] = {"bottleneck": Bottleneck, "basic": BasicBlock}


class AFFResNet(WithHead):
    """Stem, four stages of blocks, global average pool, dense.

    Shapes: (N, 3, H, W) -> (N, classes) logits.

    Args:
        askc_type: fusion, by the original's flag or the paper's name.
        start_layer: first stage, 1-based, with that fusion; stages before it add (published: 3).
        layers: blocks in each of the four stages (50 layers: [3, 4, 6, 3]).
        classes: outputs.
        dilated: stages 3 and 4 keep their size and dilate by 2 and 4 instead.
        norm_layer: normalisation layer, such as BatchNorm or SyncBatchNorm.
        norm_kwargs: its further arguments.
        last_gamma: start each block's last gamma at zero.
        deep_stem: three 3x3 convolutions instead of one 7x7.
        stem_width: width of the first two of them; the third has twice that.
        avg_down: average pool before the 1x1 convolution of a shortcut, instead of a stride.
        final_drop: dropout probability before the dense layer.
        use_global_stats: normalise with running statistics in training too.
        name_prefix: prefix of raw parameter names.
        r: channel reduction ratio of the fusions (keyword only; the original has 16 fixed).
        scale: factor on the output of AFF, iAFF and SKNet; the original's if None (keyword only).
        context: 'bottleneck' or 'conv' branches, see `fusion.Fusing` (keyword only).
        block: 'bottleneck', or 'basic' as in ResNet-18 and -34 (keyword only).
        **kwargs: `ctx` and `use_pretrained` are accepted and ignored, as in the original.

    Raises:
        InputError: for an unknown fusion or block.
    """

    head_name = "fc"

    def __init__(
        self,
        askc_type: str,
        start_layer: int,
        layers: List[int],
        classes: int = 1000,
        dilated: bool = False,
        norm_layer: Any = nn.BatchNorm,
        norm_kwargs: Optional[dict] = None,
        last_gamma: bool = False,
        deep_stem: bool = True,
        stem_width: int = 32,
        avg_down: bool = True,
        final_drop: float = 0.0,
        use_global_stats: bool = False,
        name_prefix: str = "",
        *,
        r: int = 16,
        scale: Optional[float] = None,
        context: Optional[str] = None,
        block: str = "bottleneck",
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix=name_prefix)
        unknown = set(kwargs) - {"ctx", "use_pretrained"}
        if unknown:
            raise TypeError(f"AFFResNet has no argument {', '.join(sorted(unknown))}")
        if block not in BLOCKS:
            raise unknown_name("block", block, BLOCKS)
        norm_kwargs = dict(norm_kwargs or {}, **({"use_global_stats": True} if use_global_stats else {}))
        norm = norm_factory(norm_layer, norm_kwargs)
        stem_channels = 2 * stem_width if deep_stem else 64
        fusings = stage_fusions(Fusing(askc_type, r, scale, context, norm=norm), 4, start_layer)
        strides, dilations = ((1, 2, 1, 1), (1, 1, 2, 4)) if dilated else ((1, 2, 2, 2), (1, 1, 1, 1))
        with self.name_scope():
            stem = imagenet_stem(stem_width, stem_channels, deep_stem, norm)
            self.conv1 = sequential(*stem) if deep_stem else stem[0]
            self.bn1 = norm(in_channels=stem_channels)
            self.relu = relu()
            self.maxpool = nn.MaxPool2D(3, 2, 1)
            self.layer1, self.layer2, self.layer3, self.layer4 = resnet_stages(
                BLOCKS[block],
                fusings,
                layers,
                (stem_channels, *WIDTHS),
                strides,
                dilations,
                avg_down=avg_down,
                last_gamma=last_gamma,
            )
            self.avgpool = GlobalAveragePool()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if final_drop > 0 else None
            self.fc = nn.Dense(classes, in_units=WIDTHS[-1] * BLOCKS[block].expansion)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.flat(self.avgpool(x))
        return self.fc(x if self.drop is None else self.drop(x))

    def stages(self) -> List[List[HybridBlock]]:
        """Layers up to the end of each stage, from the stage before on."""
        stem = [self.conv1, self.bn1, self.relu, self.maxpool]
        return [[*stem, self.layer1], [self.layer2], [self.layer3], [self.layer4]]


def resnet_stages(
    block: BlockClass,
    fusings: Sequence[Fusing],
    layers: Sequence[int],
    widths: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    **arguments: Any,
) -> List[nn.HybridSequential]:
    """Stages of so many blocks (`layers`).

    widths[0] is the input's, the others those of the stages' 3x3 convolutions. A stage's first block strides, projects
    where width or size changes, and dilates by half.
    """
    stages, in_channels = [], widths[0]
    for fusing, blocks, width, stride, dilation in zip(fusings, layers, widths[1:], strides, dilations):
        channels = width * block.expansion
        first = block(
            fusing,
            width,
            in_channels,
            stride=stride,
            dilation=max(dilation // 2, 1),
            project=stride != 1 or in_channels != channels,
            **arguments,
        )
        rest = (block(fusing, width, channels, dilation=dilation, **arguments) for _ in range(blocks - 1))
        stages.append(sequential(first, *rest))
        in_channels = channels
    return stages
