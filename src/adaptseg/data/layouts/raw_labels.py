"""Label pictures as engines and tools write them: grey, palette, colours, one channel of several, arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from adaptseg.config import MAX_PIXELS
from adaptseg.data.files import (
    UInt8Array,
    deep_channels,
    has_deep_channels,
    label_values,
    open_image,
    upright,
)
from adaptseg.data.layouts.label_map import Color, LabelMap
from adaptseg.errors import InputError

NPY = b"\x93NUMPY"
CHANNELS = ("red", "green", "blue", "alpha")
LOSSY = ("JPEG", "MPO", "AVIF", "HEIF", "JPEG2000")
GREY = ("L", "I", "I;16", "I;16B", "1")
SAMPLE = 8
"""Label files from which it is found in which channel the classes are."""
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class PictureLabels:
    """Reads label files of one domain; codes of colours are their positions in the map."""

    label_map: LabelMap
    label_format: str
    """auto, ids, colors, npy, or a channel."""
    sample: Callable[[], Iterator[tuple[bytes, str]]]
    """Some label files of the domain: bytes and name."""

    @property
    def by_color(self) -> bool:
        """Whether pictures are read by their colours."""
        return self.label_format == "colors" or (self.label_format == "auto" and bool(self.label_map.colors))

    def raw_classes(self) -> dict[int, str]:
        """Return the class of every value that `__call__` may return.

        Raises:
            InputError: colours are to be read, and the map has none, or has values too.
        """
        if not self.by_color:
            return self.label_map.raw_classes()
        if not self.label_map.colors:
            raise InputError("label_map has no colours, but label_format is colors; write such as '128,64,128': road")
        if self.label_map.values:
            value = next(iter(self.label_map.values))
            raise InputError(f"label_map has colours and the value {value}; write all as colours, or all as values")
        codes = dict(enumerate(self.label_map.colors.values()))
        return codes if self.label_map.default is None else {**codes, len(codes): self.label_map.default}

    def __call__(self, data: bytes, where: str) -> Values:
        """Return the raw values of a label file, unsigned (H, W), upright.

        Raises:
            InputError: the file is broken or lossy, its kind is not the domain's, or a colour is not in the map.
        """
        if data.startswith(NPY):
            return _array(data, where)
        if self.label_format == "npy":
            raise InputError(f"{where}: no NumPy array, but label_format is npy; write it with numpy.save")
        image = open_image(data, where)
        if image.mode in ("L", "I;16", "I", "1") and not self.by_color and self.label_format in ("auto", "ids"):
            refuse_lossy(image, data, where)
            return label_values(image, where)
        refuse_lossy(image, data, where)
        if self.by_color:
            return self._codes(_colors(image, data, where), where)
        if image.mode == "P":
            return self._indices(image, where)
        if image.mode == "F":
            return whole(np.array(upright(image)), where)
        return self._one_channel(_channels(image, data, where), where)

    def _codes(self, rgb: UInt8Array, where: str) -> Values:
        colors = tuple(self.label_map.colors)
        codes: Values = _code_table(colors)[packed(rgb)]
        unknown = codes == len(colors)
        if self.label_map.default is None and unknown.any():
            red, green, blue = rgb[unknown][0].tolist()
            raise InputError(
                f"{where}: {int(unknown.sum())} pixels have colours that are not in label_map, such as"
                f" {red},{green},{blue}; add '{red},{green},{blue}': NAME, or default: void"
            )
        return codes

    def _indices(self, image: Image.Image, where: str) -> Values:
        """Return the palette's indices, where the palettes of all files agree."""
        values = label_values(image, where)
        palette = _palette(image)
        reference = self._reference_palette
        if reference is not None and palette.tobytes() != reference[0].tobytes():
            used, known = np.bincount(values.ravel(), minlength=256) > 0, reference[1]
            both = used & known
            if (palette[both] != reference[0][both]).any():
                raise InputError(
                    f"{where}: its palette numbers the colours otherwise than {reference[2]}: palette indices mean"
                    " nothing here; write label_map by colours, such as '128,64,128': road"
                )
        return values

    @cached_property
    def _reference_palette(self) -> tuple[UInt8Array, npt.NDArray[np.bool_], str] | None:
        for data, where in self.sample():
            image = open_image(data, where)
            if image.mode == "P":
                return _palette(image), np.bincount(np.array(image).ravel(), minlength=256) > 0, where
        return None

    def _one_channel(self, channels: Values, where: str) -> Values:
        """Return the channel that holds the classes: the configured one, or the one that alone differs."""
        if channels.shape[2] == 1:
            return channels[:, :, 0]
        if self.label_format in CHANNELS:
            number = CHANNELS.index(self.label_format)
            if number >= channels.shape[2]:
                raise InputError(f"{where}: has no channel {self.label_format}; correct label_format")
            return np.ascontiguousarray(channels[:, :, number])
        rgb = channels[:, :, :3]
        if (rgb == rgb[:, :, :1]).all():
            return np.ascontiguousarray(rgb[:, :, 0])
        if self._channel is None:
            raise InputError(
                f"{where}: a picture of colours; give label_map the colours, such as '128,64,128': road, or say which"
                " channel has the classes, such as label_format: red"
            )
        number, others = self._channel
        for other, value in others.items():
            if (rgb[:, :, other] != value).any():
                raise InputError(
                    f"{where}: channel {CHANNELS[number]} was taken for the classes, since the others are constant in"
                    f" {SAMPLE} files, but here {CHANNELS[other]} is not; give label_format, or colours in label_map"
                )
        return np.ascontiguousarray(rgb[:, :, number])

    @cached_property
    def _channel(self) -> tuple[int, dict[int, int]] | None:
        """The one channel that differs within the sample, and the others' constant values; none where more differ."""
        low, high = np.full(3, 1 << 16), np.full(3, -1)
        for data, where in self.sample():
            channels = _channels(open_image(data, where), data, where)[:, :, :3]
            if channels.shape[2] == 3:
                low = np.minimum(low, channels.min((0, 1)))
                high = np.maximum(high, channels.max((0, 1)))
        varying = np.flatnonzero(high > low)
        if not len(varying):  # Every picture has one class.
            varying = np.flatnonzero(high > 0)
        if len(varying) != 1:
            return None
        number = int(varying[0])
        return number, {other: int(low[other]) for other in range(3) if other != number}


