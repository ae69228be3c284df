"""Large images seen in overlapping windows of the training's size, whose probabilities are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaptseg.data.files import UInt8Array
from adaptseg.models.devices import sent

if TYPE_CHECKING:
    from adaptseg.segmenter.segmenter import Segmenter


def window_probabilities(segmenter: Segmenter, image: UInt8Array, window: tuple[int, int]) -> Tensor:
    """Return the probability of each class, float32 (1, C, H, W): the plain mean over windows at half their size.

    As VFM-UDA and DAFormer's successors evaluate; the last window of a row or column ends with the image.

    Args:
        segmenter: sees each window as an image.
        image: (H, W, 3) RGB.
        window: width and height; of a smaller image all is seen.
    """
    height, width = image.shape[:2]
    device = next(segmenter.parameters()).device
    total = torch.zeros(1, len(segmenter.label_space), height, width, device=device)
    count = torch.zeros(height, width, device=device)
    for top in window_starts(height, window[1]):
        for left in window_starts(width, window[0]):
            part = slice(top, top + window[1]), slice(left, left + window[0])
            pixels = sent(image[part].transpose(2, 0, 1).copy(), device).unsqueeze(0)
            total[(..., *part)] += segmenter(pixels)[-1].softmax(1)
            count[part] += 1
    return total / count


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows begin along a side: every half window, the last one at the end."""
    last = max(0, length - window)
    return [*range(0, last, max(1, window // 2)), last]
