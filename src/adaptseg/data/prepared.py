"""Samples prepared once at their training size: training reads their pixels, nothing is decoded or resized.

One file per sample: sizes and checksum, then the image's bytes and the label's train ids, as they are in memory.
The folder's name is made from all that determines those bytes, so that data of another size or label map, or of
files that have changed since, are never taken for these. `adaptseg prepare` writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaptseg.atomic import write_bytes, write_text
from adaptseg.config import DomainConfig
from adaptseg.data.files import UInt8Array
from adaptseg.data.geometry import SQUEEZE
from adaptseg.data.layouts.paired_files import Files, Layout
from adaptseg.errors import InputError

VERSION = "2"
"""To be raised when the form of the files changes, or what decoding and resizing make of a picture."""
MANIFEST = "manifest.json"
"""Written last: a folder with it is complete."""
_START = struct.Struct("<8sI")
_SIZES = struct.Struct("<4I")
_HEADER_BYTES = _START.size + _SIZES.size


def encode(image: UInt8Array, label: UInt8Array | None) -> bytes:
    """Return the file of a sample: image (H, W, 3), label (H, W) train ids or none."""
    sizes = (*image.shape[:2], *(label.shape if label is not None else (0, 0)))
    content = _SIZES.pack(*sizes) + image.tobytes() + (label.tobytes() if label is not None else b"")
    return _START.pack(b"adaptseg", zlib.crc32(content)) + content


@dataclass(frozen=True)
class Prepared:
    """The prepared samples of a domain in one folder, whose name tells what they were made from."""

    folder: Path
    recipe: dict[str, str]
    """All that determines the bytes: words, or a digest."""
    origin: list[Any]
    """Which samples they are, wherever size and label map come from: layout, root, split, include, labelled."""

    def path(self, index: int) -> Path:
        """Return the file of sample `index`."""
        return self.folder / f"{index:06d}.sample"

    def read(self, index: int) -> tuple[UInt8Array, UInt8Array | None]:
        """Return image (H, W, 3) RGB and label (H, W) train ids, none in a domain without labels.

        Raises:
            InputError: the file is missing or broken.
        """
        try:
            content = np.fromfile(self.path(index), np.uint8)
            magic, checksum = _START.unpack_from(content.data)
            height, width, label_height, label_width = _SIZES.unpack_from(content.data, _START.size)
        except (OSError, struct.error) as error:
            raise self._broken(index, getattr(error, "strerror", None) or "truncated") from error
        end = _HEADER_BYTES + height * width * 3
        if magic != b"adaptseg" or len(content) != end + label_height * label_width:
            raise self._broken(index, "truncated, or another kind of file")
        if zlib.crc32(content.data[_START.size :]) != checksum:
            raise self._broken(index, "wrong checksum")
        label = content[end:].reshape(label_height, label_width) if label_height else None
        return content[_HEADER_BYTES:end].reshape(height, width, 3), label

    def _broken(self, index: int, reason: str) -> InputError:
        return InputError(
            f"{self.path(index)}: broken ({reason}); `adaptseg prepare` of the same experiment makes it anew"
        )

    def write(self, index: int, image: UInt8Array, label: UInt8Array | None) -> None:
        """Write sample `index`, complete or not at all."""
        write_bytes(self.path(index), encode(image, label))

    def finish(self) -> None:
        """Declare the folder complete."""
        manifest = {"recipe": self.recipe, "origin": self.origin}
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")

    def state(self) -> tuple[bool, str]:
        """Return whether the samples can be read, and a line on it; an empty one where nothing was prepared."""
        if _manifest(self.folder) is not None:
            return True, f"prepared images are read from {self.folder}"
        if self.folder.is_dir():
            return False, f"{self.folder} is incomplete and not used; `adaptseg prepare` goes on with it"
        found = [_manifest(path.parent) for path in self.folder.parent.glob(f"*/{MANIFEST}")]
        older = [manifest["recipe"] for manifest in found if manifest and manifest["origin"] == self.origin]
        if not older:
            return False, ""
        differences = min((list(self._differences(recipe)) for recipe in older), key=len)
        return False, (
            f"prepared images in {self.folder.parent} have another {', another '.join(differences)}; they are not used,"
            " `adaptseg prepare` makes new ones"
        )

    def _differences(self, recipe: dict[str, str]) -> Iterator[str]:
        for key, value in self.recipe.items():
            old = recipe.get(key, "none")
            if old != value:
                # Digests tell a reader nothing.
                yield key if len(max(old, value, key=len)) == 64 else f"{key} ({old}, not {value})"


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What a complete folder was made from; none for an incomplete one."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        words = manifest["recipe"].values()
        sound = isinstance(manifest["origin"], list) and all(isinstance(w, str) and w.isprintable() for w in words)
        return manifest if sound else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # JSON may hold anything.
        return None


def find_prepared(config: DomainConfig, layout: Layout, table: UInt8Array) -> tuple[Prepared | None, str]:
    """Return a domain's prepared samples where they are complete, and a line on them, empty where there are none.

    Arguments and errors are those of `prepared_samples`.
    """
    # Most experiments have none: their files are not asked for size and time.
    samples = prepared_samples(config, layout, table) if config.prepared and os.path.isdir(config.prepared) else None
    if samples is None:
        return None, ""
    usable, line = samples.state()
    return samples if usable else None, line


def prepared_samples(config: DomainConfig, layout: Layout, table: UInt8Array) -> Prepared | None:
    """Return where the prepared samples of a domain lie or would lie.

    Args:
        config: the domain; `prepared` is the folder of all domains.
        layout: its files.
        table: train id of every raw label value.

    Returns:
        None where no folder is configured, or the layout renders its images instead of reading them.

    Raises:
        InputError: a file has vanished.
    """
    if config.prepared is None or not isinstance(layout, Files):
        return None
    size = "own size" if config.size is None else f"{config.size[0]}x{config.size[1]}"
    if config.size is not None and config.resize != SQUEEZE:
        size += " and larger"  # One side is free.
    recipe = {
        "version": VERSION,
        "layout": str(config.layout),
        "size": size,
        "label map": hashlib.sha256(table.tobytes()).hexdigest() if config.labelled else "none",
        "reading": hashlib.sha256(repr(reading(config, layout)).encode()).hexdigest(),
        "state of the files": listing_digest(layout),
    }
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    folder = Path(config.prepared, f"{config.layout}-{size.replace(' ', '-')}-{digest[:16]}")
    roots = [os.path.abspath(root) for root in config.roots]
    choice = [config.split, config.include, config.list, config.part]
    return Prepared(folder, recipe, [config.layout, roots, choice, bool(config.labelled)])


def reading(config: DomainConfig, layout: Files) -> list[Any]:
    """Return what says how files become pixels and label values: a map in the order of its entries."""
    label_map = list((config.label_map or {}).items()) if config.labelled else None
    return [label_map, config.label_format, layout.value_range, *layout.reading]


def listing_digest(layout: Files) -> str:
    """Digest of names, sizes and times of the files; in archives, of names, sizes and checksums."""
    listing = hashlib.sha256()
    for tree, files in ((layout.images, layout.image_files), (layout.labels, layout.label_files)):
        for name in files:
            listing.update(f"{name}\0{tree.stamp(name)}\n".encode())
        listing.update(b"\n")
    return listing.hexdigest()
