"""The most probable class of every pixel from logits at 1/8 size, without logits at the pixels' own resolution."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

BAND = 8
"""Rows that are interpolated together: their logits stay in the processor's cache."""


@torch.no_grad()
def upsampled_classes(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the argmax over classes of bilinearly up-sampled logits, uint8 (N, H, W); of equal ones the first.

    Args:
        logits: (N, C, h, w) with at most 256 classes.
        size: (H, W).
        align_corners: as of `torch.nn.functional.interpolate`.
    """
    if logits.device.type != "cpu":  # Accelerators have the bandwidth; many small kernels would cost them more.
        upsampled = functional.interpolate(logits.float(), size, mode="bilinear", align_corners=align_corners)
        return upsampled.argmax(1).to(torch.uint8)
    (count, classes, rows, _), (height, width) = logits.shape, size
    logits = logits.float().contiguous()
    wide = functional.interpolate(logits, (rows, width), mode="bilinear", align_corners=align_corners)
    result = torch.empty(count, height, width, dtype=torch.uint8)
    values, is_largest = torch.empty(2, BAND, classes, width)
    largest, found = torch.empty(BAND, 1, width), torch.empty(BAND, width)
    # The largest value of a vector is found quickly, its place is not: so the values that equal it are marked by
    # how far before the last class they stand, and the largest mark is looked for.
    marks = torch.arange(classes - 1, -1, -1, dtype=torch.float32).view(1, classes, 1)
    for image, image_result in zip(wide, result, strict=True):
        for above, start, shares in bands(rows, height, align_corners):
            n = len(shares)
            below = min(above + 1, rows - 1)
            torch.lerp(image[:, above], image[:, below], shares.view(n, 1, 1), out=values[:n])
            torch.amax(values[:n], 1, keepdim=True, out=largest[:n])
            torch.eq(values[:n], largest[:n], out=is_largest[:n])
            torch.amax(is_largest[:n].mul_(marks), 1, out=found[:n])
            image_result[start : start + n] = classes - 1 - found[:n]
    return result


def bands(rows: int, height: int, align_corners: bool) -> Iterator[tuple[int, int, Tensor]]:
    """Yield the rows of an up-sampled image in bands of at most `BAND` that lie between the same two input rows.

    Yields:
        The input row above, the first output row, and the input row below's share of each output row, float (n,).
    """
    position = _positions(rows, height, align_corners)
    above = position.long().clamp(max=rows - 1)
    start = 0
    for row, together in zip(*(x.tolist() for x in torch.unique_consecutive(above, return_counts=True)), strict=True):
        for first in range(start, start + together, BAND):
            last = min(first + BAND, start + together)
            yield row, first, position[first:last] - row
        start += together


def _positions(rows: int, height: int, align_corners: bool) -> Tensor:
    """Return where each of `height` output rows lies between the input rows, float32 (height,)."""
    output = torch.arange(height, dtype=torch.float32)
    if align_corners:
        return output * ((rows - 1) / max(height - 1, 1))
    return ((output + 0.5) * (rows / height) - 0.5).clamp(min=0)


def upsampled_rows(logits: Tensor, size: tuple[int, int], align_corners: bool, rows: range) -> Tensor:
    """Return the given rows of bilinearly up-sampled logits, float32 (N, C, len(rows), W).

    Args:
        logits: (N, C, h, w).
        size: (H, W) of the whole.
        align_corners: as of `torch.nn.functional.interpolate`.
        rows: neighbouring rows of 0 … H - 1.
    """
    position = _positions(logits.shape[2], size[0], align_corners)[rows.start : rows.stop].to(logits.device)
    above = position.long().clamp(max=logits.shape[2] - 1)
    below = (above + 1).clamp(max=logits.shape[2] - 1)
    logits = logits.float()
    narrow = torch.lerp(logits[:, :, above], logits[:, :, below], (position - above).unsqueeze(1))
    return functional.interpolate(narrow, (len(rows), size[1]), mode="bilinear", align_corners=align_corners)
