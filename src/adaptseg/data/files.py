"""Reading images and labels: every error names the file, what is wrong with it, and the cure."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from adaptseg.config import MAX_PIXELS
from adaptseg.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
"""Decoders by content. Pillow has more; the one for EPS starts another program."""

UInt8Array = npt.NDArray[np.uint8]


class FileTree(Protocol):
    """Read-only files under one root: a folder, or an archive read in place. Names use `/`."""

    root: Path

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of all files below `folder` (empty string: of the whole tree)."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""

    def stamp(self, name: str) -> str:
        """Return a text that changes when the file's content does."""

    def where(self, name: str) -> str:
        """Return where a file lies, for error messages."""


class FolderTree:
    """The files of a folder."""

    def __init__(self, root: Path) -> None:
        """Open the folder; raises `InputError` where there is none."""
        if not root.is_dir():
            raise InputError(f"{os.path.abspath(root)}: no such folder; check the root of the data (or --data)")
        self.root = root

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of all files below `folder`, relative to the root, without hidden ones."""
        top = self.root / folder
        if not top.is_dir():
            return []
        return sorted(_names_below(top, f"{folder}/" if folder else "", {os.path.realpath(top)}))

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises `InputError` where it cannot be read."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise InputError(f"{self.root / name}: cannot be read ({error.strerror}); restore the file") from error

    def stamp(self, name: str) -> str:
        """Return a file's size and time of change; raises `InputError` where there is no such file."""
        try:
            status = os.stat(f"{self.root}/{name}")
        except OSError as error:
            raise InputError(f"{self.root / name}: cannot be read ({error.strerror}); restore the file") from error
        return f"{status.st_size} {status.st_mtime_ns}"

    def where(self, name: str) -> str:
        """Return a file's path."""
        return str(self.root / name)


def _names_below(folder: Path, prefix: str, seen: set[str]) -> list[str]:
    """Names below a folder. A scan brings the file types along: no call per file, 25000 in a moment."""
    names = []
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check the folder") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            names.append(prefix + entry.name)
        elif not entry.is_symlink() or os.path.realpath(entry.path) not in seen:
            # A link to a folder is followed (data sets are often linked), but not round in a circle.
            links = seen | {os.path.realpath(entry.path)} if entry.is_symlink() else seen
            names += _names_below(Path(entry.path), f"{prefix}{entry.name}/", links)
    return names


def is_image(name: str) -> bool:
    """Tell by its suffix whether a file is an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def open_image(data: bytes, where: str, *, header_only: bool = False) -> Image.Image:
    """Return the decoded image, or with `header_only` just its size and kind.

    Raises:
        InputError: the bytes are no image, are truncated, or hold more than `MAX_PIXELS` pixels.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"{where}: {image.width}x{image.height} pixels, more than {MAX_PIXELS}; scale the image down"
            )
        if not header_only:
            if image.format == "PNG":
                # The decoder does not look at the checksums: one wrong bit may pass as other label values.
                Image.open(io.BytesIO(data), formats=FORMATS).verify()
            image.load()
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own bound, for the largest.
        raise InputError(f"{where}: more than {MAX_PIXELS} pixels; scale the image down") from error
    except Exception as error:  # Pillow's decoders raise many kinds: each means that the file is broken.
        raise _unreadable(where, error) from error
    return image


def _unreadable(where: str, error: Exception) -> InputError:
    text = str(error) or type(error).__name__
    reason = "unknown format" if "cannot identify image file" in text else text.splitlines()[0]
    return InputError(f"{where}: not a readable image ({reason}); replace or remove the file")


def decode_image(data: bytes, where: str) -> UInt8Array:
    """Return an image as uint8 (H, W, 3) RGB, whatever mode its file has; raises as `open_image` does."""
    pixels = _decode_rgb_png(data, where)
    if pixels is not None:
        return pixels
    image = open_image(data, where)
    if image.mode in ("I", "F") and image.format == "TIFF":
        raise InputError(f"{where}: 32 bits for each pixel, of unknown range; save the image with 8 or 16 bits")
    if image.mode.startswith("I"):  # Grey of 16 bits, of which Pillow would cut off all that is above 255.
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:  # A rare mode, such as grey with multiplied alpha.
        raise _unreadable(where, error) from error


def _decode_rgb_png(data: bytes, where: str) -> UInt8Array | None:
    """Decode a sound PNG of 8-bit RGB, as GTA5's and Cityscapes' are, faster than Pillow; none for any other file."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:29] != b"\x08\x02\0\0\0":  # 8 bits, RGB, not interlaced.
        return None
    image = open_image(data, where, header_only=True)
    if getattr(image, "is_animated", False) or "transparency" in image.info:
        return None
    try:
        # OpenCV may fill in what is missing, or write about it to stderr: it gets no broken file.
        image.verify()
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except Exception:  # Pillow will say what is wrong.
        return None
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def decode_label(data: bytes, where: str) -> npt.NDArray[Any]:
    """Return a label image's raw values, (H, W): grey value, or palette index; 8 or 16 bits.

    Raises:
        InputError: the file is a colour picture rather than a label image.
    """
    image = open_image(data, where)
    if image.mode not in ("L", "P", "I", "I;16", "1"):
        raise InputError(
            f"{where}: a label must hold one value per pixel, but this is a {image.mode} picture;"
            " convert the colours to class numbers"
        )
    values: npt.NDArray[Any] = np.array(image)
    if values.dtype == np.int32:
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{where}: label values outside 0 … 65535; save labels as 8- or 16-bit PNG")
        values = values.astype(np.uint16)
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def resize_image(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize an image (H, W, 3) to `size` (width, height), bicubic and antialiased as in the released code.

    Torch has the filter of Pillow's `BICUBIC`, four times as fast; some pixels in a thousand are rounded otherwise.
    """
    if (image.shape[1], image.shape[0]) == size:
        return image
    import torch  # Not above: the configuration imports this module, and torch takes seconds.

    # A view (1, 3, H, W) of memory in the order H, W, 3, which torch keeps.
    images = torch.from_numpy(np.require(image, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(images, (size[1], size[0]), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())


def resize_label(label: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Resize a label (H, W) to `size` (width, height) by nearest neighbour, any integer type."""
    if (label.shape[1], label.shape[0]) == size:
        return label
    # Pixel centres, as Pillow's NEAREST has them.
    rows = ((np.arange(size[1]) + 0.5) * label.shape[0] / size[1]).astype(np.intp)
    columns = ((np.arange(size[0]) + 0.5) * label.shape[1] / size[0]).astype(np.intp)
    resized: npt.NDArray[Any] = label[rows].take(columns, axis=1)
    return resized


def look_up(table: UInt8Array, values: npt.NDArray[Any]) -> UInt8Array:
    """Return `table[values]` for unsigned values of 8 or 16 bits and a table of 65536; 8 bits are fast."""
    if values.dtype == np.uint8:
        return cv2.LUT(values, table[:256]).astype(np.uint8, copy=False)
    found: UInt8Array = table[values]
    return found
