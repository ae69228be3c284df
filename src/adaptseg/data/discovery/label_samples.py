"""What stands in label pictures: values or colours, how many pixels each has, and where in the image they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from adaptseg.data.discovery.families import PICTURES
from adaptseg.data.discovery.refusals import UnclearLabels
from adaptseg.data.files import FileTree, deep_channels, has_deep_channels, label_values, open_image, upright
from adaptseg.data.layouts.annotated import read_drawing
from adaptseg.data.layouts.annotation_formats import ONE_FILE, sniffed
from adaptseg.data.layouts.label_map import Color, LabelMap
from adaptseg.data.layouts.raw_labels import CHANNELS, LOSSY, NPY, PictureLabels, evenly, packed, refuse_lossy
from adaptseg.errors import InputError

BANDS = 8
"""Horizontal bands of an image in which pixels are counted."""
PIXELS = 60_000_000
"""Labels are read until about so many pixels are seen, at least `FEWEST`, at most `MOST` labels."""
FEWEST, MOST = 24, 400
FIRST = 8
"""Files from which the kind of the labels is told."""
MOST_COLORS = 4096
GREY_MODES = ("L", "I", "I;16", "I;16B", "1", "F")
Key = int | Color
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Found:
    """One value or colour."""

    pixels: int
    labels: int
    """Label files that have it."""
    bands: tuple[float, ...]
    """Share of its pixels in each band, from the top."""
    largest: str
    """The file where it has most pixels."""


@dataclass(frozen=True)
class LabelSample:
    """What was found in some of the label files."""

    by_color: bool
    channel: str
    """The channel that has the values, `auto` where there is no choice."""
    found: Mapping[Key, Found]
    palette: Mapping[int, Color]
    """Of palette pictures, the colour of each value; empty where they differ from file to file."""
    read: int
    count: int
    """Labels that there are."""

    @property
    def pixels(self) -> int:
        """All pixels that were read."""
        return sum(found.pixels for found in self.found.values())

    def share(self, key: Key) -> float:
        """Return the share of a value's pixels."""
        return self.found[key].pixels / max(1, self.pixels)


