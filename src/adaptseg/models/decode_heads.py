"""Decode heads for transformers: four feature maps of different sizes, or one that is scaled up, to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

DROPOUT = 0.1
CONTEXT_DILATIONS = (1, 6, 12, 18)


class LightHead(nn.Module):
    """SegFormer's head (Xie et al., NeurIPS 2021, section 3.2): maps embedded, brought to one size, fused."""

    def __init__(self, channels: Sequence[int], classes: int, width: int) -> None:
        """Build for feature maps of `channels` channels, finest first; `width` channels inside."""
        super().__init__()
        self.embed = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.fuse = self.fusion(len(channels) * width, width)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classifier = nn.Conv2d(width, classes, 1)

    def fusion(self, channels: int, width: int) -> nn.Module:
        """Return what makes `width` channels of all embedded maps together."""
        return _convolution(channels, width, 1)

    def fused(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the embedded and fused maps (N, width, h, w) at the size of the finest.

        Between the 1x1 convolutions of embedding and fusion stands the resize alone, which is linear and the same for
        all channels. So each map passes their product at its own size: a third of the additions, equal to rounding.
        """
        assert isinstance(self.fuse, nn.Sequential)
        fusion: Tensor = self.fuse[0].weight.flatten(1)  # type: ignore[operator]
        size = maps[0].shape[-2:]
        total: Tensor | float = 0.0
        for embed, part, x in zip(self.embed, torch.split(fusion, len(fusion), 1), maps, strict=True):
            assert isinstance(embed, nn.Conv2d)
            assert embed.bias is not None
            kernel = (part @ embed.weight.flatten(1))[..., None, None]
            resized = functional.conv2d(x, kernel, part @ embed.bias)
            total = total + functional.interpolate(resized, size=size, mode="bilinear", align_corners=False)
        return self.fuse[1:](total)  # type: ignore[no-any-return]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, h, w) at the size of the finest of the maps (N, C, h, w)."""
        logits: Tensor = self.classifier(self.dropout(self.fused(maps)))
        return logits


class DAFormerHead(LightHead):
    """DAFormer's head (Hoyer et al., CVPR 2022, section 3.2): fused with context, by separable dilated convolutions."""

    def fusion(self, channels: int, width: int) -> nn.Module:
        """Return parallel convolutions of dilation 1, 6, 12 and 18, and a 3x3 convolution over them."""
        return _ContextFusion(channels, width)

    def fused(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the embedded and fused maps (N, width, h, w) at the size of the finest."""
        size = maps[0].shape[-2:]
        embedded = [
            functional.interpolate(embed(x), size=size, mode="bilinear", align_corners=False)
            for embed, x in zip(self.embed, maps, strict=True)
        ]
        return self.fuse(torch.cat(embedded, 1))  # type: ignore[no-any-return]


class UpscaleHead(nn.Module):
    """The head of VFM-UDA (Englert et al., CVPRW 2024) for plain ViTs: their last map, made four times as large."""

    def __init__(self, channels: int, classes: int) -> None:
        """Build for a feature map of `channels` channels, a multiple of 4."""
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, stride=2, bias=False),
            _ChannelNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2, bias=False),
            _ChannelNorm(quarter),
            nn.Conv2d(quarter, quarter, 3, padding=1, bias=False),
            _ChannelNorm(quarter),
        )
        self.classifier = nn.Conv2d(quarter, classes, 1, bias=False)
        nn.init.normal_(self.classifier.weight, 0, 0.1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, 4h, 4w) of one map (N, channels, h, w)."""
        (features,) = maps
        logits: Tensor = self.classifier(self.upscale(features))
        return logits


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ContextFusion(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            _convolution(channels, width, 1)
            if dilation == 1
            else nn.Sequential(
                _convolution(channels, channels, 3, dilation, groups=channels), _convolution(channels, width, 1)
            )
            for dilation in CONTEXT_DILATIONS
        )
        self.bottleneck = _convolution(len(CONTEXT_DILATIONS) * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.bottleneck(torch.cat([branch(x) for branch in self.branches], 1))
        return fused


def _convolution(channels: int, width: int, kernel: int, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=padding, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
