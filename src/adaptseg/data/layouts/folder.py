"""Layout `folder`: anyone's own images and labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from adaptseg.config import DomainConfig
from adaptseg.data.files import HEIF_SUFFIXES, IMAGE_SUFFIXES, FolderTree, is_image
from adaptseg.data.films import FRAME, FilmTree, is_video
from adaptseg.data.layouts.annotated import AnnotatedFiles, class_codes, read_drawing, used_names
from adaptseg.data.layouts.annotation_formats import ONE_FILE, SUFFIXES
from adaptseg.data.layouts.cvat_masks import FORMAT as MASKS
from adaptseg.data.layouts.cvat_masks import colors_map
from adaptseg.data.layouts.image_range import measured_range
from adaptseg.data.layouts.label_files import Pairs, add_labelled, joined, resolved
from adaptseg.data.layouts.label_map import LabelMap, configured_map
from adaptseg.data.layouts.paired_files import Files, included
from adaptseg.data.layouts.pairing import (
    Place,
    composed,
    few,
    find,
    of_one_name,
    place,
    suspects_note,
    unread_note,
)
from adaptseg.data.layouts.raw_labels import SAMPLE, PictureLabels, evenly
from adaptseg.errors import InputError

LOSSY_SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".avif", ".heic", ".heif"])
EVERY = 10
"""Of a film, every 10th frame: three a second."""
COMMENT = re.compile(r"(?:^|\s)#")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


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
    pairs = found[0] if len(found) == 1 else _of_roots(found)
    _refuse_repeated(pairs)
    _choose(pairs, config)
    _refuse_heif(pairs)
    if not config.labelled:
        return _files(config, pairs, {})
    _refuse_lossy(pairs)
    label_map = configured_map(config)
    if pairs.label_format in (*ONE_FILE, *SUFFIXES):
        return _annotated(config, pairs, label_map)
    label_format = config.label_format or "auto"
    reading: Sequence[Any] = ()
    if pairs.label_format == MASKS:
        label_map, label_format = colors_map(pairs.colors, label_map), "colors"
        reading = tuple(label_map.colors.items())  # labelmap.txt may change, and no picture with it.
    if label_map is None:
        raise InputError(f"{config.root}: a labelled folder needs classes (names in order) or label_map (value: name)")
    some = [pairs.labels[i] for i in evenly(len(pairs.labels), SAMPLE)]
    labels = PictureLabels(label_map, label_format, partial(_read_some, pairs.tree, some))
    try:
        raw_classes = labels.raw_classes()
    except InputError as error:
        raise InputError(f"{config.root}: {error}") from error
    return _files(config, pairs, raw_classes, decode=labels, reading=reading)


def _annotated(config: DomainConfig, pairs: Pairs, label_map: LabelMap | None) -> Files:
    """Return the layout of samples whose labels are drawn."""
    numbered, where = pairs.label_format == "yolo", pairs.tree.where(pairs.labels[0])
    names: list[str] = []
    if label_map is None and not numbered:
        drawn = pairs.known or {
            name: read_drawing(pairs.label_format, pairs.tree.read(name), pairs.tree.where(name))
            for name in pairs.labels
        }
        names = used_names(drawn)
    codes, raw_classes, default = class_codes(label_map, names, numbered, where)
    settings = {"label_format": pairs.label_format, "codes": codes, "default": default, "known": pairs.known}
    # Once those of the last split were taken for all of that name, and prepared.
    reading = ("names by split",) if pairs.known and pairs.within else ()
    return _files(
        config, pairs, raw_classes, AnnotatedFiles, **settings, reading=reading, label_map=label_map or LabelMap()
    )


def _files(
    config: DomainConfig, pairs: Pairs, raw_classes: Mapping[int, str], kind: type[Files] = Files, **settings: Any
) -> Files:
    """Return the layout of these samples; the range of images of more than 8 bits is measured."""
    measured, looked = measured_range(pairs.tree, pairs.images)
    value_range = config.value_range or measured
    if measured is not None:
        low, high = config.value_range or measured
        whose = "key value_range" if config.value_range else "their own range"
        pairs.notes.append(
            f"{pairs.tree.root}: {looked} have more than 8 bits; values {low:g} … {high:g} become 0 … 255 ({whose})"
        )
    return kind(
        pairs.tree,
        pairs.tree,
        pairs.names,
        pairs.images,
        pairs.labels,
        raw_classes,
        notes=pairs.notes,
        value_range=value_range,
        **settings,
    )


def _read_some(tree: FolderTree, names: Sequence[str]) -> Iterator[tuple[bytes, str]]:
    for name in names:
        yield tree.read(name), tree.where(name)


def _pairs(config: DomainConfig, root: Path) -> Pairs:
    """Return the samples of one root, in order of splits and names."""
    if root.suffix.lower() in ARCHIVE_SUFFIXES and root.is_file():
        raise InputError(f"{root}: an archive, which layout folder does not read; unpack it, and give the folder")
    if is_video(root.name) and root.is_file():
        return _pairs(replace(config, images=root.name), root.parent)
    tree, splits = FilmTree(root), config.split or [""]
    parts = [Pairs(tree) for _ in splits]
    for split, pairs in zip(splits, parts, strict=True):
        plain = not config.labelled and not (root / "images").is_dir()  # Photographs need no folder of their own.
        text = resolved(root, "" if config.images is None and plain else config.images, split, "images")
        images = place(text, root, "images")
        wanted = is_image if config.labelled else _is_picture_or_film
        found = find(tree, images, wanted, "images")
        unread, taken = list(found.unread), set(found.files.values())
        if config.labelled and found.files:
            taken |= add_labelled(pairs, config, images, found, split)
        else:
            for key, name in found.files.items():
                _add_unlabelled(pairs, "/".join(filter(None, key)), name, config.every or EVERY)
            pairs.notes += suspects_note(tree, images.folder, list(found.files.values()))
        if not (root / text).is_file():  # Who names one film does not mean what lies beside it.
            pairs.notes += unread_note(tree, images.folder, [name for name in unread if name not in taken])
    if not any(pairs.images for pairs in parts):
        raise _no_images(config, root, unread, images)
    return parts[0] if len(parts) == 1 else _of_splits(splits, parts)


def _is_picture_or_film(name: str) -> bool:
    return is_image(name) or is_video(name)


def _add_unlabelled(pairs: Pairs, name: str, file: str, every: int) -> None:
    """Add an image, or every n-th frame of a film."""
    frames = pairs.tree.frames(file, every) if is_video(file) else [file]
    pairs.images += frames
    pairs.names += [f"{name}/{frame.rpartition(FRAME)[2]}" for frame in frames] if is_video(file) else [name]
    if is_video(file):
        pairs.notes.append(f"{pairs.tree.where(file)}: {len(frames)} frames are read, one in {every}")


def _no_images(config: DomainConfig, root: Path, unread: Sequence[str], images: Place) -> InputError:
    seen = f"; it has {len(unread)} other files: {few(unread)}" if unread else ""
    keys = [f"{key} {value}" for key, value in (("images", config.images), ("split", config.split)) if value]
    asked = f" match {', '.join(keys)}" if keys else ""
    return InputError(
        f"{root / images.folder}: no images{asked}{seen}; put files with one of {', '.join(sorted(IMAGE_SUFFIXES))}"
        " there"
    )


def _of_splits(splits: Sequence[str], parts: Sequence[Pairs]) -> Pairs:
    """Return the samples of several splits as those of one; a name that several have is preceded by its split."""
    tree = parts[0].tree
    if len(set(splits)) < len(splits):
        raise InputError(f"{tree.root}: split {', '.join(splits)} has one twice; name each once")
    drawn = Counter(label for part in parts if part.known for label in zip(part.labels, part.names, strict=True))
    if shared := [label for label, times in drawn.items() if times > 1]:
        raise InputError(
            f"{tree.where(shared[0][0])}: {few([name for _, name in shared])} could be an image of several splits"
            f" ({', '.join(splits)}); give labels a file for each split, such as 'annotations/{{split}}.json'"
        )
    count = Counter(name for part in parts for name in part.names)
    names = [
        [f"{split}/{name}" if count[name] > 1 else name for name in part.names]
        for split, part in zip(splits, parts, strict=True)
    ]
    pairs = joined(tree, parts, names, f"{tree.root}, split {', '.join(splits)}")
    own = [name for part in parts for name in part.names]
    pairs.within = {name: old for name, old in zip(pairs.names, own, strict=True) if name != old}
    return pairs


def _of_roots(found: Sequence[Pairs]) -> Pairs:
    """Return the samples of several roots as those of one, names preceded by their root's."""
    folders = [pairs.tree.root.name for pairs in found]
    prefixes = [folder if folders.count(folder) == 1 else f"{folder}-{number}" for number, folder in enumerate(folders)]
    names = [[f"{prefix}/{name}" for name in pairs.names] for prefix, pairs in zip(prefixes, found, strict=True)]
    pairs = joined(FilmTree(Path()), found, names, ", ".join(str(pairs.tree.root) for pairs in found))
    for prefix, part in zip(prefixes, found, strict=True):
        pairs.within |= {f"{prefix}/{name}": f"{prefix}/{own}" for name, own in part.within.items()}
    return pairs


