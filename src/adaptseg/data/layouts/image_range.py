"""Images of more than 8 bits: which values of theirs are black and white, the same for all images of a domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from adaptseg.data.files import FolderTree, deep_values
from adaptseg.data.films import FRAME
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError

RANGE_SAMPLE = 16
"""Images that are read for it, evenly spaced."""
OUTSIDE = 0.1
"""Per cent of an image's pixels that may be darker than black, and lighter than white: dead pixels are."""
DEEP_SUFFIXES = frozenset([".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k"])


def measured_range(tree: FolderTree, names: Sequence[str]) -> tuple[tuple[float, float] | None, str]:
    """Return the values that become black and white in images of more than 8 bits, and how many were looked at.

    Broken images are left out: reading them says what is wrong.
    """
    ranges, looked = [], 0
    deep = [name for name in names if PurePosixPath(name.partition(FRAME)[0]).suffix.lower() in DEEP_SUFFIXES]
    for position in evenly(len(deep), RANGE_SAMPLE):
        name, looked = deep[position], looked + 1
        try:
            data = tree.read(name)
            values = None if _is_shallow(data) else deep_values(data, tree.where(name))
        except InputError:
            continue
        if values is not None:
            ranges.append(np.percentile(values, (OUTSIDE, 100 - OUTSIDE)))
    if not ranges:
        return None, ""
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    return (float(low), float(high if high > low else low + 1)), f"{len(ranges)} of {looked} images looked at"


def _is_shallow(data: bytes) -> bool:
    """Tell whether a file is a PNG of at most 8 bits, most often the case, at a glance."""
    return data.startswith(b"\x89PNG") and data[24:25] != b"\x10"
