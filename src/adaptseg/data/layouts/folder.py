"""Layout `folder`: anyone's own images and labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from adaptseg.config import DomainConfig
from adaptseg.data.files import HEIF_SUFFIXES, IMAGE_SUFFIXES, FolderTree, is_image
from adaptseg.data.layouts.label_map import LabelMap, configured_map
from adaptseg.data.layouts.paired_files import Files, included
from adaptseg.data.layouts.pairing import (
    Found,
    Place,
    few,
    find,
    missing_label,
    place,
    suspects_note,
    unread_note,
)
from adaptseg.data.layouts.raw_labels import SAMPLE, PictureLabels, evenly
from adaptseg.errors import InputError

LOSSY_SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".avif", ".heic", ".heif"])
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


@dataclass
class Pairs:
    """The samples of one root."""

    tree: FolderTree
    names: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def keep(self, positions: Sequence[int]) -> None:
        """Leave out all other samples."""
        self.names = [self.names[i] for i in positions]
        self.images = [self.images[i] for i in positions]
        self.labels = [self.labels[i] for i in positions] if self.labels else []


def folder_layout(config: DomainConfig) -> Files:
    """Read images and, for labelled domains, labels from where the configuration says.

    Without keys that say otherwise: `ROOT/images[/SPLIT]` and `ROOT/labels[/SPLIT]`, label and image sharing their
    name up to the suffix. An unlabelled domain may also be a plain folder of images without `images/`.

    Raises:
        InputError: a folder is missing or empty, an image has no label, or two files have one name.
    """
    if not config.roots:
        raise InputError(f"root of layout {config.layout} is missing; name the folder of the data")
    found = [_pairs(config, Path(root)) for root in config.roots]
    pairs = found[0] if len(found) == 1 else _joined(found)
    _choose(pairs, config)
    _refuse_heif(pairs)
    if not config.labelled:
        return Files(pairs.tree, pairs.tree, pairs.names, pairs.images, [], {}, notes=pairs.notes)
    label_map = configured_map(config)
    if label_map is None:
        raise InputError(f"{config.root}: a labelled folder needs classes (names in order) or label_map (value: name)")
    _refuse_lossy(pairs)
    labels = _reader(config, label_map, pairs)
    try:
        raw_classes = labels.raw_classes()
    except InputError as error:
        raise InputError(f"{config.root}: {error}") from error
    return Files(
        pairs.tree, pairs.tree, pairs.names, pairs.images, pairs.labels, raw_classes, labels, notes=pairs.notes
    )


def _reader(config: DomainConfig, label_map: LabelMap, pairs: Pairs) -> PictureLabels:
    names = [pairs.labels[i] for i in evenly(len(pairs.labels), SAMPLE)]
    return PictureLabels(label_map, config.label_format or "auto", partial(_read_some, pairs.tree, names))


def _read_some(tree: FolderTree, names: Sequence[str]) -> Iterator[tuple[bytes, str]]:
    for name in names:
        yield tree.read(name), tree.where(name)


def _pairs(config: DomainConfig, root: Path) -> Pairs:
    """Return the samples of one root, in order of splits and names."""
    if root.suffix.lower() in ARCHIVE_SUFFIXES and root.is_file():
        raise InputError(f"{root}: an archive, which layout folder does not read; unpack it, and give the folder")
    pairs = Pairs(FolderTree(root))
    for split in config.split or [""]:
        images = _place(root, config.images, split, "images", bool(config.labelled))
        found = find(pairs.tree, images, is_image, "images")
        unread, taken = list(found.unread), set(found.files.values())
        if config.labelled:
            labels = _place(root, config.labels, split, "labels", True)
            taken |= _add_labelled(pairs, config, images, labels, found)
        else:
            pairs.images += found.files.values()
            pairs.names += ["/".join(filter(None, key)) for key in found.files]
            pairs.notes += suspects_note(pairs.tree, images.folder, list(found.files.values()))
        pairs.notes += unread_note(pairs.tree, images.folder, [name for name in unread if name not in taken])
    if not pairs.images:
        raise _no_images(config, root, unread, images)
    return pairs


def _place(root: Path, text: str | None, split: str, what: str, labelled: bool) -> Place:
    if text is None:
        text = what if what == "labels" or (root / "images").is_dir() else ""
        if labelled and not (root / what).is_dir():
            folders = sorted(path.name for path in root.glob("*") if path.is_dir())
            there = f", but {', '.join(folders[:6])}" if folders else ""
            raise InputError(
                f"{root}: no folder {what}/ in it{there}; put images in images/ and labels in labels/, or say where"
                f" they are with images and labels, such as {what}: {next(iter(folders), 'FOLDER')}"
            )
    if split and "{split}" in text:
        text = text.replace("{split}", split)
    elif split:
        if "{" in text:
            raise InputError(f"{what} is {text!r}, without {{split}}, but the domain has split {split}; add {{split}}")
        text = str(PurePosixPath(text, split)) if text else split
        if not (root / text).is_dir():
            raise InputError(f"{root / text}: no such folder; check split {split!r} of the domain")
    return place(text, root, what)


def _add_labelled(pairs: Pairs, config: DomainConfig, images: Place, labels: Place, found: Found) -> set[str]:
    """Add the images that have a label; return the files that are labels."""
    label_files = find(pairs.tree, labels, _is_label, "labels")
    by_name = images.depth != labels.depth  # Wildcards of folders pair where both templates have as many.

    def partner(key: tuple[str, ...]) -> tuple[str, ...]:
        return key[-1:] if by_name else key

    by_key: dict[tuple[str, ...], str] = {}
    for key, name in label_files.files.items():
        if partner(key) in by_key:
            raise InputError(
                f"{pairs.tree.where(by_key[partner(key)])} and {pairs.tree.where(name)}: two labels of one name; give"
                " images and labels as many wildcards"
            )
        by_key[partner(key)] = name
    missing = [key for key in found.files if partner(key) not in by_key]
    if missing and (config.unlabelled != "skip" or len(missing) == len(found.files)):
        raise missing_label(pairs.tree, found.files, label_files, missing, labels.text)
    if missing:
        names = [found.files[key] for key in missing]
        pairs.notes.append(
            f"{pairs.tree.where(images.folder)}: {len(missing)} of {len(found.files)} images have no label and are left"
            f" out: {few(names)}"
        )
    left = set(missing)
    for key, name in found.files.items():
        if key not in left:
            pairs.names.append("/".join(filter(None, key)))
            pairs.images.append(name)
            pairs.labels.append(by_key[partner(key)])
    used = set(pairs.labels) | set(found.files.values())
    spare = [name for name in label_files.files.values() if name not in used]
    if spare:
        text = f"{pairs.tree.where(labels.folder)}: {len(spare)} labels belong to no image: {few(spare)}"
        pairs.notes.append(text)
    return set(label_files.files.values())


def _is_label(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES | {".npy"}


def _no_images(config: DomainConfig, root: Path, unread: Sequence[str], images: Place) -> InputError:
    seen = f"; it has {len(unread)} other files: {few(unread)}" if unread else ""
    return InputError(
        f"{root / images.folder}: no images match images {config.images}, split {config.split}{seen}; put files with"
        f" one of {', '.join(sorted(IMAGE_SUFFIXES))} there"
    )


def _joined(found: Sequence[Pairs]) -> Pairs:
    """Return the samples of several roots as those of one, names preceded by their root's."""
    joined = Pairs(FolderTree(Path()))
    folders = [pairs.tree.root.name for pairs in found]
    for number, pairs in enumerate(found):
        prefix = folders[number] if folders.count(folders[number]) == 1 else f"{folders[number]}-{number}"
        joined.names += [f"{prefix}/{name}" for name in pairs.names]
        joined.images += [os.path.join(pairs.tree.root, name) for name in pairs.images]
        joined.labels += [os.path.join(pairs.tree.root, name) for name in pairs.labels]
        joined.notes += pairs.notes
    return joined


