"""Where the labels of layout `folder` are: pictures, a file of shapes for each image, or one file for all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from adaptseg.config import DomainConfig
from adaptseg.data.files import IMAGE_SUFFIXES, FolderTree
from adaptseg.data.films import FilmTree
from adaptseg.data.layouts.annotated import annotation_file, matched
from adaptseg.data.layouts.annotation_formats import ONE_FILE, SUFFIXES, Panoptic, sniffed
from adaptseg.data.layouts.cvat_masks import FORMAT as MASKS
from adaptseg.data.layouts.cvat_masks import mask_folder
from adaptseg.data.layouts.label_map import Color
from adaptseg.data.layouts.pairing import FIELD, Found, Place, few, find, missing_label, place
from adaptseg.errors import InputError

PICTURES = IMAGE_SUFFIXES | {".npy"}


@dataclass
class Pairs:
    """The samples of a split, of a root, or of all roots."""

    tree: FilmTree
    names: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    label_format: str = "auto"
    known: dict[str, Any] = field(default_factory=dict)
    """Name of the image -> its annotation, where one file has all."""
    within: dict[str, str] = field(default_factory=dict)
    """Name that was preceded by its split -> the one that several splits have."""

    colors: dict[Color, str] = field(default_factory=dict)
    """Class of each colour, where CVAT's labelmap.txt says it."""

    def add_colors(self, colors: Mapping[Color, str]) -> None:
        """Take over the colours of a folder; raises `InputError` where they contradict those of another."""
        for color, name in colors.items():
            if self.colors.setdefault(color, name) != name:
                raise InputError(
                    f"{self.tree.root}: {color} is {name} in one labelmap.txt and {self.colors[color]} in another; read"
                    " them as domains of their own"
                )

    def within_splits(self) -> list[str]:
        """Return what the samples are called in their splits."""
        return [self.within.get(name, name) for name in self.names]

    def keep(self, positions: Sequence[int]) -> None:
        """Leave out all other samples."""
        self.names = [self.names[i] for i in positions]
        self.images = [self.images[i] for i in positions]
        self.labels = [self.labels[i] for i in positions] if self.labels else []


def joined(tree: FilmTree, parts: Sequence[Pairs], names: Sequence[Sequence[str]], of: str) -> Pairs:
    """Return the samples of several splits or roots as those of one.

    Args:
        tree: of the files, that of the parts or one above them.
        parts: the splits or roots.
        names: what their samples are called now.
        of: the parts, for messages.

    Raises:
        InputError: labels are of several formats, or two labelmap.txt contradict each other.
    """
    if len(formats := sorted({part.label_format for part in parts})) > 1:
        raise InputError(f"{of}: labels of several formats ({', '.join(formats)}); export them in one")
    result = Pairs(tree, label_format=formats[0])
    for part, called in zip(parts, names, strict=True):
        base = "" if part.tree is tree else part.tree.root
        result.names += called
        result.images += [os.path.join(base, name) for name in part.images]
        result.labels += [os.path.join(base, name) for name in part.labels]
        result.notes += part.notes
        if part.known:
            result.known |= {name: part.known[old] for old, name in zip(part.names, called, strict=True)}
        result.add_colors(part.colors)
    return result


def resolved(root: Path, text: str | None, split: str, what: str) -> str:
    """Return what `images` or `labels` means, `{split}` filled in, the split's folder added.

    Raises:
        InputError: the folder of that name is not there, or a template has no place for the split.
    """
    if text is None:
        text = what
        if not (root / what).is_dir():
            folders = sorted(path.name for path in root.glob("*") if path.is_dir())
            there = f", but {', '.join(folders[:6])}" if folders else ""
            raise InputError(
                f"{root}: no folder {what}/ in it{there}; put images in images/ and labels in labels/, or say where"
                f" they are with images and labels, such as {what}: {next(iter(folders), 'FOLDER')}"
            )
    if not split or "{split}" in text:
        return text.replace("{split}", split)
    if FIELD in text:
        raise InputError(f"{what} is {text!r}, without {{split}}, but the domain has split {split}; add {{split}}")
    if (root / text).is_file():
        return text
    folder = str(PurePosixPath(text, split)) if text else split
    if not (root / folder).is_dir():
        raise InputError(f"{root / folder}: no such folder; check split {split!r} of the domain")
    return folder


def add_labelled(pairs: Pairs, config: DomainConfig, images: Place, found: Found, split: str) -> set[str]:
    """Add the images that have a label; return the files that are labels.

    Raises:
        InputError: an image has no label and `unlabelled` is not skip, or two labels have one name.
    """
    root = pairs.tree.root
    text = resolved(root, config.labels, split, "labels")
    label_format = config.label_format or "auto"
    if (masks := mask_folder(root, text, label_format)) is not None:
        text, label_format = masks[0], MASKS
        pairs.add_colors(masks[1])
    if (root / text).is_file():
        return _add_annotated(pairs, config, images, found, text, label_format)
    where = place(text, root, "labels")
    suffixes, label_format = _kind(pairs.tree, where, label_format)
    if label_format in ONE_FILE:
        (file,) = (name for name in pairs.tree.names(where.folder) if PurePosixPath(name).suffix.lower() in suffixes)
        return _add_annotated(pairs, config, images, found, file, label_format)
    pairs.label_format = label_format
    labels = find(pairs.tree, where, lambda name: PurePosixPath(name).suffix.lower() in suffixes, "labels")
    by_key = _partners(pairs, labels, name_only=images.depth != where.depth)

    def partner(key: tuple[str, ...]) -> str | None:
        short = key[-1:] if images.depth != where.depth else key
        return by_key.get(short) or _with_suffix(by_key, short)

    _add(pairs, config, images, found, {key: label for key in found.files if (label := partner(key))}, labels, text)
    pairs.notes += _shared_note(pairs, root)
    used = {*pairs.labels, *found.files.values()}
    spare = [name for name in labels.files.values() if name not in used]
    if spare:
        pairs.notes.append(f"{pairs.tree.where(where.folder)}: {len(spare)} labels belong to no image: {few(spare)}")
    return set(labels.files.values())


