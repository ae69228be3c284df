"""Test-time inference: several views of an image averaged, large images in blended tiles, confidence and entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adaptseg.config import MAX_PIXELS
from adaptseg.data.files import UInt8Array, resize_image
from adaptseg.data.geometry import seen_size
from adaptseg.errors import InputError
from adaptseg.models.entropy import entropy
from adaptseg.models.upsampling import upsampled_classes, upsampled_rows

if TYPE_CHECKING:
    from adaptseg.segmenter.segmenter import Segmenter

STRIDE = 8
"""Tiles begin at multiples of it: the network's grid lies as it does on the whole image."""
SMALLEST_TILE = 32
MAX_SCALE = 8.0
STRIP = 64
"""Rows of an image whose probabilities are in memory together."""


@dataclass(frozen=True)
class Views:
    """What of an image the network sees; the probabilities of all views are averaged."""

    flip: bool = False
    """Each view also mirrored left to right."""
    scales: tuple[float, ...] = (1.0,)
    """Sizes, as factors of the size that the segmenter was trained for."""
    tiles: tuple[int, int] | None = None
    """Width and height of tiles: the image is seen at its own resolution, tile by tile; none: as a whole."""

    def __post_init__(self) -> None:
        """Refuse what no network could see."""
        if not self.scales or not all(0 < scale <= MAX_SCALE for scale in self.scales):
            raise InputError(f"scales are {self.scales}; give factors of up to {MAX_SCALE:g}, such as 0.75,1,1.25")
        if self.tiles and min(self.tiles) < SMALLEST_TILE:
            raise InputError(f"tiles are {self.tiles}; give a width and height of at least {SMALLEST_TILE} pixels")
        if self.tiles and self.tiles[0] * self.tiles[1] > MAX_PIXELS:
            raise InputError(f"tiles are {self.tiles}; give at most {MAX_PIXELS} pixels")

    @classmethod
    def given(cls, flip: bool, scales: Sequence[float], tiles: tuple[int, int] | None) -> Views:
        """Return the views of a call from Python; raises `InputError` where they are no numbers, or impossible."""
        try:
            return cls(flip, tuple(scales), None if tiles is None else (tiles[0], tiles[1]))
        except (TypeError, IndexError, KeyError) as error:
            raise InputError(
                f"scales {scales!r} or tiles {tiles!r} are no numbers; give such as scales=(0.75, 1, 1.25) and"
                " tiles=(512, 384), width and height"
            ) from error

    @classmethod
    def parse(cls, flip: bool, scales: str, tiles: str | None) -> Views:
        """Return the views of a command line, such as scales `0.75,1,1.25` and tiles `512x384` or `512`.

        Raises:
            InputError: they are no numbers, or impossible.
        """
        try:
            factors = tuple(float(text) for text in scales.split(","))
            sides = [int(text) for text in (tiles or "").split("x")] if tiles else []
        except ValueError:
            factors, sides = (), []
        if not factors or len(sides) > 2:
            raise InputError(
                f"scales {scales!r} or tiles {tiles!r} are no numbers; give such as 0.75,1,1.25 and 512x384, or 512"
            )
        return cls(flip, factors, (sides[0], sides[-1]) if sides else None)


WHOLE = Views()


def confidence(probabilities: Tensor) -> Tensor:
    """Return the largest probability, (N, H, W), 1/C … 1."""
    return probabilities.amax(1)


MAPS: dict[str, Callable[[Tensor], Tensor]] = {"confidence": confidence, "entropy": entropy}


@dataclass(frozen=True)
class Prediction:
    """What is read off the probabilities of one image."""

    train_ids: UInt8Array
    """(H, W): the most probable class."""
    maps: dict[str, UInt8Array] = field(default_factory=dict)
    """(H, W) for each name of `MAPS` that was asked for: 0 … 1 as 0 … 255."""