def _refuse_repeated(pairs: Pairs) -> None:
    first: dict[str, int] = {}
    twice = [
        (pairs.images[first[name]], pairs.images[position])
        for position, name in enumerate(pairs.names)
        if first.setdefault(name, position) != position
    ]
    if twice:
        raise of_one_name(pairs.tree, twice, "images", "rename or move one of them, or name what to read with images")


def _choose(pairs: Pairs, config: DomainConfig) -> None:
    """Keep what `include`, `list` and `part` say."""
    kept = sorted({*included(pairs.names, config.include), *included(pairs.within_splits(), config.include)})
    if not kept:
        raise InputError(
            f"{config.root}: no images match split {config.split} and include {config.include}; their names are like"
            f" {pairs.names[0]}"
        )
    pairs.keep(kept)
    if config.list is not None:
        pairs.keep(_in_list(pairs.names, Path(config.roots[0], config.list)))
    if config.part is not None:
        order = sorted(range(len(pairs.names)), key=pairs.within_splits().__getitem__)
        first, last = (round(share * len(order)) for share in config.part)
        if first == last:
            raise InputError(f"{config.root}: part {list(config.part)} of {len(order)} images has none; widen it")
        pairs.keep(order[first:last])


def _in_list(names: Sequence[str], path: Path) -> list[int]:
    """Return the positions of the names in a list, in order of the names.

    A line's first word is a name, with or without suffix and folders before it. What follows `#` is a comment where
    that stands at the start or after white space.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as text ({error}); give list a file with one name per line"
        ) from error
    known: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        parts = composed(name).split("/")
        for start in range(len(parts)):
            known.setdefault("/".join(parts[start:]), []).append(position)
    kept, unknown = set(), []
    for line in filter(None, (COMMENT.split(line)[0].strip() for line in lines)):
        found = next(filter(None, (known.get(text) for text in _readings(composed(line)))), None)
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
    """Yield what a line may call an image: it may have a suffix, a second column, and folders of its own.

    A name may have spaces; but what is left of a line without those in it may be of the second column.
    """
    whole = list(_path_readings(line))
    yield from (text for text in whole if " " in text or "\t" in text)
    yield from _path_readings(line.split()[0])
    yield from whole


def _path_readings(text: str) -> Iterator[str]:
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
