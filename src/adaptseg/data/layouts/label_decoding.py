"""Decoders of published label files, strict: a label that is read wrongly trains without any error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from adaptseg.data.files import UInt8Array, decode_label, look_up, open_image
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.data.layouts.published_labels import COLOR_NAMES
from adaptseg.errors import InputError

SYNTHIA_CURE = "give SYNTHIA-RAND-CITYSCAPES' own GT/LABELS (16-bit PNG), not GT/COLOR or a converted copy"


def decode_class_ids(raw_classes: Mapping[int, str], data: bytes, where: str) -> npt.NDArray[Any]:
    """Return label values, (H, W), 8 or 16 bits, each one of `raw_classes`.

    Raises:
        InputError: the picture is colour-coded, its palette numbers the classes differently, or a value is
            not among `raw_classes`.
    """
    header = open_image(data, where, header_only=True)
    if header.mode in ("RGB", "RGBA"):
        raise InputError(
            f"{where}: colour-coded {header.mode} picture; labels must hold one class number per pixel:"
            " give the published label files (grey or palette PNG), not their colour version"
        )
    values = decode_label(data, where)
    if header.mode == "P":
        _refuse_other_numbering(header, values, where, raw_classes)
    _refuse_unknown(values, where, raw_classes)
    return values


def decode_synthia(raw_classes: Mapping[int, str], data: bytes, where: str) -> npt.NDArray[Any]:
    """Return SYNTHIA's class ids, uint16 (H, W): the first (red) channel of a 16-bit PNG with 3 channels.

    Pillow reduces such files to 8 bits, which turns every class id into 0: OpenCV reads them as they are.

    Raises:
        InputError: the file has 8 bits, another number of channels, is damaged, or has unknown values.
    """
    open_image(data, where, header_only=True)
    if b"IEND" not in data:
        # OpenCV would fill the missing rows with zeros, without an error.
        raise InputError(f"{where}: truncated PNG file; unpack or download it again")
    pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{where}: damaged PNG file; unpack or download it again")
    if pixels.dtype != np.uint16:
        raise InputError(f"{where}: SYNTHIA labels must have 16 bits per channel, these have 8; {SYNTHIA_CURE}")
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise InputError(f"{where}: SYNTHIA labels must have 3 channels, these have 1; {SYNTHIA_CURE}")
    values = np.ascontiguousarray(pixels[:, :, 2])  # OpenCV's order is blue, green, red.
    _refuse_unknown(values, where, raw_classes)
    return values


def _refuse_unknown(values: npt.NDArray[Any], where: str, raw_classes: Mapping[int, str]) -> None:
    is_unknown = np.ones(65536, np.uint8)
    is_unknown[list(raw_classes)] = 0
    marked = look_up(is_unknown, values)
    if not marked.any():
        return
    unknown = np.unique(values[marked == 1])
    named = np.unique(values[marked == 0])
    if unknown.tolist() == [IGNORE_INDEX] and (not len(named) or named.max() < 19):
        # The values of a file of train ids: 0 … 18 and 255.
        cure = "these look like train ids: give the published files, with label ids"
    else:
        cure = f"give the published label files, or name it in label_map, for example {unknown[0]}: void"
    raise InputError(
        f"{where}: label value {unknown[0]} is outside the map (known: {_ranges(sorted(raw_classes))}); {cure}"
    )


def _refuse_other_numbering(
    header: Image.Image, values: UInt8Array, where: str, raw_classes: Mapping[int, str]
) -> None:
    """Refuse a palette picture whose values are a colour picture's, numbered anew.

    A converter that reduces a colour-coded label to a palette numbers the colours 0, 1, 2, …:
    the colours are Cityscapes', but at other values. A palette that merely differs is no error.
    """
    palette = header.getpalette("RGB") or []
    highest = int(values.max())
    if len(palette) < 3 * (highest + 1):
        return
    colors = [(palette[3 * v], palette[3 * v + 1], palette[3 * v + 2]) for v in range(highest + 1)]
    if len(set(colors)) < len(colors) or not all(color in COLOR_NAMES for color in colors):
        return
    if len(np.unique(values)) < len(colors):  # Last, because it is slow: it sorts the pixels.
        return
    for value, color in enumerate(colors):
        name = raw_classes.get(value)
        if name not in COLOR_NAMES[color] and COLOR_NAMES[color] & set(raw_classes.values()) and any(color):
            raise InputError(
                f"{where}: value {value} stands for {name}, but its palette colour is that of"
                f" {min(COLOR_NAMES[color])}: a renumbered colour-coded label; give the published files"
            )


def _ranges(values: Sequence[int]) -> str:
    """[0, 1, 2, 255] -> `0-2, 255`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], value]
        else:
            runs.append([value])
    return ", ".join("-".join(map(str, run)) for run in runs)
