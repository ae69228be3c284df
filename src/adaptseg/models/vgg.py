"""VGG-16 with output stride 8 as the paper's second segmenter (Tsai et al. 2018, section 5.1).

Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015. The last two pooling layers are left out,
the convolutions of stage 5 dilate by 2, and fc6 and fc7 are 3x3 convolutions of 1024 channels, dilation 4.
Parameter names are those of the released checkpoints: `features.N`.
"""

from __future__ import annotations

from torch import nn

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of convolutions of each stage, for width 64."""


def vgg16_features(width: int) -> tuple[nn.Sequential, int]:
    """Return the layers from image to fc7 and their output channels; `width` is 64 as published."""
    layers: list[nn.Module] = []
    channels = 3
    for stage, (planes, count) in enumerate(STAGES):
        dilation = 2 if stage == 4 else 1
        for _ in range(count):
            out_channels = planes * width // 64
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=dilation, dilation=dilation),
                nn.ReLU(inplace=True),
            ]
            channels = out_channels
        if stage < 3:
            layers.append(nn.MaxPool2d(2, stride=2))
    for _ in ("fc6", "fc7"):
        out_channels = 1024 * width // 64
        layers += [nn.Conv2d(channels, out_channels, 3, padding=4, dilation=4), nn.ReLU(inplace=True)]
        channels = out_channels
    return nn.Sequential(*layers), channels
