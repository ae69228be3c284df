"""A labelled folder: which images and labels it has, how labels are read, and what their classes are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from adaptseg.config import DomainConfig
from adaptseg.data.discovery.annotations import OneFile, drawn_shares, one_file, yolo_names
from adaptseg.data.discovery.families import DRAWINGS, families
from adaptseg.data.discovery.label_samples import Key, LabelSample, look, read_labels
from adaptseg.data.discovery.names import CLASS_FILES, Naming, namings
from adaptseg.data.discovery.naming import Named, dropped, name_labels
from adaptseg.data.discovery.pairing import Candidate, candidates, narrowed, refuse_twins
from adaptseg.data.discovery.refusals import UnclearLabels
from adaptseg.data.discovery.words import OTHER_SPLITS, SPLITS
from adaptseg.data.files import FolderTree, is_image
from adaptseg.data.label_spaces import VOID
from adaptseg.data.layouts.annotation_formats import sniffed
from adaptseg.data.layouts.pairing import few
from adaptseg.errors import InputError

MOST_READINGS = 3
"""Ways to pair whose labels are read to choose among them."""
LOOKED_AT = 100_000
"""Bytes by which a list of names is recognised."""


@dataclass
class ClassFound:
    """A class of a domain: one row of the page."""

    name: str
    raw: Key | str
    """Value, colour, or name in annotations."""
    share: float
    file: str
    """Label file where it has most pixels."""


@dataclass
class Labelled:
    """What a labelled folder has."""

    root: Path
    keys: dict[str, Any]
    """Of `DomainConfig`, without layout, root and size."""
    images: list[str]
    classes: list[ClassFound]
    """What occurs, the most frequent first."""
    read: int
    """Labels from which that is known."""
    count: int
    named_by: str
    unnamed: list[str] = field(default_factory=list)
    untrained: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    """What one should know, such as what was left out."""
    choice: str = ""
    """Which labels these are, where there are others."""

    def trained(self) -> list[str]:
        """Return the names that occur and are no background or void, in order of their values."""
        rows = sorted(self.classes, key=_order)
        return list(dict.fromkeys(row.name for row in rows if row.share and row.name not in {VOID, *self.untrained}))


def _order(row: ClassFound) -> tuple[int, float]:
    return (row.raw, 0.0) if isinstance(row.raw, int) else (1 << 17, -row.share)


def find_labelled(source: Path, labels: Path | None = None) -> Labelled | None:
    """Return what a labelled folder has; none where no labels are found.

    Args:
        source: the folder.
        labels: where its labels are, if elsewhere: a folder, a template such as `renders/mask_{name}.png`, or an
            annotation file.

    Raises:
        InputError: a folder is missing, or two readings are as good and disagree.
    """
    template = None
    if labels is not None and "{name}" in str(labels):
        template = labels.absolute()
        labels = next(folder for folder in template.parents if not {"{name}", "**"} & set(_braced(folder)))
    root = source if labels is None else Path(os.path.commonpath([source.absolute(), labels.absolute()]))
    if root == Path(root.anchor) and labels is not None:
        raise InputError(f"{source} and {labels}: have no folder above both; put them below one folder")
    tree = FolderTree(root)
    names, image_names, label_names = _names(tree, source, labels)
    if labels is not None and labels.is_file():
        one = one_file(tree, [*image_names, *label_names], label_names[0])
        return None if one is None else _annotated(tree, one)
    seen = lru_cache(maxsize=None)(lambda name: look(tree, name))
    found = candidates(families(names), seen)
    if labels is not None:
        inside, others = set(label_names), set(image_names)
        found = [
            one for one in found
            if one.labels.files[one.sample()] in inside and one.images.files[one.sample()] in others
            and template in (None, root.absolute() / one.labels.text)
        ]  # fmt: skip
    if template is not None:  # Other labels beside them are no images.
        found.sort(key=lambda one: one.images.rank(one.labels) > 0)
    found = [narrowed(one) for one in found]
    pictures = [one for one in found if one.labels.extension.lower() not in DRAWINGS]
    if not pictures or pictures[0].rank < 1:
        one = one_file(tree, names)
        if one is not None and one.label_format != "coco_panoptic":
            return _annotated(tree, one)
    beside = _beside(tree, names, source, labels)
    if pictures:
        return _chosen(tree, pictures, beside)
    if not found:
        return None
    refuse_twins(tree, found[0])
    return _drawn(tree, found[0], beside)


def _braced(folder: Path) -> list[str]:
    """Return the parts of a path, those with `{name}` in them as that alone."""
    return ["{name}" if "{name}" in part else part for part in folder.parts]


def _names(tree: FolderTree, source: Path, labels: Path | None) -> tuple[list[str], list[str], list[str]]:
    """Return all files that count, those of the images' folder and those of the labels'."""
    if labels is None:
        names = tree.names("")
        return names, names, names
    images = tree.names(os.path.relpath(source.absolute(), tree.root.absolute()).replace(os.sep, "/").removeprefix("."))
    place = os.path.relpath(labels.absolute(), tree.root.absolute()).replace(os.sep, "/").removeprefix(".")
    inside = [place] if labels.is_file() else tree.names(place)
    return list(dict.fromkeys([*images, *inside])), images, inside


def _beside(tree: FolderTree, names: Sequence[str], source: Path, labels: Path | None) -> list[Naming]:
    """Return the names of classes in files among the labels, or directly beside the folders."""
    found = namings(tree, names)
    for folder in {source.absolute().parent, *([labels.absolute().parent] if labels else [])}:
        if folder.absolute() != tree.root.absolute():
            above = FolderTree(folder)
            files = [path.name for path in sorted(folder.iterdir()) if path.is_file() and CLASS_FILES.search(path.name)]
            found += namings(above, files[:20])
    return found


def _chosen(tree: FolderTree, found: Sequence[Candidate], beside: Sequence[Naming]) -> Labelled:
    """Return the reading whose labels have most names, of those that the files' names make likely."""
    best = found[0]
    taken = {*best.labels.files.values()}
    rivals = [best] + [one for one in found[1:] if one.labels.files[one.sample()] not in taken]
    rivals = [one for one in rivals if 2 * len(one.keys) >= len(best.keys)][:MOST_READINGS]
    readings: list[tuple[float, int, Candidate, LabelSample, Named]] = []
    failure: InputError | None = None
    for one in rivals:
        if readings and readings[0][0] > 0.95 and one.rank < best.rank:
            break  # A surer name, and all classes are known.
        try:
            sample = read_labels(tree, [one.labels.files[key] for key in sorted(one.keys)])
            named = name_labels(sample, beside, one.labels.text, tree.where("/".join(one.labels.folder)))
        except InputError as error:
            failure = failure or error
            continue
        readings.append((round(named.known_share(sample), 2), one.rank, one, sample, named))
    if not readings:
        raise failure or InputError(f"{tree.root}: no labels; give --labels PATH")
    readings.sort(key=lambda item: (-(item[0] > 0.9), -item[1], -item[0]))
    refuse_twins(tree, readings[0][2])
    result = _pictured(tree, readings[0][2], readings[0][3], readings[0][4])
    _refuse_rivals(tree, readings)
    more = [one.labels.text for one in rivals if one is not readings[0][2] and one.labels.text != best.labels.text]
    more += [best.labels.text] if readings[0][2] is not best else []
    if more:
        result.choice = f"labels are {readings[0][2].labels.text}; there are {few(list(dict.fromkeys(more)))} too"
    return result


