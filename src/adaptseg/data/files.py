"""Reading images and labels: every error names the file, what is wrong with it, and the cure."""

from __future__ import annotations

import io
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from adaptseg.config import MAX_PIXELS
from adaptseg.errors import InputError, require_extra
from adaptseg.text import plain

_BROWSERS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".avif", ".heic", ".heif"}
IMAGE_SUFFIXES = frozenset(_BROWSERS | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"})
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
"""Of these the extra `heic` has the decoder."""
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "AVIF", "JPEG2000")
"""Decoders by content. Pillow has more; the one for EPS starts another program."""
RAW_MODE = "raw mode"
"""Under this, `info` of a decoded image keeps how the file packs its pixels, which Pillow forgets."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What shows an image of each EXIF orientation upright."""

TURNING_TEXTS = (b"Raw profile type", b"XML:com.adobe.xmp")
"""Keys of a PNG's texts under which EXIF and XMP are kept."""

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
            status = os.stat(os.path.join(self.root, name))
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
    """Return the decoded image as it is stored (`upright` turns it), or with `header_only` just its size and kind.

    Raises:
        InputError: the bytes are no image, are truncated, or hold more than `MAX_PIXELS` pixels.
    """
    formats = (*FORMATS, "HEIF") if _is_heif(data, where) else FORMATS
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"{where}: {image.width}x{image.height} pixels, more than {MAX_PIXELS}; scale the image down"
            )
        if not header_only:
            arguments = image.tile[0].args if image.tile else ""
            image.info[RAW_MODE] = str(arguments[0] if isinstance(arguments, tuple) else arguments)
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


def _is_heif(data: bytes, where: str) -> bool:
    """Tell whether the bytes are a photograph as iPhones write it, and make Pillow read it."""
    if data[4:8] != b"ftyp" or data[8:12] not in HEIF_BRANDS or b"avif" in data[8:64]:
        return False
    require_extra("heic", f"{where}: a HEIC image", "pillow_heif")
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True


def upright(image: Image.Image) -> Image.Image:
    """Return a decoded image turned as its EXIF orientation says, and as every viewer shows it.

    The one place where images and labels are turned. Pillow has turned TIFF files itself when they are loaded.
    """
    turn = _orientation(image)
    if turn == 1 or image.format == "TIFF":
        return image
    turned = image.transpose(TURNS[turn])
    turned.format = image.format
    return turned


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Broken metadata raise many kinds: the image is taken as it is stored.
        return 1
    return turn if turn in TURNS else 1


def image_size(data: bytes, where: str) -> tuple[int, int]:
    """Return width and height of an image when it is upright, from the header alone; raises as `open_image` does."""
    header = open_image(data, where, header_only=True)
    return (header.height, header.width) if header.format != "TIFF" and is_sideways(header, data) else header.size


def is_sideways(header: Image.Image, data: bytes) -> bool:
    """Tell whether the EXIF orientation of an image, opened from `data`, swaps its width and height."""
    return (header.format != "PNG" or _may_be_turned(data)) and _orientation(header) >= 5


def _unreadable(where: str, error: Exception) -> InputError:
    text = str(error) or type(error).__name__
    reason = "unknown format" if "cannot identify image file" in text else text.splitlines()[0]
    return InputError(f"{where}: not a readable image ({reason}); replace or remove the file")


def decode_image(data: bytes, where: str, value_range: tuple[float, float] | None = None) -> UInt8Array:
    """Return an image as uint8 (H, W, 3) RGB, upright, whatever mode its file has; raises as `open_image` does.

    Args:
        data: the file's bytes.
        where: its name for messages.
        value_range: of images with more than 8 bits, the values that become 0 and 255; none: 0 and the highest
            value of the 10, 12, 14 or 16 bits that the image's own values need. 8-bit images are as they are.
    """
    pixels = _decode_rgb_png(data, where)
    if pixels is not None:
        return pixels
    deep = deep_values(data, where)
    if deep is not None:
        if value_range is None:
            value_range = _guessed_range(deep, where)
            say_guessed(str(Path(where).parent), value_range)
        return _scaled(deep, value_range)
    return rgb_pixels(open_image(data, where), where)


@cache
def say_guessed(folder: str, value_range: tuple[float, float]) -> None:
    """Say once how a folder's images of unknown range are read: they may come out too dark or too bright."""
    low, high = value_range
    print(
        f"adaptseg: {plain(folder)}: images of more than 8 bits, of unknown range: {low:g} … {high:g} become 0 … 255;"
        " a network that was trained on such images keeps their range",
        file=sys.stderr,
    )


def rgb_pixels(image: Image.Image, where: str) -> UInt8Array:
    """Return a decoded image of 8 bits as uint8 (H, W, 3) RGB, upright; alpha is left out."""
    try:
        return np.array(upright(image).convert("RGB"))
    except ValueError as error:  # A rare mode, such as grey with multiplied alpha.
        raise _unreadable(where, error) from error


