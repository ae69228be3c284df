"""Labels that are drawn from annotations: which file an image's shapes are in, and which class each has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from adaptseg.data.files import FileTree, image_size, open_image
from adaptseg.data.layouts import annotation_formats as formats
from adaptseg.data.layouts.annotation_formats import Drawing, Panoptic
from adaptseg.data.layouts.label_map import BACKGROUND, LabelMap
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.layouts.pairing import composed, few
from adaptseg.data.layouts.raw_labels import packed
from adaptseg.data.layouts.shapes import is_unreal
from adaptseg.errors import InputError

Values = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class AnnotatedFiles(Files):
    """Images with annotations. Raw value 0 is what no shape covers."""

    label_format: str
    codes: Mapping[str, int]
    """Raw value of each name in the annotations; of YOLO, of each number as text."""
    default: int | None
    """Raw value of names that are not listed; none: they are errors."""
    label_map: LabelMap
    """The configured one, for messages."""
    known: Mapping[str, Drawing | Panoptic]
    """Of formats with one file for all images: name of the image -> its annotation."""

    def label(self, index: int) -> Values:
        """Return the raw values, (H, W), of the size that the annotations refer to.

        Raises:
            InputError: the annotations are broken, or a class is not in the label map.
        """
        where = self.where(index)
        drawing = self.known[self.names[index]] if self.known else self._drawing(index, where)
        if isinstance(drawing, Panoptic):
            return self._segments(drawing, index, where)
        image = self.image_files[index]
        size = drawing.size or image_size(self.images.read(image), self.images.where(image))
        if is_unreal(size):
            raise InputError(f"{where}: annotations of {size[0]}x{size[1]} pixels; correct width and height")
        canvas = np.zeros((size[1], size[0]), np.uint8 if len(self.raw_classes) < 256 else np.uint16)
        try:
            for shape in drawing.shapes:
                shape.draw(canvas, self._code(shape.name, where), where)
        except InputError:
            raise
        except Exception as error:  # Shapes may hold anything anywhere.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                f"{where}: a shape of class {shape.name!r} cannot be drawn ({reason}); correct or delete it"
            ) from error
        return canvas

    def _drawing(self, index: int, where: str) -> Drawing:
        return read_drawing(self.label_format, self.labels.read(self.label_files[index]), where)

    def _code(self, name: str, where: str) -> int:
        code = self.codes.get(name, self.default)
        if code is None:
            raise self.label_map.unlisted(name, where)
        return code

    def _segments(self, panoptic: Panoptic, index: int, where: str) -> Values:
        picture = open_image(self.labels.read(self.label_files[index]), where)
        if picture.mode not in ("RGB", "RGBA"):
            raise InputError(f"{where}: a {picture.mode} picture; panoptic segments are RGB PNG files")
        numbers, places = np.unique(packed(np.array(picture)[:, :, :3]), return_inverse=True)
        codes = np.zeros(len(numbers), np.uint16)
        for place, number in enumerate(numbers.tolist()):
            if number in panoptic.names:
                codes[place] = self._code(panoptic.names[number], where)
            elif number:
                raise InputError(f"{where}: segment {number} is not in the annotations; export them again")
        return codes[places.reshape(picture.height, picture.width)]


def read_drawing(label_format: str, data: bytes, where: str) -> Drawing:
    """Return the shapes of a file of one image; raises `InputError` where it is broken."""
    if label_format != "yolo":
        drawing: Drawing = formats.parsed(formats.PER_IMAGE[label_format], data, where, label_format)
        return drawing
    try:
        return formats.yolo(data.decode("utf-8-sig"), where)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: no text ({error.reason}); export YOLO segmentation") from error


def read_all_of(label_format: str, data: bytes, where: str) -> Mapping[str, Drawing | Panoptic]:
    """Return the annotations of all images in one file, by the image's file name; raises as `read_drawing` does."""
    if label_format == "cvat":
        return formats.cvat(data, where)
    read = {"coco_panoptic": formats.coco_panoptic, "labelstudio": formats.labelstudio}.get(label_format, formats.coco)
    what = "Label Studio" if label_format == "labelstudio" else "COCO"
    found: Mapping[str, Drawing | Panoptic] = formats.parsed(read, data, where, what)
    return found