def _choose(pairs: Pairs, config: DomainConfig) -> None:
    """Keep what `include`, `list` and `part` say."""
    kept = included(pairs.names, config.include)
    if not kept:
        raise InputError(
            f"{config.root}: no images match split {config.split} and include {config.include}; their names are like"
            f" {pairs.names[0]}"
        )
    pairs.keep(kept)
    if config.list is not None:
        pairs.keep(_in_list(pairs.names, Path(config.roots[0], config.list)))
    if config.part is not None:
        order = sorted(range(len(pairs.names)), key=pairs.names.__getitem__)
        first, last = (round(share * len(order)) for share in config.part)
        if first == last:
            raise InputError(f"{config.root}: part {list(config.part)} of {len(order)} images has none; widen it")
        pairs.keep(order[first:last])


def _in_list(names: Sequence[str], path: Path) -> list[int]:
    """Return the positions of the names in a list, in order of the names.

    A line's first word is a name, with or without suffix and folders before it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as text ({error}); give list a file with one name per line"
        ) from error
    known: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        parts = name.split("/")
        for start in range(len(parts)):
            known.setdefault("/".join(parts[start:]), []).append(position)
    kept, unknown = set(), []
    for line in filter(None, (line.split("#")[0].strip() for line in lines)):
        found = next(filter(None, (known.get(text) for text in _readings(line))), None)
        if found is None:
            unknown.append(line)
        elif len(found) > 1:
            raise InputError(
                f"{path}: {line!r} is {len(found)} images: {few([names[i] for i in found])}; write folders"
            )
        else:
            kept.add(found[0])
    if unknown or not kept:
        text = f"{len(unknown)} names are none of the images: {few(unknown)}" if unknown else "no names"
        raise InputError(f"{path}: {text}; images are called like {names[0]}")
    return sorted(kept)


def _readings(line: str) -> Iterator[str]:
    """Yield what a line may call an image: it may have a suffix, a second column, and folders of its own."""
    for text in (line, *line.split()[:1]):
        parts = PurePosixPath(text.replace("\\", "/")).parts
        for start in range(len(parts)):
            below = "/".join(parts[start:])
            yield below
            if PurePosixPath(below).suffix.lower() in IMAGE_SUFFIXES:
                yield str(PurePosixPath(below).with_suffix(""))


def _refuse_heif(pairs: Pairs) -> None:
    heif = [name for name in pairs.images if PurePosixPath(name).suffix.lower() in HEIF_SUFFIXES]
    if heif and find_spec("pillow_heif") is None:
        raise InputError(
            f"{pairs.tree.root}: {len(heif)} of {len(pairs.images)} images are HEIC: {few(heif)}; pip install"
            " 'adaptseg[heic]' to read them, or convert them to JPEG"
        )


def _refuse_lossy(pairs: Pairs) -> None:
    lossy = [name for name in pairs.labels if PurePosixPath(name).suffix.lower() in LOSSY_SUFFIXES]
    if lossy:
        raise InputError(
            f"{pairs.tree.where(lossy[0])}: {len(lossy)} of {len(pairs.labels)} labels are"
            f" {PurePosixPath(lossy[0]).suffix} files, which change pixels: their classes are wrong at every border;"
            " write labels as PNG from where they were made"
        )