def _refuse_rivals(tree: FolderTree, readings: Sequence[tuple[float, int, Candidate, LabelSample, Named]]) -> None:
    """Refuse two label folders that nothing tells apart, and that say different things."""
    if len(readings) < 2 or readings[0][:2] != readings[1][:2]:
        return
    (_, _, one, first, named), (_, _, other, second, known) = readings[:2]
    if one.labels.files.keys() & other.labels.files.keys() != one.labels.files.keys():
        return
    shares = [
        sorted(
            Counter(
                {
                    name: round(1000 * sum(s.share(k) for k in s.found if n.names[k] == name))
                    for name in n.names.values()
                }
            ).values()
        )
        for s, n in ((first, named), (second, known))
    ]
    if [share for share in shares[0] if share] != [share for share in shares[1] if share]:
        raise UnclearLabels(
            f"{tree.root}: {one.labels.text} and {other.labels.text} could both be the labels, and they differ",
            f"say which with --labels '{tree.root / one.labels.text}'",
        )


def _pictured(tree: FolderTree, pair: Candidate, sample: LabelSample, named: Named) -> Labelled:
    keys = _places(pair)
    if sample.channel != "auto":
        keys["label_format"] = sample.channel
    elif sample.by_color:
        keys["label_format"] = "colors"
    keys["label_map"] = dict(named.names)
    classes = [
        ClassFound(named.names[key], key, sample.share(key), found.largest) for key, found in sample.found.items()
    ]
    untrained = {name for name in named.names.values() if named.table and not named.table.is_trained(name)}
    untrained |= dropped(row.name for row in classes if row.share and row.name not in untrained)
    unnamed = [named.names[key] for key in named.unnamed]
    result = Labelled(
        tree.root, keys, _files(pair, "images"), classes, sample.read, sample.count, named.source, unnamed, untrained,
        [*named.notes, *_left_out(tree, pair)],
    )  # fmt: skip
    _add_list(tree, result, pair)
    return result


def _places(pair: Candidate) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    images, labels = pair.images.text, pair.labels.text
    if (images, labels) != ("images", "labels"):
        keys |= {"images": images, "labels": labels}
    if len(pair.images.files) > len(pair.keys):
        keys["unlabelled"] = "skip"
    return keys


