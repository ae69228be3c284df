"""A domain: samples scaled as configured, labels as train ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from adaptseg.config import DomainConfig
from adaptseg.data.files import UInt8Array, look_up, resize_image, resize_label
from adaptseg.data.geometry import KEEP, seen_size
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.data.layouts.label_map import configured_map
from adaptseg.data.layouts.paired_files import Files, Layout
from adaptseg.data.layouts.registry import open_layout
from adaptseg.data.prepared import find_prepared
from adaptseg.errors import InputError

Frame: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sample:
    """One image with its label."""

    name: str
    image: UInt8Array
    """(H, W, 3) RGB, scaled as the domain says."""
    label: UInt8Array | None
    """(H, W) train ids, 255 ignored; none in a domain without labels."""
    frame: Frame = (0.0, 0.0, 1.0, 1.0)
    """Where a part lies in the whole image: top, left, bottom, right as shares; outside 0 … 1 is padding."""


class Domain:
    """The samples of one domain: `domain[i]`, with labels mapped by class name to `label_space`."""

    def __init__(self, config: DomainConfig, label_space: LabelSpace) -> None:
        """Find the files.

        Raises:
            InputError: files are missing, or no class of the data is in the label space.
        """
        self.config, self.size = config, config.size
        self.resize = config.resize or KEEP
        self.label_space = label_space
        self.labelled = bool(config.labelled)
        self.layout = open_layout(config)
        table = label_space.lookup_table(self.layout.raw_classes)
        self.table, self._is_unknown = table.astype(np.uint8), (table < 0).astype(np.uint8)
        if self.labelled and not set(self.layout.raw_classes.values()) & set(label_space.classes):
            raise InputError(
                f"{config.root}: none of its classes is in label space {label_space.name};"
                f" it has {', '.join(sorted(set(self.layout.raw_classes.values())))}"
            )
        self.prepared, self.preparation = find_prepared(config, self.layout, self.table)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.layout.names)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`, whole, image and label scaled alike (nearest neighbour for labels)."""
        if self.prepared is not None:
            return Sample(self.layout.names[index], *self.prepared.read(index))
        image, label = self.read(index)
        size = self.seen_size(image)
        return Sample(
            self.layout.names[index], resize_image(image, size), None if label is None else resize_label(label, size)
        )

    @property
    def box(self) -> tuple[int, int] | None:
        """Width and height of the part of each sample that training takes; none: whole samples."""
        return self.size if self.resize == KEEP else None

    def seen_size(self, image: UInt8Array) -> tuple[int, int]:
        """Return the width and height to which an image (H, W, 3) is scaled."""
        return seen_size((image.shape[1], image.shape[0]), self.size, self.resize)

    def for_evaluation(self, index: int) -> Sample:
        """Return sample `index` with the image scaled, as `domain[index]` has it, and the label at its own size."""
        if self.prepared is not None:
            label = self._train_ids(self.layout.label(index), index) if self.labelled else None
            return Sample(self.layout.names[index], self.prepared.read(index)[0], label)
        image, label = self.read(index)
        return Sample(self.layout.names[index], resize_image(image, self.seen_size(image)), label)

    def read(self, index: int) -> tuple[UInt8Array, UInt8Array | None]:
        """Return image (H, W, 3) and label (H, W, train ids) at the size that the disk has.

        Raises:
            InputError: a file is broken, sizes differ, or a label value is outside the map.
        """
        image = self.layout.image(index)
        if not self.labelled:
            return image, None
        raw = self.layout.label(index)
        label = fitted(raw, (image.shape[1], image.shape[0]), self.layout, index)
        return image, self._train_ids(label, index)

    def class_values(self) -> dict[str, int | tuple[int, int, int]]:
        """Return what stands for each class to train in label files: the smallest value, or a colour."""
        own = configured_map(self.config) if self.config.layout == "folder" else None
        raws: dict[Any, str] = dict(self.layout.raw_classes) if own is None else {**own.colors, **own.values}
        names: dict[str, int | tuple[int, int, int]] = {}
        for raw in sorted(raws, key=lambda raw: (isinstance(raw, tuple), raw)):
            names.setdefault(raws[raw], raw)
        return {name: names[name] for name in self.label_space.classes if name in names}

    def label(self, index: int) -> UInt8Array:
        """Return the train ids (H, W) of a sample of a labelled domain, at the size that is the quickest to have."""
        prepared = self.prepared.read(index)[1] if self.prepared is not None else None
        return self._train_ids(self.layout.label(index), index) if prepared is None else prepared

    def _train_ids(self, raw: npt.NDArray[Any], index: int) -> UInt8Array:
        unknown = look_up(self._is_unknown, raw)
        if unknown.any():
            value = int(raw[unknown == 1][0])
            known = ", ".join(map(str, sorted(self.layout.raw_classes)))
            raise InputError(
                f"{self.layout.where(index)}: label value {value} is outside the map (known: {known});"
                f" add it to label_map, for example {value}: void"
            )
        return look_up(self.table, raw)


def fitted(label: npt.NDArray[Any], size: tuple[int, int], layout: Layout, index: int) -> npt.NDArray[Any]:
    """Return a label (H, W) at its image's `size` (width, height), nearest neighbour where it has another resolution.

    Args:
        label: sample `index` of the layout has it.
        size: of the upright image.
        layout: for messages.
        index: likewise.

    Raises:
        InputError: its sides have another ratio.
    """
    height, width = label.shape
    if (width, height) == size:
        return label
    if abs(width * size[1] - height * size[0]) > max(*size, width, height):  # More than a pixel that was rounded.
        text = f"{layout.where(index)}: label is {width}x{height}, its image {size[0]}x{size[1]}"
        cure = "; both must have the same size, or at least the same ratio of sides"
        if (height, width) == size and isinstance(layout, Files) and layout.is_sideways(index):
            cure = f" (turned as its EXIF orientation says: turn the label too){cure}"
        elif (height, width) == size:
            cure = ": width and height are swapped; export the label again"
        raise InputError(text + cure)
    return resize_label(label, size)
