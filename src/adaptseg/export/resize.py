"""Resizing inside an exported graph: `resize_image` in plain arithmetic, byte for byte.

Training and `Segmenter.predict` resize bytes with torch's bicubic antialiased filter, whose weights are fixed-point
numbers of 16 bits. ONNX has antialiased resizing too, but with other roundings (one byte in eight differs), and many
runtimes lack it. Matrix products they all have.
"""

from __future__ import annotations

import torch
from torch import Tensor

SUPPORT = 2.0
"""Pixels to each side that a bicubic filter sees."""
A = -0.5
"""The filter's free parameter (Keys, 1981), as Pillow's and torch's antialiased filters have it."""
MOST_BITS = 22
WEIGHT_BITS = 15


def resize_bytes(x: Tensor, height: int, width: int) -> Tensor:
    """Return images (N, 3, H, W), float32 of whole values 0 … 255, at another size; the sides may be symbols.

    Columns first, then rows; what is between is rounded to bytes too.
    """
    x = _bytes(x @ filter_weights(x.shape[3], width).T)
    return _bytes(filter_weights(x.shape[2], height) @ x)


def _bytes(x: Tensor) -> Tensor:
    return x.add(0.5).floor().clamp(0, 255)


def filter_weights(inputs: int, outputs: int) -> Tensor:
    """Return the share of each input pixel in each output pixel, float32 (outputs, inputs)."""
    scale = torch.full((1, 1), inputs, dtype=torch.float64) / outputs
    stretch = scale.clamp(min=1)
    center = scale * (torch.arange(outputs, dtype=torch.float64).unsqueeze(1) + 0.5)
    first = (center - SUPPORT * stretch + 0.5).clamp(min=0).floor()
    end = (center + SUPPORT * stretch + 0.5).floor()
    pixel = torch.arange(inputs, dtype=torch.float64).unsqueeze(0)
    weights = torch.where((pixel >= first) & (pixel < end), _cubic((pixel - center + 0.5) / stretch), 0)
    weights = weights / weights.sum(1, keepdim=True)
    # As many bits after the point as leave the largest weight below 2^15.
    powers = 2.0 ** torch.arange(1, MOST_BITS + 1, dtype=torch.float64)
    unit = 2.0 ** (0.5 + weights.max() * powers < 2**WEIGHT_BITS).sum()
    fixed: Tensor = (weights.abs() * unit + 0.5).floor() * weights.sign() / unit
    return fixed.float()


def _cubic(x: Tensor) -> Tensor:
    """Return the bicubic filter's value at distances x."""
    x = x.abs()
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * A
    return torch.where(x < 1, near, torch.where(x < SUPPORT, far, 0))
