"""What a layout is, and the one that most are: image files with label files of matching names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Protocol

import numpy.typing as npt

from adaptseg.config import DomainConfig
from adaptseg.data.files import FileTree, UInt8Array, decode_image, decode_label, is_sideways, open_image
from adaptseg.data.films import FilmTree
from adaptseg.data.layouts.pairing import composed
from adaptseg.errors import InputError


class Layout(Protocol):
    """Samples of a domain as the disk has them: raw sizes, raw label values."""

    @property
    def names(self) -> Sequence[str]:
        """A readable, unique name per sample, without suffix; used for files that are written about it."""

    @property
    def raw_classes(self) -> Mapping[int, str]:
        """Class name of every raw label value that may occur, `void` if ignored. Empty without labels."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user has to know of the files: those that are not read, and how others are; one line each."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Values of images of more than 8 bits that become 0 and 255; none: there are no such images."""

    def image(self, index: int) -> UInt8Array:
        """Return the image, uint8 (H, W, 3) RGB."""

    def label(self, index: int) -> npt.NDArray[Any]:
        """Return the raw label values, (H, W)."""

    def where(self, index: int) -> str:
        """Name the label's place for an error message."""


@dataclass(frozen=True)
class Files:
    """A layout of image files and label files."""

    images: FileTree
    labels: FileTree
    names: Sequence[str]
    image_files: Sequence[str]
    label_files: Sequence[str]
    """Empty for a domain without labels."""
    raw_classes: Mapping[int, str]
    decode: Callable[[bytes, str], npt.NDArray[Any]] = decode_label
    notes: Sequence[str] = ()
    value_range: tuple[float, float] | None = None
    """Values of images of more than 8 bits that become 0 and 255; none: there are no such images."""
    reading: Sequence[Any] = ()
    """What says how labels are read, besides the configuration, `raw_classes` and the files of images and labels."""

    def image(self, index: int) -> UInt8Array:
        """Return the image, uint8 (H, W, 3) RGB, upright; a film's frame likewise."""
        name = self.image_files[index]
        frame = self.images.frame(name) if isinstance(self.images, FilmTree) else None
        return (
            decode_image(self.images.read(name), self.images.where(name), self.value_range) if frame is None else frame
        )

    def mode(self, index: int) -> str:
        """Return Pillow's name for the kind of pixels in an image file."""
        name = self.image_files[index]
        if isinstance(self.images, FilmTree) and self.images.is_frame(name):
            return "RGB"
        return open_image(self.images.read(name), self.images.where(name), header_only=True).mode

    def is_sideways(self, index: int) -> bool:
        """Tell whether the EXIF orientation of an image file swaps its width and height."""
        data, where = self.images.read(self.image_files[index]), self.images.where(self.image_files[index])
        return is_sideways(open_image(data, where, header_only=True), data)

    def label(self, index: int) -> npt.NDArray[Any]:
        """Return the raw label values, (H, W)."""
        return self.decode(self.labels.read(self.label_files[index]), self.where(index))

    def where(self, index: int) -> str:
        """Return the label file's path."""
        return self.labels.where(self.label_files[index])


def configured_root(config: DomainConfig) -> str:
    """Return the domain's root; raises `InputError` where it has none."""
    if not config.root:
        raise InputError(f"root of layout {config.layout} is missing; name the folder of the data")
    if not isinstance(config.root, str):
        raise InputError(f"root of layout {config.layout} is a list; give one folder")
    return config.root


def included(names: Sequence[str], patterns: Sequence[str] | None) -> list[int]:
    """Return the positions of the names that match one of the patterns; of all names without patterns."""
    if patterns is None:
        return list(range(len(names)))
    asked = set(map(composed, patterns))
    wild = {pattern for pattern in asked if any(sign in pattern for sign in "*?[")}
    whole = asked - wild  # May be thousands of names, each of which is looked up at once.
    called = enumerate(map(composed, names))
    return [i for i, name in called if name in whole or any(fnmatch(name, pattern) for pattern in wild)]
