"""Colour jitter and blur of a batch on its device: every image is changed, and kept where chance says so.

No value is read, no image indexed: the processor never waits for the device, and shapes are the same in every step.
The distributions are those of the library kornia, with which the released code of DACS, DAFormer and VFM-UDA jitters.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue of each image, in an order that is drawn for the batch.

    Factors are uniform in 1 ± strength, a hue's turn in ± `hue`; values are clipped to 0 … 1 after each change.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    """In turns of the colour circle."""
    probability: float
    """Of each image to be changed at all."""
    additive: bool
    """Brightness is added, contrast scales values, saturation is HSV's (kornia's `ColorJiggle`); otherwise brightness
    scales, contrast and saturation blend with grey (its `ColorJitter`, which is torchvision's)."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (N, 3, H, W), float 0 … 1, in other colours."""
        draws = torch.rand(5, len(images), 1, 1, 1, device=images.device)
        changed = images.clamp(0, 1)
        # The processor's own numbers: which operation comes first is known without asking the device.
        for place in torch.randperm(4).tolist():
            strength = (self.brightness, self.contrast, self.saturation, self.hue)[place]
            if strength:
                change = (ADDITIVE if self.additive else BLENDING)[place]
                changed = change(changed, strength * (2 * draws[place] - 1)).clamp(0, 1)
        return torch.where(draws[4] < self.probability, changed, images)


@dataclass(frozen=True, kw_only=True)
class GaussianBlur:
    """Blur of each image with its own standard deviation; borders are mirrored."""

    size: int
    """Side of the kernel in pixels, odd."""
    sigma: tuple[float, float]
    """Smallest and largest standard deviation in pixels."""
    probability: float
    """Of each image to be blurred."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return float images (N, 3, H, W), sides above half the kernel's, of any range, blurred."""
        draws = torch.rand(2, len(images), 1, device=images.device)
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * draws[0]
        blurred = gaussian_blur(images, sigma, self.size)
        return torch.where(draws[1].view(-1, 1, 1, 1) < self.probability, blurred, images)


def gaussian_blur(images: Tensor, sigma: Tensor, size: int) -> Tensor:
    """Return images (N, C, H, W) convolved with a Gaussian of standard deviation `sigma` (N, 1), `size` wide."""
    count, channels, height, width = images.shape
    distance = torch.arange(size, device=images.device) - size // 2
    kernel = (-0.5 * (distance / sigma).square()).exp()
    # One group a channel of an image, one launch a direction.
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0, output_size=count * channels)
    edge = size // 2
    with _no_autocast(images.device):
        x = functional.pad(images.reshape(1, count * channels, height, width).float(), [edge] * 4, mode="reflect")
        x = functional.conv2d(x, kernel[:, None, :, None], groups=count * channels)
        x = functional.conv2d(x, kernel[:, None, None, :], groups=count * channels)
    return x.view(images.shape)


def _no_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Keep convolutions of pixels out of bfloat16, which has 8 bits for 256 values and what lies between them."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def added(images: Tensor, amount: Tensor) -> Tensor:
    """Return images (N, 3, H, W) plus `amount` (N, 1, 1, 1)."""
    return images + amount


def scaled(images: Tensor, change: Tensor) -> Tensor:
    """Return images (N, 3, H, W) times 1 + `change` (N, 1, 1, 1)."""
    return images * (1 + change)


def saturated(images: Tensor, change: Tensor) -> Tensor:
    """Return images with HSV's saturation times 1 + `change`, at most 1; value and hue stay."""
    value, chroma = _value_and_chroma(images)
    # x = value - (value - x): what is in brackets is proportional to the saturation, chroma / value.
    factor = torch.minimum(1 + change, value / chroma.clamp(min=1e-8))
    return value - (value - images) * factor


def contrasted(images: Tensor, change: Tensor) -> Tensor:
    """Return images blended with the mean of their grey: -1 that alone, 0 nothing of it."""
    return torch.lerp(grey(images).mean((2, 3), keepdim=True), images, 1 + change)


def colored(images: Tensor, change: Tensor) -> Tensor:
    """Return images blended with their grey: -1 that alone, 0 nothing of it."""
    return torch.lerp(grey(images), images, 1 + change)


def turned(images: Tensor, turn: Tensor) -> Tensor:
    """Return images whose hue is turned by `turn` (N, 1, 1, 1), in turns of the circle; HSV's value and chroma stay."""
    value, chroma = _value_and_chroma(images)
    red, green, blue = torch.split(images, 1, 1)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    hue = hue + 6 * turn  # In sixths of the circle: 0 red, 2 green, 4 blue.
    channels = []
    for first in (5, 3, 1):
        place = (hue + first).remainder(6)
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.cat(channels, 1)


ADDITIVE = (added, scaled, saturated, turned)
BLENDING = (scaled, contrasted, colored, turned)
"""What changes brightness, contrast, saturation and hue."""


def grey(images: Tensor) -> Tensor:
    """Return the luma (N, 1, H, W) of images (N, 3, H, W)."""
    red, green, blue = torch.split(images, 1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _value_and_chroma(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return HSV's value, and value times saturation, each (N, 1, H, W)."""
    value = images.amax(1, keepdim=True)
    return value, value - images.amin(1, keepdim=True)
