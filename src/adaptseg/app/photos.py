"""Photos for the page of `adaptseg app`: uploads within bounds and the right way up, and examples."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from adaptseg.data.files import UInt8Array, decode_image, open_image
from adaptseg.data.films import is_video
from adaptseg.data.streets import worlds as streets
from adaptseg.errors import InputError
from adaptseg.predict.inputs import find_files, photographs_of

MAX_SIDE = 20_000
MAX_RATIO = 8
"""Of the longer side to the shorter: networks see all photos at one height."""
SHOWN_SIDE = 1280
"""Larger photos, and what the network makes of them, are shown scaled down to it."""
MAX_EXAMPLES = 12
STREETS = (2, 5, 11, 17, 23, 31)
"""Renderings that are the examples where no folder is given."""
STREET_SIZE = (640, 320)


def shown_size(photo: UInt8Array) -> tuple[int, int]:
    """Return the width and height at which a photo (H, W, 3) and its results are shown."""
    height, width = photo.shape[:2]
    factor = min(1.0, SHOWN_SIDE / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def read_photo(path: Path, value_range: tuple[float, float] | None = None) -> UInt8Array:
    """Return a photo, uint8 (H, W, 3), upright.

    Raises:
        InputError: it is no image that can be read, or too large, or too narrow.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path.name}: no longer kept here; drop it again") from None
    header = open_image(data, path.name, header_only=True)
    _check_sides(path.name, *header.size)
    return decode_image(data, path.name, value_range)


def _check_sides(name: str, width: int, height: int) -> None:
    short, long = sorted((width, height))
    if long > MAX_SIDE:
        raise InputError(f"{name}: {width}x{height} pixels, more than {MAX_SIDE} a side; scale the image down")
    if long > MAX_RATIO * short:
        raise InputError(f"{name}: {width}x{height} pixels, a side over {MAX_RATIO} times the other; cut the image")


def find_examples(folder: str) -> list[Path]:
    """Return up to `MAX_EXAMPLES` images of a folder.

    Raises:
        InputError: there are none.
    """
    images = [path for path, _ in find_files([photographs_of(folder)]) if not is_video(path.name)]
    if not images:
        raise InputError(f"--examples {folder}: no images in it; give a folder with photographs")
    return images[:MAX_EXAMPLES]


def render_examples(folder: Path) -> list[Path]:
    """Write renderings of the embedded streets, as a camera sees them, into a folder and return the files."""
    paths = [folder / f"street {number}.png" for number in range(1, len(STREETS) + 1)]
    for path, index in zip(paths, STREETS, strict=True):
        Image.fromarray(streets.render("camera", "val", index, STREET_SIZE)[0]).save(path)
    return paths
