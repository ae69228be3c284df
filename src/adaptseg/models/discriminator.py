"""The paper's fully-convolutional discriminator (Tsai et al. 2018, section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.errors import InputError

SOURCE_LABEL = 0.0
TARGET_LABEL = 1.0
SMALLEST_INPUT = 32
"""Height and width that the five strides of 2 reduce to one place."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminators and their optimiser, Adam."""

    channels: int = 64
    """Channels of the first convolution; 64 as published, less for small networks."""
    upsample: bool = True
    """Up-sample the output to the input's size, as the paper describes; the released code does not."""
    lr: float = 1e-4
    """Learning rate, with the segmenter's poly schedule."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's averaging coefficients."""

    def __post_init__(self) -> None:
        """Refuse what makes no discriminator or no Adam."""
        key = "method.discriminator"
        if not 1 <= self.channels <= 4096:
            raise InputError(f"{key}.channels is {self.channels}; give 1 … 4096")
        if not 0 < self.lr < math.inf:
            raise InputError(f"{key}.lr is {self.lr}; give a positive learning rate")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"{key}.betas is {list(self.betas)}; give two numbers from 0 to below 1")


class Discriminator(nn.Module):
    """Five 4x4 convolutions of stride 2, leaky ReLU 0.2 between them, no batch norm; one logit per place.

    Logits below 0 say "source", above 0 "target".
    """

    def __init__(self, classes: int, channels: int = 64, upsample: bool = True) -> None:
        """Build for softmax maps of `classes` channels; weights have torch's default initialisation."""
        super().__init__()
        self.conv1 = nn.Conv2d(classes, channels, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels, channels * 2, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(channels * 2, channels * 4, 4, stride=2, padding=1)
        self.conv4 = nn.Conv2d(channels * 4, channels * 8, 4, stride=2, padding=1)
        self.classifier = nn.Conv2d(channels * 8, 1, 4, stride=2, padding=1)
        self.upsample = upsample

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return logits (N, 1, h, w) of class probabilities (N, C, H, W).

        h, w are H, W with the up-sampling layer, else about H / 32, W / 32.
        """
        x = probabilities
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = functional.leaky_relu(conv(x), 0.2)
        logits: Tensor = self.classifier(x)
        if self.upsample:
            size = (probabilities.shape[-2], probabilities.shape[-1])
            logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=True)
        return logits


def build_discriminators(config: DiscriminatorConfig, channels: Sequence[int], seed: int) -> nn.ModuleList:
    """Return one discriminator per level for inputs of `channels`; initial weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(Discriminator(count, config.channels, config.upsample) for count in channels)
