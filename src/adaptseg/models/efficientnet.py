"""EfficientNet-Lite behind a light decode head: small, pretrained, fast without an accelerator.

Tan and Le, "EfficientNet", ICML 2019, table 1 and section 3.3; the Lite family (Liu, "Higher accuracy on vision models
with EfficientNet-Lite", TensorFlow blog, 2020) leaves out squeeze-and-excitation, bounds activations by 6, and scales
neither the stem nor the number of blocks of the first and last stage. Parameter names are those of the published files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from adaptseg.config import ModelConfig
from adaptseg.models.batch_norm import fix_affine, fix_statistics
from adaptseg.models.decode_heads import DAFormerHead, LightHead
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.recomputation import forward_blocks

MULTIPLIERS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
"""Of channels and of blocks."""
STEM = 32
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion and channels of each stage."""
MAP_STAGES = (1, 2, 4, 6)
"""The last stages at 1/4, 1/8, 1/16 and 1/32."""
HEAD_WIDTH = 128
EPSILON = 1e-3
"""Of batch norm, as published."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding: ceil(size / stride) outputs, the odd pixel of padding right and below."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        """Build without bias."""
        symmetric = kernel // 2 if stride == 1 else 0
        super().__init__(channels, out_channels, kernel, stride, padding=symmetric, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, ceil(H / stride), ceil(W / stride)) of x (N, channels, H, W)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 2:
            vertical, horizontal = (kernel - 2 + side % 2 for side in x.shape[-2:])
            before = (horizontal // 2, vertical // 2)
            x = functional.pad(x, (before[0], horizontal - before[0], before[1], vertical - before[1]))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; input (N, C, H, W), output (N, out, H/stride, W/stride)."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        """Build a block; the shortcut is there where shapes agree."""
        super().__init__()
        inside = channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = SameConv2d(channels, inside, 1)
            self._bn0 = nn.BatchNorm2d(inside, eps=EPSILON)
        self._depthwise_conv = SameConv2d(inside, inside, kernel, stride, groups=inside)
        self._bn1 = nn.BatchNorm2d(inside, eps=EPSILON)
        self._project_conv = SameConv2d(inside, out_channels, 1)
        self._bn2 = nn.BatchNorm2d(out_channels, eps=EPSILON)
        self.has_shortcut = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the projection, plus x where shapes agree."""
        inside = functional.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        inside = functional.relu6(self._bn1(self._depthwise_conv(inside)), inplace=True)
        projected: Tensor = self._bn2(self._project_conv(inside))
        return x + projected if self.has_shortcut else projected


class EfficientNetLite(nn.Module):
    """Stem and blocks; what the published files have beyond them, the classifier of images, is left out.

    After construction `map_channels` holds the channels of the four maps.
    """

    def __init__(self, name: str, scale: float = 1.0) -> None:
        """Build with random weights: convolutions He-normal by their outputs, as published.

        Args:
            name: efficientnet_lite0, …1 or …2.
            scale: of all channels; 1 as published.
        """
        super().__init__()
        width, depth = MULTIPLIERS[name]
        channels = _rounded(STEM * scale)
        self._conv_stem = SameConv2d(3, channels, 3, 2)
        self._bn0 = nn.BatchNorm2d(channels, eps=EPSILON)
        blocks, ends, stage_channels = [], [0], []
        for stage, (count, kernel, stride, expansion, planes) in enumerate(STAGES):
            count = count if stage in (0, len(STAGES) - 1) else math.ceil(count * depth)
            out_channels = _rounded(planes * width * scale)
            for block in range(count):
                blocks.append(InvertedResidual(channels, out_channels, kernel, 1 if block else stride, expansion))
                channels = out_channels
            ends.append(len(blocks))
            stage_channels.append(channels)
        self._blocks = nn.ModuleList(blocks)
        self.map_channels = tuple(stage_channels[stage] for stage in MAP_STAGES)
        self.map_blocks = list(pairwise([0, *(ends[stage + 1] for stage in MAP_STAGES)]))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels // module.groups * module.kernel_size[0] ** 2
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))

    def forward(self, x: Tensor, recompute: bool = False) -> tuple[Tensor, ...]:
        """Return four maps of the preprocessed image x (N, 3, H, W), at 1/4, 1/8, 1/16 and 1/32 of its size."""
        x = functional.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        maps = []
        for first, last in self.map_blocks:
            x = forward_blocks(self._blocks[first:last], x, recompute)
            maps.append(x)
        return tuple(maps)


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8, not below 90 % of `channels` (as all of the family round)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class EfficientNetLiteNetwork(SegmentationNetwork):
    """An EfficientNet-Lite and a decode head, one level."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        """Build with random weights."""
        super().__init__()
        assert config.batch_norm
        self.batch_norm = config.batch_norm
        self.backbone = EfficientNetLite(config.backbone, config.width / 64)
        head = DAFormerHead if config.head == "daformer" else LightHead
        self.head = head(self.backbone.map_channels, classes, HEAD_WIDTH * config.width // 64)
        fix_affine(self.backbone, self.batch_norm)

    def classifiers(self) -> list[nn.Module]:
        """Return the head: the part with the classifiers' learning rate."""
        return [self.head]

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return four maps of the preprocessed image x (N, 3, H, W), at 1/4, 1/8, 1/16 and 1/32 of its size."""
        maps: tuple[Tensor, ...] = self.backbone(x, self.recompute)
        return maps

    def classify(self, feature_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits at the size of the finest map."""
        return (self.head(feature_maps),)

    def train(self, mode: bool = True) -> EfficientNetLiteNetwork:
        """Switch to training mode; the backbone's `frozen` batch norm keeps using its running statistics."""
        super().train(mode)
        fix_statistics(self.backbone, self.batch_norm)
        return self