def _files(pair: Candidate, kind: str) -> list[str]:
    family = pair.images if kind == "images" else pair.labels
    return [family.files[key] for key in sorted(pair.keys)]


def _left_out(tree: FolderTree, pair: Candidate) -> list[str]:
    notes = []
    inside = {*pair.labels.files.values()}
    spare = sorted(name for key, name in pair.images.files.items() if key not in pair.keys and name not in inside)
    if spare:
        notes.append(f"{len(spare)} images without a label are left out: {few(spare)}")
    lonely = sorted(name for key, name in pair.labels.files.items() if key not in pair.images.files)
    if lonely:
        notes.append(f"{len(lonely)} labels without an image are left out: {few(lonely)}")
    if pair.splits:
        part = next((part for part in pair.images.folder if part.lower() in SPLITS), "train")
        notes.append(f"only {part} is read, not {', '.join(pair.splits)}")
    return notes


def _add_list(tree: FolderTree, result: Labelled, pair: Candidate) -> None:
    """Take a list of names for training, such as VOC's ImageSets/Segmentation/train.txt, where there is one."""
    stems = {PurePosixPath(key).name for key in pair.keys}
    for name in tree.names(""):
        path = PurePosixPath(name)
        if path.suffix.lower() != ".txt" or path.stem.lower() not in SPLITS:
            continue
        data = tree.read(name)
        first = data[:LOOKED_AT].decode("utf-8-sig", "replace").split()[:20]
        if first and all(PurePosixPath(line).stem in stems or line in stems for line in first):
            lines = data.decode("utf-8-sig", "replace").split()
            wanted = {PurePosixPath(line).stem if line not in stems else line for line in lines}
            result.keys["list"] = name
            result.images = [
                i for i, k in zip(result.images, sorted(pair.keys), strict=True) if PurePosixPath(k).name in wanted
            ]
            parts = [other for other in OTHER_SPLITS if (tree.root / path.parent / f"{other}.txt").is_file()]
            result.notes.append(f"only the names in {name} are read" + (f", not {', '.join(parts)}" if parts else ""))
            return


def _annotated(tree: FolderTree, one: OneFile) -> Labelled:
    """Return images that one file annotates."""
    keys: dict[str, Any] = {"images": one.folder or ".", "labels": one.name, "label_format": one.label_format}
    inside = [name for name in tree.names(one.folder) if is_image(name)]
    if len(inside) > one.matched:
        keys["unlabelled"] = "skip"
    lost = one.annotated - one.matched
    found = _from_drawings(tree, keys, inside, one.name, [f"{lost} annotated images are not there"] if lost else [])
    if one.others:
        found.choice = f"labels are {one.name}; there are {few(one.others)} too"
    numbers = [row.name for row in found.classes if row.name.isdecimal()]
    if numbers:  # As BlenderProc writes them.
        found.notes.append(f"classes have numbers for names there: call them by label_map, as {{{numbers[0]}: road}}")
    return found


def _drawn(tree: FolderTree, pair: Candidate, beside: Sequence[Naming]) -> Labelled:
    """Return images with an annotation file each."""
    labels = _files(pair, "labels")
    label_format = sniffed(tree.read(labels[0]), labels[0])
    keys = {**_places(pair), "label_format": label_format}
    named_by = pair.labels.text
    unnamed: list[str] = []
    if label_format == "yolo":
        names, named_by = yolo_names(tree, labels, beside)
        keys["classes"] = names
        unnamed = names if named_by == "numbers" else []
    result = _from_drawings(tree, keys, _files(pair, "images"), named_by, _left_out(tree, pair))
    result.unnamed = unnamed
    return result


def _from_drawings(
    tree: FolderTree, keys: dict[str, Any], images: list[str], named_by: str, notes: list[str]
) -> Labelled:
    config = DomainConfig(layout="folder", root=str(tree.root), labelled=True, **keys)
    shares, largest, read, count = drawn_shares(config)
    classes = [ClassFound(name, name, share, largest.get(name, "")) for name, share in shares.items()]
    untrained = dropped(name for name in shares if shares[name])
    return Labelled(tree.root, keys, images, classes, read, count, named_by, [], untrained, notes)


def as_named(labelled: Labelled, others: Mapping[str, str]) -> Labelled:
    """Return the same with classes called as `others` says."""
    keys = dict(labelled.keys)
    if "label_map" in keys:
        keys["label_map"] = {raw: others.get(name, name) for raw, name in keys["label_map"].items()}
    elif "classes" in keys:
        keys["classes"] = [others.get(name, name) for name in keys["classes"]]
    elif others:
        keys["label_map"] = {row.name: others.get(row.name, row.name) for row in labelled.classes}
    classes = [replace(row, name=others.get(row.name, row.name)) for row in labelled.classes]
    return replace(labelled, keys=keys, classes=classes)
