"""Images as Python has them (files, PIL, numpy, torch) as the arrays that are predicted, and overlays of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from adaptseg.data.files import UInt8Array, decode_image, rgb_pixels
from adaptseg.errors import InputError

ImageLike: TypeAlias = "str | Path | Image.Image | npt.NDArray[Any] | Tensor"
"""A file, a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor (H, W) or (C, H, W); uint8."""
WANTED = "give an image as a file's path, a PIL image, an array or a tensor, several as a list of them"
CHANNELS = (1, 3, 4)
OVERLAY_OPACITY = 0.55


def is_several(images: Any) -> bool:
    """Tell whether these are several images: a list, or an array or tensor of four dimensions."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim == 4
    return isinstance(images, Sequence) and not isinstance(images, str | bytes)


def rgb_array(image: ImageLike, value_range: tuple[float, float] | None = None) -> UInt8Array:
    """Return one image as uint8 (H, W, 3) RGB: grey is repeated, alpha left out.

    Files and PIL images are turned as their metadata say. `value_range` is that of `decode_image`.

    Raises:
        InputError: the file is not a readable image, the array has another shape or type, or it is none of these.
    """
    if isinstance(image, str | Path):
        try:
            return decode_image(Path(image).read_bytes(), str(image), value_range)
        except OSError as error:
            raise InputError(f"{image}: cannot be read ({error.strerror}); check the path") from error
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise InputError(f"a PIL image of mode {image.mode} has no known range; give its file, or 8 bits a pixel")
        return rgb_pixels(image, "the image")
    if not isinstance(image, np.ndarray | Tensor):
        raise InputError(f"{WANTED}; this is {type(image).__name__}")
    return _rgb(image)


def _rgb(image: npt.NDArray[Any] | Tensor) -> UInt8Array:
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if isinstance(image, Tensor) and pixels.ndim == 3 and pixels.shape[0] in CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in CHANNELS or pixels.dtype != np.uint8 or not pixels.size:
        wanted = "a tensor must be uint8 (C, H, W)" if isinstance(image, Tensor) else "an array must be uint8 (H, W, C)"
        raise InputError(
            f"{wanted} with 1, 3 or 4 channels, 0 … 255, but this is {image.dtype} {tuple(image.shape)}; convert it"
        )
    return np.ascontiguousarray(pixels[..., :3] if pixels.shape[2] > 1 else pixels.repeat(3, 2))


def overlay(image: UInt8Array, colors: UInt8Array) -> UInt8Array:
    """Blend an image (H, W, 3) with class colours (H, W, 3)."""
    blended = cv2.addWeighted(image, 1 - OVERLAY_OPACITY, colors, OVERLAY_OPACITY, 0)
    return blended.astype(np.uint8, copy=False)
