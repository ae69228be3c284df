"""Layout `folder`: anyone's own images and labels."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from adaptseg.config import DomainConfig
from adaptseg.data.files import IMAGE_SUFFIXES, FolderTree, is_image
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID, label_space
from adaptseg.data.layouts.paired_files import Files, configured_root, included
from adaptseg.errors import InputError


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
