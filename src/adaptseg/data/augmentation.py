"""Augmentation of loaded samples: scale jitter of both domains, colour jitter, blur and grey of the source.

What is drawn is given by the caller, so that a batch stays a pure function of (seed, step).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from adaptseg.data.dataset import Sample
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import IGNORE_INDEX

_LUMINANCE = np.array([0.299, 0.587, 0.114])
_MAX_TURN = 0.1
"""Hue, in turns of the colour circle, at strength 1."""
_BLUR = (0.15, 1.15)
"""Standard deviations of the blur in pixels (DACS, DAFormer)."""


def scaled_crop(sample: Sample, size: tuple[int, int], factor: float, place: tuple[float, float]) -> Sample:
    """Scale a sample by `factor`, then cut a part of `size` out of it, or pad it to `size` where it is smaller.

    The padding mirrors the image and is ignored in the label: a constant colour would shift the statistics of batch
    norm and show a discriminator an edge that no camera takes. Images are averaged over where they shrink, and
    interpolated linearly where they grow; labels take the nearest value.

    Args:
        sample: image (H, W, 3) and label (H, W) or none.
        size: width and height of the result.
        factor: above 0.
        place: in [0, 1), where the part lies between top and bottom, and between left and right.
    """
    height, width = sample.image.shape[:2]
    top, rows, above = _window(height, size[1], factor, place[0])
    left, columns, before = _window(width, size[0], factor, place[1])
    part = slice(top, top + rows), slice(left, left + columns)
    inner = min(size[0], round(width * factor)), min(size[1], round(height * factor))
    border = above, size[1] - inner[1] - above, before, size[0] - inner[0] - before
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image: UInt8Array = cv2.resize(sample.image[part], inner, interpolation=method).astype(np.uint8, copy=False)
    if any(border):
        image = cv2.copyMakeBorder(image, *border, cv2.BORDER_REFLECT).astype(np.uint8, copy=False)
    begin = top / height - above / (height * factor), left / width - before / (width * factor)
    frame = *begin, begin[0] + size[1] / (height * factor), begin[1] + size[0] / (width * factor)
    if sample.label is None:
        return Sample(sample.name, image, None, frame)
    label = cv2.resize(sample.label[part], inner, interpolation=cv2.INTER_NEAREST_EXACT)
    if any(border):
        label = cv2.copyMakeBorder(label, *border, cv2.BORDER_CONSTANT, value=[IGNORE_INDEX])
    return Sample(sample.name, image, label.astype(np.uint8, copy=False), frame)


def _window(length: int, wanted: int, factor: float, place: float) -> tuple[int, int, int]:
    """Where a part of `wanted` pixels lies along one side of `length` pixels that is scaled by `factor`.

    Returns the first pixel and the number of pixels before scaling, and how many pixels of padding come first.
    """
    scaled = round(length * factor)
    if scaled <= wanted:
        return 0, length, int(place * (wanted - scaled + 1))
    taken = min(length, math.ceil(wanted / factor))
    return int(place * (length - taken + 1)), taken, 0


def color_jitter(image: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    """Return an image (H, W, 3) in other colours, blurred with probability `strength` / 2.

    Brightness, contrast and saturation take factors of 1 ± 0.5 · `strength`, hue turns by up to 0.1 · `strength` of
    the colour circle, and with probability 0.2 · `strength` the image is grey. All of them are one affine map of the
    colours, so values are rounded and clipped once.

    Args:
        image: uint8 RGB.
        strength: 0 … 1.
        rng: what is drawn; always the same count of numbers.
    """
    draws = rng.random(7)
    brightness, contrast, saturation = 1 + 0.5 * strength * (2 * draws[:3] - 1)
    turn = 2 * math.pi * _MAX_TURN * strength * (2 * draws[3] - 1)
    if draws[4] < 0.2 * strength:
        saturation = 0.0
    luminance = np.outer(np.ones(3), _LUMINANCE)
    hue = luminance + _rotation(turn) @ (np.eye(3) - luminance)
    colors = brightness * contrast * (luminance + saturation * (hue - luminance))
    mean = brightness * float(np.dot(cv2.mean(image)[:3], _LUMINANCE))
    jittered = cv2.transform(image, np.column_stack([colors, np.full(3, (1 - contrast) * mean)]))
    if draws[5] < 0.5 * strength:
        jittered = cv2.GaussianBlur(jittered, (0, 0), _BLUR[0] + draws[6] * (_BLUR[1] - _BLUR[0]))
    return jittered.astype(np.uint8, copy=False)


def _rotation(turn: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Rotation about the grey axis of RGB by `turn` radians."""
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    rotation: np.ndarray[tuple[int, int], np.dtype[np.float64]] = (
        math.cos(turn) * np.eye(3) + math.sin(turn) * cross + (1 - math.cos(turn)) * np.outer(axis, axis)
    )
    return rotation