def predict(
    segmenter: Segmenter,
    images: Sequence[UInt8Array],
    views: Views = WHOLE,
    maps: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> list[Prediction]:
    """Predict images of one size, (H, W, 3) RGB, together; the results have that size, or without tiles `size` (w, h).

    Memory beside images and results: the logits of all views at the network's own resolution (1/8), or with tiles
    the logits of one row of tiles.

    Raises:
        InputError: an image would be scaled to more than `MAX_PIXELS`, or the device's memory does not suffice.
    """
    width, height = size or (images[0].shape[1], images[0].shape[0])
    if views == WHOLE and not maps:
        with torch.no_grad(), _memory_errors(images):
            own = (images[0].shape[1], images[0].shape[0])
            logits = _logits(segmenter, images, _seen_size(segmenter, views, own))
            train_ids = upsampled_classes(logits, (height, width), segmenter.align_corners).cpu().numpy()
        return [Prediction(image) for image in train_ids]
    results = {name: np.empty((len(images), height, width), np.uint8) for name in ("train_ids", *maps)}
    for rows, probabilities in probability_strips(segmenter, images, views, size):
        strip = {name: MAPS[name](probabilities).mul(255).round() for name in maps}
        strip["train_ids"] = probabilities.argmax(1)
        for name, values in strip.items():
            results[name][:, rows.start : rows.stop] = values.to(torch.uint8).cpu()
    return [
        Prediction(train_ids, {name: results[name][i] for name in maps})
        for i, train_ids in enumerate(results["train_ids"])
    ]


def probabilities(segmenter: Segmenter, image: UInt8Array, views: Views = WHOLE) -> npt.NDArray[np.float32]:
    """Return the probability of each class, float32 (C, H, W); raises as `predict` does."""
    result = np.empty((len(segmenter.label_space), *image.shape[:2]), np.float32)
    for rows, strip in probability_strips(segmenter, [image], views):
        result[:, rows.start : rows.stop] = strip[0].cpu()
    return result


@torch.no_grad()
def probability_strips(
    segmenter: Segmenter, images: Sequence[UInt8Array], views: Views, size: tuple[int, int] | None = None
) -> Iterator[tuple[range, Tensor]]:
    """Yield rows and their probabilities, float32 (N, C, rows, W), from top to bottom; raises as `predict` does."""
    width, height = size or (images[0].shape[1], images[0].shape[0])
    with _memory_errors(images):
        if views.tiles is None:
            logits = _logits_of_views(segmenter, images, views)
            for start in range(0, height, STRIP):
                rows = range(start, min(start + STRIP, height))
                yield rows, _log_mean(logits, (height, width), segmenter.align_corners, rows).exp()
        else:
            yield from _tiled_strips(segmenter, images, views, views.tiles)


def _tiled_strips(
    segmenter: Segmenter, images: Sequence[UInt8Array], views: Views, tile: tuple[int, int]
) -> Iterator[tuple[range, Tensor]]:
    """As `probability_strips`: logits of overlapping tiles, averaged with weights that fade towards tiles' borders."""
    (height, width), tops = images[0].shape[:2], tile_starts(images[0].shape[0], tile[1])
    device = next(segmenter.parameters()).device
    shape = (len(images), len(segmenter.label_space), min(tile[1], height), width)
    total, weight = torch.zeros(shape, device=device), torch.zeros(shape[2:], device=device)
    for top, next_top in zip(tops, [*tops[1:], height], strict=True):
        bottom = min(top + tile[1], height)
        for left in tile_starts(width, tile[0]):
            right = min(left + tile[0], width)
            logits = _logits_of_views(segmenter, [image[top:bottom, left:right] for image in images], views)
            size = (bottom - top, right - left)
            window = fade(top, bottom, height, tile[1])[:, None] * fade(left, right, width, tile[0])
            window = window.to(device)
            part = (..., slice(size[0]), slice(left, right))
            # Logarithms of probabilities: logits less a number of each pixel, which the softmax removes again.
            total[part] += window * _log_mean(logits, size, segmenter.align_corners, range(size[0]))
            weight[part] += window
        done = next_top - top  # Rows that the tiles below do not reach.
        yield range(top, next_top), (total[:, :, :done] / weight[:done]).softmax(1)
        for sums in (total, weight):
            sums[..., : shape[2] - done, :] = sums[..., done:, :].clone()
            sums[..., shape[2] - done :, :] = 0


def tile_starts(length: int, tile: int) -> list[int]:
    """Return where tiles begin along a side: neighbours overlap by a quarter of a tile or somewhat more."""
    step = max(STRIDE, (tile - _overlap(tile)) // STRIDE * STRIDE)
    last = max(0, math.ceil((length - tile) / STRIDE) * STRIDE)
    return [*range(0, last, step), last]


def _overlap(tile: int) -> int:
    return tile // 4


def fade(start: int, stop: int, length: int, tile: int) -> Tensor:
    """Return the weights (stop - start,) of a tile along a side: sin² over the overlap, 1 at the image's border."""
    inside = torch.arange(stop - start) + 0.5
    before = inside if start > 0 else torch.full_like(inside, tile)
    after = inside.flip(0) if stop < length else torch.full_like(inside, tile)
    share = (torch.minimum(before, after) / _overlap(tile)).clamp(max=1)
    return torch.sin(share * (math.pi / 2)) ** 2


def _logits_of_views(segmenter: Segmenter, images: Sequence[UInt8Array], views: Views) -> list[Tensor]:
    """Return each view's logits (N, C, h, w) at the network's resolution, those of mirrored images mirrored back."""
    height, width = images[0].shape[:2]
    found = []
    for scale in views.scales:
        size = _seen_size(segmenter, views, (width, height), scale)
        found.append(_logits(segmenter, images, size))
        if views.flip:
            found.append(_logits(segmenter, [image[:, ::-1] for image in images], size).flip(-1))
    return found


def _seen_size(segmenter: Segmenter, views: Views, size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """Return width and height at which the network sees an image (with tiles, a tile) of `size`."""
    seen = size if views.tiles else seen_size(size, segmenter.input_size, segmenter.resize)
    if scale != 1:
        seen = (max(8, round(seen[0] * scale)), max(8, round(seen[1] * scale)))
    if seen[0] * seen[1] > MAX_PIXELS:
        raise InputError(f"an image of {size[0]}x{size[1]} has {seen[0]}x{seen[1]} pixels when scaled; cut it")
    return seen


def check_size(segmenter: Segmenter, views: Views, size: tuple[int, int]) -> None:
    """Raise `InputError` where an image of `size` (width, height) would be scaled to more than `MAX_PIXELS`."""
    for scale in views.scales:
        _seen_size(segmenter, views, views.tiles or size, scale)


def seen_pixels(segmenter: Segmenter, views: Views, size: tuple[int, int]) -> int:
    """Return how many pixels the network sees of an image of `size` (width, height), over all views."""
    tiles = [views.tiles] * math.ceil(size[0] * size[1] / math.prod(views.tiles)) if views.tiles else [size]
    seen = [_seen_size(segmenter, views, one, scale) for one in tiles for scale in views.scales]
    return sum(width * height for width, height in seen) * (1 + views.flip)


def _logits(segmenter: Segmenter, images: Sequence[UInt8Array], size: tuple[int, int]) -> Tensor:
    """Return the main level's logits (N, C, h, w) of images that are scaled to `size` (width, height)."""
    return segmenter.main_logits([resize_image(image, size) for image in images])


def _log_mean(logits: Sequence[Tensor], size: tuple[int, int], align_corners: bool, rows: range) -> Tensor:
    """Return the logarithm of the views' mean probabilities in some rows of the image, (N, C, rows, W)."""
    total = upsampled_rows(logits[0], size, align_corners, rows).log_softmax(1)
    for other in logits[1:]:
        total = torch.logaddexp(total, upsampled_rows(other, size, align_corners, rows).log_softmax(1))
    return total - math.log(len(logits))


@contextmanager
def _memory_errors(images: Sequence[UInt8Array]) -> Iterator[None]:
    """Turn lack of memory, on the device or beside it, into an `InputError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        height, width = images[0].shape[:2]
        raise InputError(
            f"{len(images)} of {width}x{height} pixels need more memory than there is; take tiles, or a smaller batch"
        ) from error
