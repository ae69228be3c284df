"""Annotation files of labelling tools: one for all images, or one for each, and what their classes are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from adaptseg.config import DomainConfig
from adaptseg.data.discovery.names import Naming
from adaptseg.data.discovery.refusals import UnclearLabels
from adaptseg.data.discovery.words import IMAGE_WORDS, LABEL_WORDS, OTHER_WORDS, SPLITS, words
from adaptseg.data.files import FileTree, is_image
from adaptseg.data.layouts.annotated import annotation_file, path_ends
from adaptseg.data.layouts.annotation_formats import MAX_BYTES, ONE_FILE, sniffed
from adaptseg.data.layouts.folder import folder_layout
from adaptseg.data.layouts.label_map import BACKGROUND
from adaptseg.data.layouts.pairing import few
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError

MOST_FILES = 12
MOST_LABELS = 40


@dataclass(frozen=True)
class OneFile:
    """A file that annotates all images."""

    name: str
    label_format: str
    folder: str
    """Where the images are; empty: the root."""
    matched: int
    """Images that are there."""
    annotated: int
    others: Sequence[str] = ()
    """More such files."""
    rivals: Sequence[str] = ()
    """More folders that the images could be in."""


def one_file(tree: FileTree, names: Sequence[str], chosen: str | None = None) -> OneFile | None:
    """Return the file that annotates the images of a tree; of several, the one for training.

    Args:
        tree: the files.
        names: all of them.
        chosen: the only file to look at.

    Raises:
        InputError: nothing tells in which of several folders its images are.
    """
    images: dict[str, list[str]] = {}
    for name in filter(is_image, names):
        for end in path_ends(name):
            images.setdefault(end, []).append(name)
    files = [chosen] if chosen else _likely(names)
    found = [one for file in files if (one := _read(tree, file, images)) is not None]
    if not found:
        return None
    found.sort(key=lambda one: (not any(split in one.name.lower() for split in SPLITS), -one.matched, one.name))
    best = found[0]
    if best.rivals:
        folders, where = sorted([best.folder, *best.rivals]), tree.where(best.name)
        raise UnclearLabels(
            f"{where}: {few(folders)} all have images that it names",
            f"say which: adaptseg init '{tree.where(folders[0])}' TARGET --labels '{where}'",
        )
    return replace(best, others=tuple(one.name for one in found[1:]))


def _likely(names: Sequence[str]) -> list[str]:
    by_folder: dict[tuple[str, str], list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() in (".json", ".xml"):
            by_folder.setdefault((str(path.parent), path.suffix), []).append(name)
    return [name for inside in by_folder.values() if len(inside) <= MOST_FILES for name in inside]


def _read(tree: FileTree, file: str, images: Mapping[str, Sequence[str]]) -> OneFile | None:
    try:
        if Path(tree.where(file)).stat().st_size > MAX_BYTES:
            return None
        label_format = sniffed(tree.read(file), file)
        if label_format not in ONE_FILE:
            return None
        label_format, known = annotation_file(tree, file, label_format)
    except (InputError, OSError):
        return None
    found = {next((end for end in path_ends(name) if end in images), "") for name in known}
    places = {place for end in found for place in images.get(end, ())}
    if not places:
        return None
    counts = Counter(str(parent) for place in places for parent in PurePosixPath(place).parents)
    likely = [folder for folder, count in counts.items() if 10 * count >= 9 * min(len(places), len(known))]
    folder = max(likely, key=lambda one: (_likeness(one, file), len(one)))
    rivals = [
        one for one in likely
        if _likeness(one, file) == _likeness(folder, file) and not PurePosixPath(folder).is_relative_to(one)
    ]  # fmt: skip
    count = min(counts[folder], len(known))
    return OneFile(file, label_format, "" if folder == "." else folder, count, len(known), rivals=rivals)


def _likeness(folder: str, file: str) -> tuple[int, int]:
    """Return how surely an annotation file is of images in a folder: by words of both, such as val, and of images."""
    seen = set(words(folder))
    return len(seen & set(words(file))), bool(seen & IMAGE_WORDS) - bool(seen & (OTHER_WORDS | LABEL_WORDS.keys()))


def refusal(tree: FileTree, names: Sequence[str], named: bool) -> InputError | None:
    """Return what is wrong with annotation files of which `one_file` finds none, of the first that says it.

    Args:
        tree: the files.
        names: all of them.
        named: whether the user named them, and they must be annotations.
    """
    files = names if named else [*[name for name in names if name.lower().endswith(".xml")][:1], *_likely(names)]
    said = (_refusal(tree, file, named or file.lower().endswith(".xml")) for file in dict.fromkeys(files))
    return next(filter(None, said), None)


def _refusal(tree: FileTree, file: str, annotates: bool) -> InputError | None:
    where = tree.where(file)
    try:
        label_format = sniffed(tree.read(file), where)
    except InputError as error:
        return error if annotates else None  # JSON may be of anything.
    if not annotates and label_format not in ("coco", "labelstudio"):
        return None
    try:
        _, known = annotation_file(tree, file, label_format)
    except InputError as error:
        return error
    if not known and label_format == "cvat":
        return None  # XML may be of anything.
    return InputError(
        f"{where}: annotates {few(list(known)) or 'no images'}, none of which is there; give the folder of these images"
    )


def yolo_names(tree: FileTree, labels: Sequence[str], beside: Sequence[Naming]) -> tuple[list[str], str]:
    """Return the names of YOLO's numbers, and where they are from."""
    numbers = set()
    for place in evenly(len(labels), 400):
        for line in tree.read(labels[place]).decode("utf-8-sig", "replace").splitlines():
            first = line.split()[:1]
            if first and first[0].isdecimal():
                numbers.add(int(first[0]))
    count = max(numbers, default=0) + 1
    for naming in beside:
        known = dict(enumerate(naming.in_order)) if naming.in_order else naming.values
        if all(number in known for number in numbers):
            return [known.get(number, f"class_{number}") for number in range(max(count, len(known)))], naming.source
    return [f"class_{number}" for number in range(count)], "numbers"


def drawn_shares(config: DomainConfig) -> tuple[dict[str, float], dict[str, str], int, int]:
    """Return the share of each class in labels that are drawn, the file with most of it, and labels read and there.

    Raises:
        InputError: the annotations cannot be read.
    """
    layout = folder_layout(config)
    counts: dict[str, int] = {}
    largest: dict[str, tuple[int, str]] = {}
    places = evenly(len(layout.names), MOST_LABELS)
    for place in places:
        values, pixels = np.unique(layout.label(place), return_counts=True)
        for value, count in zip(values.tolist(), pixels.tolist(), strict=True):
            name = layout.raw_classes[value]
            counts[name] = counts.get(name, 0) + count
            largest[name] = max(largest.get(name, (0, "")), (count, layout.names[place]))
    for name in layout.raw_classes.values():
        if name != BACKGROUND:
            counts.setdefault(name, 0)
    total = max(1, sum(counts.values()))
    shares = {name: count / total for name, count in sorted(counts.items(), key=lambda item: -item[1])}
    return shares, {name: file for name, (_, file) in largest.items()}, len(places), len(layout.names)