def look(tree: FileTree, name: str) -> str:
    """Return what a file looks like: photo, label, lossy (a JPEG, which may be a photo), drawing or other."""
    suffix = "." + name.rpartition(".")[2].lower()
    try:
        data = tree.read(name)
        if suffix == ".npy":
            return "label"
        if suffix not in PICTURES:
            label_format = sniffed(data, name)
            return "drawing" if label_format not in ONE_FILE and read_drawing(label_format, data, name) else "other"
        image = open_image(data, name)
    except InputError:
        return "other"
    if image.format in LOSSY or (image.format == "WEBP" and b"VP8 " in data[:64]):
        return "lossy"
    if image.mode in ("P", "1"):
        return "label"
    pixels = np.array(image)[:: 1 + image.height // 512, :: 1 + image.width // 512]
    if image.mode in ("RGB", "RGBA", "LA"):
        rgb = np.dstack([pixels, np.zeros_like(pixels[..., :1])])[..., :3] if image.mode == "LA" else pixels[..., :3]
        colors = len(np.unique(packed(np.ascontiguousarray(rgb))))
        return "label" if colors <= min(256, max(16, rgb.shape[0] * rgb.shape[1] // 20)) else "photo"
    return "label" if len(np.unique(pixels)) <= 64 else "photo"


def sampled(tree: FileTree, names: Sequence[str]) -> list[str]:
    """Return the label files that are read: all of few, of many some, evenly spaced."""
    width, height = 1, 1
    data = tree.read(names[0])
    if not data.startswith(NPY):
        width, height = open_image(data, tree.where(names[0]), header_only=True).size
    most = min(MOST, max(FEWEST, PIXELS // (width * height)))
    return [names[place] for place in evenly(len(names), most)]


def read_labels(tree: FileTree, names: Sequence[str]) -> LabelSample:
    """Read label pictures of one domain.

    Raises:
        InputError: a file is broken or lossy, or they hold more colours than classes could have.
    """
    chosen = sampled(tree, names)
    first = [_pixels(tree, name) for name in chosen[:: max(1, len(chosen) // FIRST)][:FIRST]]
    by_color, channel = _kind([pixels for pixels, _ in first])
    palettes = [palette for _, palette in first if palette is not None]
    palette = _agreed([values for values, known in first if known is not None], palettes)
    if palettes and palette is None:
        by_color = True
    read = _colors_of if by_color else _values_of(channel)
    tally = _Tally(by_color)
    for name in chosen:
        pixels, own = _pixels(tree, name)
        tally.add(read(pixels, own, tree.where(name)), name)
    if len(tally.keys) > MOST_COLORS:
        raise UnclearLabels(
            f"{tree.where(chosen[0])}: labels of {len(tally.keys)} colours in {len(chosen)} files, more than classes"
            " could have: they are pictures, or smoothed",
            "give --labels the folder of the label files",
        )
    return LabelSample(by_color, channel, tally.found(), {} if by_color else palette or {}, len(chosen), len(names))


def _pixels(tree: FileTree, name: str) -> tuple[Values, Values | None]:
    """Return a label file's pixels, (H, W) or (H, W, C), and its palette (256, 3) where it has one."""
    data, where = tree.read(name), tree.where(name)
    if data.startswith(NPY):
        reader = PictureLabels(LabelMap(), "npy", lambda: iter(()))
        return reader(data, where), None
    image = open_image(data, where)
    refuse_lossy(image, data, where)
    if image.mode == "F":
        return np.array(upright(image)).astype(np.uint16), None
    if image.mode in (*GREY_MODES, "P"):
        palette = None
        if image.mode == "P":
            colors = np.array(image.getpalette("RGB") or [], np.uint8)[:768]
            palette = np.pad(colors, (0, 768 - len(colors))).reshape(256, 3)
        return label_values(image, where), palette
    if has_deep_channels(data, image):
        return deep_channels(data, where), None
    return np.array(upright(image.convert("RGBA") if image.mode == "LA" else image)), None


def _kind(first: Sequence[Values]) -> tuple[bool, str]:
    """Return whether classes are colours, and else the channel that has them."""
    colored = [pixels for pixels in first if pixels.ndim == 3]
    if not colored:
        return False, "auto"
    if all((pixels[..., :3] == pixels[..., :1]).all() for pixels in colored):
        alphas = [pixels[..., 3] for pixels in colored if pixels.shape[2] == 4]
        if alphas and all(len(np.unique(pixels[..., 0])) == 1 for pixels in colored) and _varies(alphas):
            return False, "alpha"
        return False, "auto"
    varying = [number for number in range(3) if _varies([pixels[..., number] for pixels in colored])]
    return (False, CHANNELS[varying[0]]) if len(varying) == 1 else (True, "auto")


def _varies(channels: Sequence[Values]) -> bool:
    return min(int(channel.min()) for channel in channels) < max(int(channel.max()) for channel in channels)


def _agreed(values: Sequence[Values], palettes: Sequence[Values]) -> dict[int, Color] | None:
    """Return value -> colour of palette pictures; none where their palettes disagree on a value in use."""
    agreed: dict[int, Color] = {}
    for pixels, palette in zip(values, palettes, strict=True):
        for value in np.unique(pixels).tolist():
            red, green, blue = palette[value].tolist()
            if agreed.setdefault(value, (red, green, blue)) != (red, green, blue):
                return None
    return agreed


def _values_of(channel: str) -> Callable[[Values, Values | None, str], Values]:
    def read(pixels: Values, _: Values | None, where: str) -> Values:
        if pixels.ndim == 2:
            return pixels
        number = CHANNELS.index(channel) if channel in CHANNELS else 0
        if number >= pixels.shape[2]:
            raise InputError(f"{where}: has no channel {channel}, as other labels have; write all labels alike")
        return pixels[..., number]

    return read


def _colors_of(pixels: Values, palette: Values | None, where: str) -> Values:
    if palette is not None:
        return packed(palette[pixels])
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.dtype != np.uint8:
        if pixels.max() > 255 and pixels.dtype == np.uint16:
            pixels = pixels >> 8
        pixels = pixels.astype(np.uint8)
    return packed(np.ascontiguousarray(pixels[..., :3]))


class _Tally:
    """Counts values, or colours as `packed` numbers, by bands."""

    def __init__(self, by_color: bool) -> None:
        self.by_color = by_color
        self.keys: dict[int, int] = {}
        self.bands: list[npt.NDArray[np.int64]] = []
        self.labels: list[int] = []
        self.largest: list[tuple[int, str]] = []
        self.codes = np.zeros(1 << 24 if by_color else 1 << 16, np.int32)
        self.known = np.zeros(len(self.codes), np.bool_)

    def add(self, keys: Values, name: str) -> None:
        new = keys[~self.known[keys]]
        for key in np.unique(new)[: MOST_COLORS + 1].tolist() if new.size else ():
            self.known[key] = True
            self.codes[key] = len(self.keys)
            self.keys[key] = len(self.keys)
            self.bands.append(np.zeros(BANDS, np.int64))
            self.labels.append(0)
            self.largest.append((0, name))
        if len(self.keys) > MOST_COLORS:
            return
        band = np.arange(keys.shape[0], dtype=np.int32) * BANDS // keys.shape[0]
        counts = np.bincount((self.codes[keys] * BANDS + band[:, None]).ravel(), minlength=len(self.keys) * BANDS)
        for code, bands in enumerate(counts.reshape(-1, BANDS)):
            pixels = int(bands.sum())
            if pixels:
                self.bands[code] += bands
                self.labels[code] += 1
                self.largest[code] = max(self.largest[code], (pixels, name))

    def found(self) -> dict[Key, Found]:
        """Return what was counted, the most frequent first."""
        result: dict[Key, Found] = {}
        for key, code in sorted(self.keys.items(), key=lambda item: -self.bands[item[1]].sum()):
            bands, total = self.bands[code], int(self.bands[code].sum())
            named: Key = (key & 255, key >> 8 & 255, key >> 16) if self.by_color else key
            shares = tuple(float(band) / max(1, total) for band in bands)
            result[named] = Found(total, self.labels[code], shares, self.largest[code][1])
        return result
