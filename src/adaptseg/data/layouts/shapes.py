"""Annotated shapes as pixels: polygons, outlines, run lengths, bitmaps, brushes. Later shapes lie on earlier ones."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from adaptseg.config import MAX_PIXELS
from adaptseg.data.files import open_image
from adaptseg.data.layouts.brush_rle import decode
from adaptseg.errors import InputError

Canvas = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
FARTHEST = 1_000_000
"""Coordinates beyond are cut: OpenCV counts in 32 bits."""


@dataclass(frozen=True)
class Polygon:
    """Rings of points, which are pixels; borders belong to the shape, as in LabelMe, Cityscapes and Supervisely."""

    name: str
    outer: Sequence[Any]
    """(x, y) of each point."""
    holes: Sequence[Sequence[Any]] = ()

    def draw(self, canvas: Canvas, code: int, where: str) -> None:
        """Set the pixels of the shape to `code`."""
        rings = [_pixels(ring, where) for ring in (self.outer, *self.holes)]
        if len(rings) == 1:
            cv2.fillPoly(canvas, rings, code)
            return
        mask = np.zeros(canvas.shape, np.uint8)
        cv2.fillPoly(mask, rings[:1], 1)
        cv2.fillPoly(mask, rings[1:], 0)
        canvas[mask > 0] = code


@dataclass(frozen=True)
class Outline:
    """A ring of points between pixels, as in COCO, CVAT, Label Studio and YOLO: (0, 0) is a corner of the image.

    A pixel belongs to it if its centre is inside, by the even-odd rule. So outlines that share an edge neither overlap
    nor leave a gap, and one so thin that no centre is inside is drawn as nothing.
    """

    name: str
    ring: Sequence[Any]
    """(x, y) in pixels, or as shares of width and height."""
    relative: bool = False

    def draw(self, canvas: Canvas, code: int, where: str) -> None:
        """Set the pixels of the shape to `code`."""
        points = _points(self.ring, where) * (canvas.shape[1::-1] if self.relative else (1, 1))
        mask, corner = _filled(points.clip(-FARTHEST, FARTHEST), canvas.shape)
        paste(canvas, mask, corner, code)


@dataclass(frozen=True)
class Circle:
    """A centre and a point of the edge."""

    name: str
    points: Sequence[Any]

    def draw(self, canvas: Canvas, code: int, where: str) -> None:
        """Set the pixels of the shape to `code`."""
        centre, edge = _pixels(self.points, where)[:2].astype(float)
        radius = round(float(np.hypot(*(edge - centre))))
        cv2.circle(canvas, (int(centre[0]), int(centre[1])), min(radius, FARTHEST), code, -1)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs, outside and inside in turn, beginning outside."""

    name: str
    counts: Sequence[int] | str
    """A text is COCO's compressed form."""
    size: tuple[int, int]
    """Height and width of the box that the runs fill."""
    corner: tuple[int, int] = (0, 0)
    """Left and top of the box."""
    by_columns: bool = True
    """As COCO counts; otherwise by rows, as CVAT does."""

    def draw(self, canvas: Canvas, code: int, where: str) -> None:
        """Set the pixels of the shape to `code`.

        Raises:
            InputError: the runs do not fill the box, or COCO's are of another size than the canvas.
        """
        height, width = self.size
        if min(self.size) < 0 or height * width > MAX_PIXELS:
            raise InputError(f"{where}: a mask of {width}x{height} pixels; export it again")
        if self.by_columns and self.size != canvas.shape:
            raise InputError(
                f"{where}: a mask of {width}x{height} pixels on an image of {canvas.shape[1]}x{canvas.shape[0]}; export"
                " it again at the image's size"
            )
        counts = np.array(_uncompressed(self.counts) if isinstance(self.counts, str) else self.counts, np.int64)
        inside = (counts >= 0) & (counts <= height * width)  # A sum of larger ones may overflow.
        if counts.ndim != 1 or not inside.all() or counts.sum() != height * width:
            raise InputError(f"{where}: run lengths that do not fill {width}x{height} pixels; export it again")
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        mask = flat.reshape(width, height).T if self.by_columns else flat.reshape(height, width)
        paste(canvas, mask, self.corner, code)