def deep_values(data: bytes, where: str) -> npt.NDArray[Any] | None:
    """Return the values of an image of more than 8 bits, upright, (H, W) or RGB (H, W, 3); none of any other image.

    Raises:
        InputError: as `open_image`, or a value is no number.
    """
    header = open_image(data, where, header_only=True)
    if header.mode[0] in "IF":
        values: npt.NDArray[Any] = np.array(upright(open_image(data, where)))
        if not np.isfinite(values).all():
            raise InputError(f"{where}: values that are no numbers (NaN or infinite); write the image without them")
        return values
    return deep_channels(data, where)[..., :3] if has_deep_channels(data, header) else None


def has_deep_channels(data: bytes, header: Image.Image) -> bool:
    """Tell whether an image has several channels of 16 bits, which Pillow would cut to 8."""
    if header.format == "PNG":
        return data[24:25] == b"\x10" and data[25:26] in (b"\x02", b"\x04", b"\x06")
    return header.format == "TIFF" and header.mode in ("RGB", "RGBA", "LA") and _tiff_bits(header) == 16


def _tiff_bits(header: Image.Image) -> int:
    bits = getattr(header, "tag_v2", {}).get(258, (8,))
    return int(bits[0] if isinstance(bits, tuple) else bits)


def deep_channels(data: bytes, where: str) -> npt.NDArray[np.uint16]:
    """Return an image of several channels of 16 bits, upright, (H, W, C): RGB, RGB and alpha, or grey three times."""
    image = open_image(data, where)  # OpenCV would fill in what is missing: it gets no broken file.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise InputError(f"{where}: a kind of 16-bit picture that is not read; save it as 16-bit RGB PNG")
    # OpenCV's order is blue, green, red; like Pillow it turns TIFF files itself.
    rgb = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    turn = 1 if image.format == "TIFF" else _orientation(image)
    return np.ascontiguousarray(_turned(rgb, turn)).astype(np.uint16, copy=False)


def _turned(pixels: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    """As `TURNS`, for arrays (H, W, C)."""
    pixels = np.swapaxes(pixels, 0, 1) if turn >= 5 else pixels
    rows = -1 if turn in (3, 4, 7, 8) else 1
    columns = -1 if turn in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


def _guessed_range(values: npt.NDArray[Any], where: str) -> tuple[float, float]:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise InputError(f"{where}: 32 bits for each pixel, of unknown range; save the image with 8 or 16 bits")
    bits = next(bits for bits in (10, 12, 14, 16) if values.max() < 2**bits)
    return 0.0, 2.0**bits - 1


def _scaled(values: npt.NDArray[Any], value_range: tuple[float, float]) -> UInt8Array:
    """Return (H, W, 3) with the range's ends at 0 and 255, beyond them clipped."""
    low, high = value_range
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    grey = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2)


def _decode_rgb_png(data: bytes, where: str) -> UInt8Array | None:
    """Decode a sound PNG of 8-bit RGB, as GTA5's and Cityscapes' are, faster than Pillow; none for any other file."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:29] != b"\x08\x02\0\0\0":  # 8 bits, RGB, not interlaced.
        return None
    image = open_image(data, where, header_only=True)
    if getattr(image, "is_animated", False) or "transparency" in image.info or _may_be_turned(data):
        return None
    try:
        # OpenCV may fill in what is missing, or write about it to stderr: it gets no broken file.
        image.verify()
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except Exception:  # Pillow will say what is wrong.
        return None
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def _may_be_turned(data: bytes) -> bool:
    """Tell whether a PNG has a chunk that may say how it is turned; Pillow would decode it all to know."""
    position = 8
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        length = int.from_bytes(data[position : position + 4], "big")
        if kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(TURNING_TEXTS, position + 8)):
            return True
        position += 12 + length
    return False


def decode_label(data: bytes, where: str) -> npt.NDArray[Any]:
    """Return a label image's raw values, (H, W), upright: grey value, or palette index; 8 or 16 bits.

    Raises:
        InputError: the file is a colour picture rather than a label image.
    """
    return label_values(open_image(data, where), where)


def label_values(image: Image.Image, where: str) -> npt.NDArray[Any]:
    """Return what `decode_label` does, of a decoded image."""
    if image.mode not in ("L", "P", "I", "I;16", "I;16B", "1"):
        raise InputError(
            f"{where}: a label must hold one value per pixel, but this is a {image.mode} picture;"
            " convert the colours to class numbers"
        )
    values: npt.NDArray[Any] = np.array(upright(image))
    if values.dtype == np.int32:
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{where}: label values outside 0 … 65535; save labels as 8- or 16-bit PNG")
        values = values.astype(np.uint16)
    if image.mode == "L" and (step := _grey_step(image)) > 1:
        values //= np.uint8(step)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def _grey_step(image: Image.Image) -> int:
    """Return by what Pillow has multiplied grey values of 2 or 4 bits: 85 or 17; 1 for those of 8."""
    return {"L;2": 85, "L;4": 17}.get(image.info.get(RAW_MODE, "")[:3], 1)


def resize_image(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize an image (H, W, 3) to `size` (width, height), bicubic and antialiased as in the released code.

    Torch has the filter of Pillow's `BICUBIC`, four times as fast; some pixels in a thousand are rounded otherwise.
    """
    if (image.shape[1], image.shape[0]) == size:
        return image
    import torch  # Not above: the configuration imports this module, and torch takes seconds.

    if min(image.strides) < 0:  # Mirrored, which torch cannot view; one pixel wide, numpy takes it for contiguous.
        image = image.copy()
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