def refuse_lossy(image: Image.Image, data: bytes, where: str) -> None:
    """Refuse label pictures of formats that change pixels."""
    kind = str(image.format)
    if kind in LOSSY or (kind == "WEBP" and b"VP8 " in data[:64]):
        raise InputError(
            f"{where}: a {'lossy WebP' if kind == 'WEBP' else kind} file, which changes pixels: its classes are wrong"
            " at every border; write labels as PNG from where they were made"
        )


def packed(rgb: UInt8Array) -> npt.NDArray[np.uint32]:
    """Return colours (H, W, 3) as numbers (H, W), red the lowest byte."""
    four = np.zeros((*rgb.shape[:2], 4), np.uint8)
    cv2.mixChannels([np.ascontiguousarray(rgb)], [four], [0, 0, 1, 1, 2, 2])
    return four.view("<u4")[:, :, 0]


@lru_cache(maxsize=4)
def _code_table(colors: tuple[Color, ...]) -> Values:
    """Return the code of every colour, `packed`: its position, or the number of colours where it is none of them."""
    table = np.full(1 << 24, len(colors), np.uint8 if len(colors) < 256 else np.uint16)
    for code, (red, green, blue) in enumerate(colors):
        table[red | green << 8 | blue << 16] = code
    return table


def _palette(image: Image.Image) -> UInt8Array:
    """Return the colours of a palette picture, (256, 3)."""
    colors = np.array(image.getpalette("RGB") or [], np.uint8)[:768]
    return np.pad(colors, (0, 768 - len(colors))).reshape(256, 3)


def _colors(image: Image.Image, data: bytes, where: str) -> UInt8Array:
    """Return the colours of a label picture, (H, W, 3)."""
    if image.mode == "P":
        found: UInt8Array = _palette(image)[np.array(upright(image))]
        return found
    if image.mode in GREY and image.mode != "1":
        values = label_values(image, where)
        if values.max() > 255:
            raise InputError(f"{where}: grey values above 255, but label_map has colours; write label_map by values")
        return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA", "PA", "1"):
        raise InputError(f"{where}: a {image.mode} picture; write labels as RGB")
    if has_deep_channels(data, image):
        return (deep_channels(data, where)[:, :, :3] >> 8).astype(np.uint8)
    return np.array(upright(image).convert("RGBA"))[:, :, :3]


def _channels(image: Image.Image, data: bytes, where: str) -> Values:
    """Return the channels of a label picture as they are, (H, W, C): red, green, blue, alpha, or grey alone."""
    if image.mode in (*GREY, "P"):
        return label_values(image, where)[:, :, None]
    if has_deep_channels(data, image):
        return deep_channels(data, where)
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        raise InputError(
            f"{where}: a {image.mode} picture; a label must hold one value per pixel, or colours: write it as PNG"
        )
    pixels = np.array(upright(image))
    return pixels[:, :, :1] if image.mode == "LA" else pixels


def _array(data: bytes, where: str) -> Values:
    """Return the array of a .npy file as unsigned (H, W); no pickles are run."""
    try:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(stream)
        if kind.hasobject or len(shape) > 4 or np.prod(shape, dtype=object) > MAX_PIXELS:
            raise InputError(f"{where}: an array of {kind} {shape}; write whole numbers (H, W)")
        values: Values = np.load(io.BytesIO(data), allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # NumPy parses the header as Python, which fails in many ways.
        raise InputError(f"{where}: no readable NumPy array ({type(error).__name__}); write it again") from error
    values = values.squeeze(tuple(axis for axis in (0, -1) if values.ndim == 3 and values.shape[axis] == 1)[:1])
    if values.ndim != 2 or not values.size:
        raise InputError(f"{where}: an array of shape {values.shape}; write one value per pixel, (H, W)")
    return whole(values, where)


def whole(values: Values, where: str) -> Values:
    """Return numbers as unsigned values of 8 or 16 bits.

    Raises:
        InputError: they are no whole numbers, or outside 0 … 65535.
    """
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise InputError(f"{where}: values with fractions, or none (NaN); labels are whole numbers: write them so")
    elif values.dtype.kind not in "iu":
        raise InputError(f"{where}: values of type {values.dtype}; write labels as whole numbers")
    if values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{where}: label values {values.min():g} … {values.max():g}, outside 0 … 65535; write labels as 8 or"
            " 16 bits"
        )
    return values.astype(np.uint8 if values.max() < 256 else np.uint16)


def evenly(count: int, most: int) -> Sequence[int]:
    """Return up to `most` of the positions 0 … count - 1, evenly spaced, the first and the last among them."""
    return sorted({round(i * (count - 1) / max(1, min(count, most) - 1)) for i in range(min(count, most))})