@dataclass(frozen=True)
class Bitmap:
    """A PNG in base64, as LabelMe (`mask`) and Supervisely (`bitmap`, packed by zlib too) keep it."""

    name: str
    data: str
    corner: tuple[int, int]
    """Left and top."""

    def draw(self, canvas: Canvas, code: int, where: str) -> None:
        """Set the pixels of the shape to `code`; raises `InputError` where the bitmap is broken."""
        try:
            data = base64.b64decode(self.data)
            if not data.startswith(b"\x89PNG"):
                data = zlib.decompressobj().decompress(data, 1 << 26)
        except (binascii.Error, zlib.error, ValueError, TypeError) as error:
            raise InputError(f"{where}: a bitmap that cannot be unpacked ({error}); export it again") from error
        pixels = np.array(open_image(data, where).convert("RGBA")).astype(bool)
        paste(canvas, pixels[:, :, :3].any(2) & pixels[:, :, 3], self.corner, code)


@dataclass(frozen=True)
class Brush:
    """A mask as Label Studio keeps it."""

    name: str
    rle: Sequence[int]
    size: tuple[int, int]
    """Height and width."""

    def draw(self, canvas: Canvas, code: int, where: str) -> None:
        """Set the pixels of the shape to `code`; raises `InputError` where the runs are broken."""
        try:
            mask = decode(self.rle, self.size)
        except (ValueError, TypeError) as error:
            raise InputError(f"{where}: a brush that cannot be unpacked ({error}); export it again") from error
        paste(canvas, mask, (0, 0), code)


Shape = Polygon | Outline | Circle | Runs | Bitmap | Brush


def paste(canvas: Canvas, mask: Mask, corner: tuple[int, int], code: int) -> None:
    """Set the pixels of `mask`, whose left and top are `corner`, to `code`; what lies outside is cut."""
    left, top = corner
    rows = slice(max(0, top), min(canvas.shape[0], top + mask.shape[0]))
    columns = slice(max(0, left), min(canvas.shape[1], left + mask.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        inside = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        canvas[rows, columns][inside] = code


def _points(ring: Sequence[Any], where: str) -> npt.NDArray[np.float64]:
    try:
        points = np.array(ring, float).reshape(-1, 2)
        if not len(points) or not np.isfinite(points).all():
            raise ValueError("no finite numbers")
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: a shape whose points are no pairs of numbers; correct or delete it") from error
    return points


def _pixels(ring: Sequence[Any], where: str) -> npt.NDArray[np.int32]:
    rounded: npt.NDArray[np.int32] = np.rint(_points(ring, where).clip(-FARTHEST, FARTHEST)).astype(np.int32)
    return rounded


def _filled(points: npt.NDArray[np.float64], size: Sequence[int]) -> tuple[Mask, tuple[int, int]]:
    """Return the pixels of a canvas whose centres are inside a ring, in its bounding box, and the box's left and top.

    A centre on the ring is inside where the inside is right of it, or below.
    """
    first = np.ceil(points - 0.5).clip(0, size[::-1]).astype(int)  # Pixel whose centre is not left of, or above it.
    (left, top), (right, bottom) = first.min(0).tolist(), first.max(0).tolist()
    before = np.arange(-1, len(points) - 1)
    (dx, dy), rows = (points - points[before]).T, first[:, 1]
    counts = np.abs(rows - rows[before])
    edge = np.repeat(np.arange(len(points)), counts)  # Of each crossing of an edge with the centres of a row.
    row = np.arange(len(edge)) + (np.minimum(rows, rows[before]) + counts - counts.cumsum())[edge]
    # From the edge's middle: the same, to the last bit, in both directions.
    x, y = (points + points[before]).T / 2
    column = np.ceil(x[edge] + (row + 0.5 - y[edge]) * (dx[edge] / dy[edge]) - 0.5).clip(left, right).astype(int)
    # Each row is crossed an even number of times: what a crossing begins another ends.
    runs = np.append((row - top) * (right - left) + column - left, (bottom - top) * (right - left))
    runs.sort()
    runs[1:] -= runs[:-1].copy()
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(bottom - top, right - left), (left, top)


def _uncompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's text: numbers in base 32 from `0` on, from the fourth as differences."""
    counts: list[int] = []
    position = 0
    codes = [ord(letter) - 48 for letter in text]
    while position < len(codes):
        value, shift, more = 0, 0, True
        while more:
            if position == len(codes) or not 0 <= codes[position] < 64 or shift > 60:
                return [-1]
            value |= (codes[position] & 31) << shift
            more, last = bool(codes[position] & 32), codes[position]
            position, shift = position + 1, shift + 5
        if last & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def is_unreal(size: tuple[int, int]) -> bool:
    """Tell whether a width and height are those of no image."""
    return min(size) < 1 or size[0] * size[1] > MAX_PIXELS