def path_ends(file: str) -> list[str]:
    """Return a file's name without its suffix: with all folders before it, with all but the first, …, with none."""
    parts = PurePosixPath(composed(file).replace("\\", "/")).with_suffix("").parts
    return ["/".join(parts[start:]) for start in range(len(parts))]


def matched(known: Mapping[str, Any], names: Sequence[str], where: str) -> dict[str, Any]:
    """Return the annotation of each image that has one: by folders and name, or by the end of them that is unique.

    What ends as one image's whole name, in folders, is no other image's.

    Raises:
        InputError: several annotations could be an image's, or one could be several images'.
    """
    by_end: dict[str, list[str]] = {}
    for file in known:
        for end in path_ends(file):
            by_end.setdefault(end, []).append(file)
    longest_first = sorted(names, key=lambda name: -name.count("/"))
    image_of: dict[str, str] = {}
    for name in longest_first:
        if "/" in name and len(files := by_end.get(name, [])) == 1:
            image_of.setdefault(files[0], name)
    file_of = {name: file for file, name in image_of.items()}
    by_end = {end: [file for file in files if file not in image_of] for end, files in by_end.items()}
    for name in longest_first:
        parts = name.split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        files = next(filter(None, (by_end.get(end) for end in ends)), [])
        if name in file_of or not files:
            continue
        if len(files) > 1:
            raise InputError(f"{where}: {few(files)} could all be image {name}; give images the folder that they name")
        if (other := image_of.setdefault(files[0], name)) != name:
            raise InputError(
                f"{where}: {files[0]} could be image {other} or {name}; give it the folder of the one that it is"
            )
        file_of[name] = files[0]
    return {name: known[file_of[name]] for name in names if name in file_of}


def class_codes(
    label_map: LabelMap | None, names: Sequence[str], numbered: bool, where: str
) -> tuple[dict[str, int], dict[int, str], int | None]:
    """Return the raw value of each annotated name, the class of each raw value, and the raw value of all others.

    Raw value 0 is the class of what no shape covers.

    Args:
        label_map: the configured one; none: classes are called as in the annotations.
        names: all names in the annotations, where they are known beforehand.
        numbered: whether annotations name classes by numbers.
        where: the annotations, for messages.

    Raises:
        InputError: numbers without a map.
    """
    if label_map is None and numbered:
        raise InputError(f"{where}: YOLO numbers its classes; give classes, the names in order of data.yaml")
    classes = {name: name for name in names} if label_map is None else label_map.by_name(numbered)
    default = None if label_map is None else label_map.default
    others = [] if default is None else [default]
    order = dict.fromkeys([classes.get(BACKGROUND, BACKGROUND), *classes.values(), *others])
    value_of = {known: value for value, known in enumerate(order)}
    codes = {name: value_of[known] for name, known in classes.items()}
    return codes, dict(enumerate(order)), None if default is None else value_of[default]


def used_names(known: Mapping[str, Drawing | Panoptic]) -> list[str]:
    """Return the names of classes in annotations, in order of their first use."""
    names: dict[str, None] = {}
    for drawing in known.values():
        found = drawing.names.values() if isinstance(drawing, Panoptic) else (shape.name for shape in drawing.shapes)
        names.update(dict.fromkeys(found))
    return list(names)


def annotation_file(tree: FileTree, name: str, label_format: str) -> tuple[str, Mapping[str, Drawing | Panoptic]]:
    """Return the format and the content of a file that annotates all images; raises as `read_drawing` does."""
    data, where = tree.read(name), tree.where(name)
    if label_format == "auto":
        label_format = formats.sniffed(data, where)
    if label_format not in formats.ONE_FILE:
        raise InputError(f"{where}: {label_format} has a file for each image; give labels their folder")
    return label_format, read_all_of(label_format, data, where)
