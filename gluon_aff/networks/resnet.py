"""ImageNet ResNet of bottleneck blocks with attentional shortcuts (the original's `--model resnet`)."""

from __future__ import annotations

from typing import Any, List, Optional

from mxnet.gluon import HybridBlock, nn

from gluon_aff.fusion import fusion_class
from gluon_aff.fusion.context import GlobalAveragePool, Norm, sequential
from gluon_aff.networks.layers import (
    WithHead,
    conv1x1,
    conv3x3,
    imagenet_stem,
    initial_gamma,
    norm_factory,
    projection,
    relu,
    stage_fusion,
)

EXPANSION = 4


class Bottleneck(HybridBlock):
    """1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, BN, fused with the shortcut, ReLU.

    (N, in_channels, H, W) -> (N, 4 * planes, H/stride, W/stride); the 3x3 convolution strides and dilates.
    """

    def __init__(
        self,
        fusion: str,
        planes: int,
        in_channels: int,
        norm: Norm,
        *,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        avg_down: bool = True,
        last_gamma: bool = False,
        r: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels = planes * EXPANSION
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
            self.attention = fusion_class(fusion)(channels, r=r, norm=norm)
            self.relu3 = relu()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(self.attention(out, shortcut))


class AFFResNet(WithHead):
    """Stem, four stages of bottlenecks, global average pool, dense.

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
        **kwargs: `ctx` and `use_pretrained` are accepted and ignored, as in the original.

    Raises:
        InputError: for an unknown fusion.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix=name_prefix)
        unknown = set(kwargs) - {"ctx", "use_pretrained"}
        if unknown:
            raise TypeError(f"AFFResNet has no argument {', '.join(sorted(unknown))}")
        norm_kwargs = dict(norm_kwargs or {}, **({"use_global_stats": True} if use_global_stats else {}))
        norm = norm_factory(norm_layer, norm_kwargs)
        stem_channels = 2 * stem_width if deep_stem else 64
        block = {"norm": norm, "avg_down": avg_down, "last_gamma": last_gamma, "r": r}
        fusions = [stage_fusion(askc_type, stage, start_layer) for stage in (1, 2, 3, 4)]
        with self.name_scope():
            stem = imagenet_stem(stem_width, stem_channels, deep_stem, norm)
            self.conv1 = sequential(*stem) if deep_stem else stem[0]
            self.bn1 = norm(in_channels=stem_channels)
            self.relu = relu()
            self.maxpool = nn.MaxPool2D(3, 2, 1)
            self.layer1 = _stage(fusions[0], layers[0], 64, stem_channels, 1, 1, block)
            self.layer2 = _stage(fusions[1], layers[1], 128, 64 * EXPANSION, 2, 1, block)
            self.layer3 = _stage(fusions[2], layers[2], 256, 128 * EXPANSION, *((1, 2) if dilated else (2, 1)), block)
            self.layer4 = _stage(fusions[3], layers[3], 512, 256 * EXPANSION, *((1, 4) if dilated else (2, 1)), block)
            self.avgpool = GlobalAveragePool()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if final_drop > 0 else None
            self.fc = nn.Dense(classes, in_units=512 * EXPANSION)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.flat(self.avgpool(x))
        return self.fc(x if self.drop is None else self.drop(x))


def _stage(
    fusion: str, blocks: int, planes: int, in_channels: int, stride: int, dilation: int, block: dict
) -> nn.HybridSequential:
    """`blocks` bottlenecks; the first one strides, projects and dilates by half."""
    first = Bottleneck(
        fusion, planes, in_channels, stride=stride, dilation=max(dilation // 2, 1), project=True, **block
    )
    rest = (Bottleneck(fusion, planes, planes * EXPANSION, dilation=dilation, **block) for _ in range(blocks - 1))
    return sequential(first, *rest)
