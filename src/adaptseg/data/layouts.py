"""Layouts: how a data set lies on disk. Each gives names, images, labels and class names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt

from adaptseg.config import DomainConfig
from adaptseg.data import streets
from adaptseg.data.files import IMAGE_SUFFIXES, FolderTree, UInt8Array, is_image
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID, label_space
from adaptseg.data.paired_files import Files, Layout, configured_root, included
from adaptseg.data.published import published_layout
from adaptseg.errors import InputError


class Streets:
    """The embedded renderings: `root` names the style, `game` or `camera`. Nothing is read from disk."""

    def __init__(self, config: DomainConfig) -> None:
        """Take style, split, count and size from the configuration."""
        style = config.root or ""
        if style not in streets.STYLES:
            raise InputError(f"root {style!r} of layout streets is unknown; choose {' or '.join(streets.STYLES)}")
        self.style = style
        self.split = (config.split or ["train"])[0]
        self.size = config.size or (256, 128)
        self.names = [f"{style}-{self.split}-{index:05d}" for index in range(config.count or 400)]
        self.raw_classes = dict(enumerate(streets.STREETS_CLASSES))
        self._kept: dict[int, tuple[UInt8Array, UInt8Array]] = {}

    def _rendered(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        # Rendering takes longer than a training step's share of the loader: each image is made once and kept.
        if index not in self._kept:
            self._kept[index] = streets.render(self.style, self.split, index, self.size)
        return self._kept[index]

    def image(self, index: int) -> UInt8Array:
        """Return the rendered image, uint8 (H, W, 3) RGB."""
        return self._rendered(index)[0]

    def label(self, index: int) -> npt.NDArray[Any]:
        """Return the rendered label, (H, W), index into `STREETS_CLASSES`."""
        return self._rendered(index)[1]

    def where(self, index: int) -> str:
        """Return the sample's name."""
        return self.names[index]


def folder_layout(config: DomainConfig) -> Files:
    """Read `ROOT/images[/SPLIT]` and, for labelled domains, `ROOT/labels[/SPLIT]`.

    Label and image share their name up to the suffix. An unlabelled domain may also be a plain folder of
    images without `images/`.

    Raises:
        InputError: a folder is missing or empty, or an image has no label.
    """
    tree = FolderTree(Path(configured_root(config)))
    image_folder = "images" if (tree.root / "images").is_dir() else ""
    if config.labelled and not image_folder:
        raise InputError(f"{tree.root}: no folder images/ in it; put images in images/ and labels in labels/")
    image_files, names = [], []
    for split in config.split or [""]:
        folder = str(PurePosixPath(image_folder, split)) if image_folder or split else ""
        if not (tree.root / folder).is_dir():
            raise InputError(f"{tree.root / folder}: no such folder; check split {split!r} of the domain")
        found = [name for name in tree.names(folder) if is_image(name)]
        image_files += found
        names += [_stem(name, folder) for name in found]
    kept = included(names, config.include)
    if not kept:
        raise InputError(
            f"{tree.root / image_folder}: no images match split {config.split} and include {config.include};"
            f" put files with one of {', '.join(sorted(IMAGE_SUFFIXES))} there"
        )
    image_files = [image_files[i] for i in kept]
    label_files: list[str] = []
    if config.labelled:
        by_stem = {_stem(name, "labels"): name for name in tree.names("labels")}
        for image_file in image_files:
            stem = _stem(image_file, "images")
            if stem not in by_stem:
                raise InputError(
                    f"{tree.root / image_file}: no label labels/{stem}.* beside it; add it, or remove the image"
                )
            label_files.append(by_stem[stem])
    raw_classes = _folder_classes(config) if config.labelled else {}
    return Files(tree, tree, [names[i] for i in kept], image_files, label_files, raw_classes)


def _stem(name: str, folder: str) -> str:
    """`images/train/a/b.png` in `images/train` -> `a/b`."""
    path = PurePosixPath(name)
    return str((path.relative_to(folder) if folder else path).with_suffix(""))


def _folder_classes(config: DomainConfig) -> dict[int, str]:
    """Raw value -> class name of a `folder` domain; 255 is void unless the map says otherwise."""
    if config.label_map is not None:
        raw_classes = dict(config.label_map)
    elif config.classes is not None:
        raw_classes = dict(enumerate(label_space(config.classes).classes))
    else:
        raise InputError(f"{config.root}: a labelled folder needs classes (names in order) or label_map (value: name)")
    return {IGNORE_INDEX: VOID, **raw_classes}


LAYOUTS: dict[str, Callable[[DomainConfig], Layout]] = {
    "streets": Streets,
    "folder": folder_layout,
    "gta5": published_layout,
    "synthia": published_layout,
    "synscapes": published_layout,
    "cityscapes": published_layout,
    "foggy_cityscapes": published_layout,
    "cross_city": published_layout,
    "bdd100k": published_layout,
    "acdc": published_layout,
    "dark_zurich": published_layout,
    "mapillary": published_layout,
    "camvid": published_layout,
}


def open_layout(config: DomainConfig) -> Layout:
    """Return the samples of a domain as they lie on disk.

    Raises:
        InputError: the layout is unknown, or its files are not there.
    """
    if config.layout not in LAYOUTS:
        raise InputError(f"layout {config.layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[config.layout](config)