def _shared_note(pairs: Pairs, root: Path) -> Iterator[str]:
    """Yield a line where several images have one label, as renderings of a scene in rain and sun may have."""
    images: dict[str, list[str]] = {}
    for name, label in zip(pairs.names, pairs.labels, strict=True):
        images.setdefault(label, []).append(name)
    shared = {label: names for label, names in images.items() if len(names) > 1}
    if shared:
        label, names = next(iter(shared.items()))
        yield (
            f"{root}: {len(shared)} labels are of several images each, such as {label} of {few(names)}; where those are"
            " different scenes, give labels as many wildcards as images"
        )


def _partners(pairs: Pairs, labels: Found, name_only: bool) -> dict[tuple[str, ...], str]:
    """Return key -> label; wildcards of folders are part of the key where both templates have as many."""
    by_key: dict[tuple[str, ...], str] = {}
    for key, name in labels.files.items():
        short = key[-1:] if name_only else key
        if short in by_key:
            raise InputError(
                f"{pairs.tree.where(by_key[short])} and {pairs.tree.where(name)}: two labels of one name; give images"
                " and labels as many wildcards"
            )
        by_key[short] = name
    return by_key


def _with_suffix(by_key: Mapping[tuple[str, ...], str], key: tuple[str, ...]) -> str | None:
    """Return the label `scan.tif.json` of an image `scan.tif.png`: elsewhere it would be that of `scan.tif`."""
    path = PurePosixPath(key[-1])
    label = by_key.get((*key[:-1], str(path.with_suffix("")))) if path.suffix.lower() in IMAGE_SUFFIXES else None
    return label if label is not None and PurePosixPath(label).stem == path.name else None


def _add(
    pairs: Pairs,
    config: DomainConfig,
    images: Place,
    found: Found,
    label_of: Mapping[tuple[str, ...], str],
    labels: Found,
    text: str,
) -> None:
    """Add the images of `found` whose key has a label."""
    missing = [key for key in found.files if key not in label_of]
    if missing and (config.unlabelled != "skip" or len(missing) == len(found.files)):
        raise missing_label(pairs.tree, found.files, labels, missing, text)
    if missing:
        names = few([found.files[key] for key in missing])
        place_of = pairs.tree.where(images.folder)
        pairs.notes.append(
            f"{place_of}: {len(missing)} of {len(found.files)} images have no label and are left out: {names}"
        )
    for key, name in found.files.items():
        if key in label_of:
            pairs.names.append("/".join(filter(None, key)))
            pairs.images.append(name)
            pairs.labels.append(label_of[key])


def _add_annotated(
    pairs: Pairs, config: DomainConfig, images: Place, found: Found, file: str, label_format: str
) -> set[str]:
    """Add the images that one file annotates."""
    pairs.label_format, known = annotation_file(pairs.tree, file, label_format)
    keys = {"/".join(filter(None, key)): key for key in found.files}
    annotated = matched(known, list(keys), pairs.tree.where(file))
    pairs.known.update(annotated)
    label_of = {keys[name]: _label_file(pairs.tree, file, drawing) for name, drawing in annotated.items()}
    _add(pairs, config, images, found, label_of, Found(), file)
    if len(known) > len(annotated):
        count = len(known) - len(annotated)
        pairs.notes.append(f"{pairs.tree.where(file)}: {count} of {len(known)} annotated images are not there")
    return {file, *label_of.values()}


def _label_file(tree: FolderTree, file: str, drawing: object) -> str:
    """Return the file that holds a label: a panoptic picture, in the folder of the JSON's name or beside it."""
    if not isinstance(drawing, Panoptic):
        return file
    path = PurePosixPath(file)
    below = path.with_suffix("") / drawing.file
    return str(below if (tree.root / below).is_file() else path.parent / drawing.file)


def _kind(tree: FolderTree, where: Place, label_format: str) -> tuple[frozenset[str], str]:
    """Return the suffixes and the format of the labels at a place: pictures, where there are any."""
    if label_format in SUFFIXES:
        return frozenset({SUFFIXES[label_format]}), label_format
    names = tree.names(where.folder)
    if label_format == "auto" and not any(PurePosixPath(name).suffix.lower() in PICTURES for name in names):
        for suffix in (".json", ".xml", ".txt"):
            files = [name for name in names if PurePosixPath(name).suffix.lower() == suffix]
            if files:
                label_format = sniffed(tree.read(files[0]), tree.where(files[0]))
                return _checked(tree, where, frozenset({suffix}), label_format, files)
    if label_format in ONE_FILE:
        suffix = ".xml" if label_format == "cvat" else ".json"
        files = [name for name in names if PurePosixPath(name).suffix.lower() == suffix]
        return _checked(tree, where, frozenset({suffix}), label_format, files)
    return frozenset(PICTURES), label_format


def _checked(
    tree: FolderTree, where: Place, suffixes: frozenset[str], label_format: str, files: Sequence[str]
) -> tuple[frozenset[str], str]:
    if label_format in ONE_FILE and len(files) != 1:
        raise InputError(
            f"{tree.where(where.folder)}: {len(files)} files for {label_format} ({few(files)}); give labels"
            " the one file"
        )
    return suffixes, label_format
