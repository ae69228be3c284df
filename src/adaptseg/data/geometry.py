"""How an image of any size is seen by a network that is trained at another: one rule for training and every use."""

from __future__ import annotations

from collections.abc import Callable

KEEP, SQUEEZE, TO_HEIGHT = "keep", "squeeze", "height"
"""`DomainConfig.resize`; the last is what `predict` of models from before that key does, whatever the width becomes."""


def seen_size(
    size: tuple[int, int], box: tuple[int, int] | None, resize: str, largest: Callable[[int, int], int] = max
) -> tuple[int, int]:
    """Return the width and height to which an image of `size` (width, height) is scaled.

    `keep` scales it until it just covers the box: one side is the box's, the other free. Training takes a random part
    of the box's size of it, everything else the whole. `squeeze` gives it the box's sides, whatever its ratio. Without
    a box the image keeps its size.

    Args:
        size: of the image; the sides may be symbols of an exported graph.
        box: width and height.
        resize: `keep`, `squeeze` or `height`.
        largest: `max`, or what does that for symbols.
    """
    if box is None:
        return size
    if resize == SQUEEZE:
        return box
    # Integers alone, rounded half up: graphs have no other sizes, and round theirs towards zero.
    (width, height), (columns, rows) = size, box
    scaled_width = (2 * width * rows + height) // (2 * height)
    if resize == TO_HEIGHT:
        return largest(8, scaled_width), rows
    return largest(columns, scaled_width), largest(rows, (2 * height * columns + width) // (2 * width))


def distortion(size: tuple[int, int], box: tuple[int, int]) -> float:
    """Return by how much squeezing into the box stretches one side against the other: 0.25 is 25 %."""
    ratio = size[0] * box[1] / (size[1] * box[0])
    return max(ratio, 1 / ratio) - 1


def fitting_size(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """Return a box of about as many pixels, multiples of 8, with the ratio of an image."""
    height = (box[0] * box[1] * size[1] / size[0]) ** 0.5
    rows = max(8, 8 * round(height / 8))
    return max(8, 8 * round(rows * size[0] / size[1] / 8)), rows
