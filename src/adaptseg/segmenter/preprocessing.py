"""How images become the input of a network: a property of its weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """How RGB values 0 … 255 become a network's input: (value - mean) / std, channels in `order`."""

    order: str
    """RGB or BGR."""
    mean: tuple[float, float, float]
    """Per channel, in `order`, of values 0 … 255."""
    std: tuple[float, float, float]
    """Per channel, in `order`, of values 0 … 255."""


PREPROCESSING = {
    # The mean of the released code's Caffe-style initial weights, BGR.
    "caffe": Preprocessing("BGR", (104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0)),
    # ImageNet's statistics as torchvision's weights use them, times 255.
    "imagenet": Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": Preprocessing("RGB", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    # About -1 … 1, as the EfficientNet-Lites were trained with TensorFlow.
    "tensorflow": Preprocessing("RGB", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "none": Preprocessing("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
