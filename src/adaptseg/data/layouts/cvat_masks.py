"""CVAT's Segmentation mask 1.1: `labelmap.txt` with a colour for each class, pictures in `SegmentationClass/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from adaptseg.data.layouts.label_map import Color, LabelMap
from adaptseg.errors import InputError

FORMAT = "cvat_mask"
LABEL_MAP, PICTURES = "labelmap.txt", "SegmentationClass"
LINE = re.compile(r"(.+):\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*:[^:]*:[^:]*")
MAX_BYTES = 2**20


def mask_folder(root: Path, labels: str, label_format: str) -> tuple[str, dict[Color, str]] | None:
    """Return the folder of the pictures and the classes of the colours; none where labels are of another format.

    Args:
        root: of the domain.
        labels: what was unpacked, or `SegmentationClass` in it.
        label_format: of the configuration.

    Raises:
        InputError: the format is asked for, but is not there, or `labelmap.txt` is broken.
    """
    if label_format not in ("auto", FORMAT):
        return None
    path = Path(labels)
    unpacked = path.parent if label_format == FORMAT and path.name == PICTURES else path
    if (root / unpacked / LABEL_MAP).is_file() and (root / unpacked / PICTURES).is_dir():
        return str(unpacked / PICTURES), read_label_map(root / unpacked / LABEL_MAP)
    if label_format == FORMAT:
        raise InputError(
            f"{root / unpacked}: no {LABEL_MAP} and {PICTURES}/ in it; unpack CVAT's Segmentation mask 1.1 there"
        )
    return None


def read_label_map(path: Path) -> dict[Color, str]:
    """Return the class of each colour; raises `InputError` where the file is broken or a colour stands twice."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); unpack CVAT's export again") from error
    found: dict[Color, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        color = tuple(map(int, match.groups()[1:])) if match else (256,)
        if match is None or max(color) > 255:
            raise InputError(f"{path}: {line[:60]!r} is no class and colour; lines are such as road:128,64,128::")
        if found.setdefault((color[0], color[1], color[2]), match[1]) != match[1]:
            raise InputError(f"{path}: {match[1]} has the colour of another class; give each class its own")
    if not found:
        raise InputError(f"{path}: no classes; unpack CVAT's export again")
    return found


def colors_map(colors: Mapping[Color, str], configured: LabelMap | None) -> LabelMap:
    """Return the label map of the pictures: classes as annotated, or what a configured map makes of their names.

    Raises:
        InputError: a class is not in the configured map.
    """
    if configured is None:
        return LabelMap(colors=dict(colors))
    known, mapped = configured.by_name(), LabelMap()
    for color, name in colors.items():
        found = known.get(name, configured.default)
        if found is None:
            raise configured.unlisted(name, LABEL_MAP)
        mapped.colors[color] = found
    return mapped
