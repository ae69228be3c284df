"""Annotations of labelling tools: what shapes of which class an image has, as LabelMe, COCO, YOLO, CVAT, … write it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar
from xml.etree import ElementTree

from adaptseg.data.layouts import label_studio
from adaptseg.data.layouts.shapes import Bitmap, Circle, Outline, Polygon, Runs, Shape
from adaptseg.errors import InputError

MAX_BYTES = 2**30
"""Larger annotation files are refused."""
ONE_FILE = ("coco", "coco_panoptic", "cvat", "labelstudio")
"""Formats that hold all images in one file."""
SUFFIXES = {"labelme": ".json", "cityscapes": ".json", "supervisely": ".json", "yolo": ".txt"}
"""Formats with a file for each image."""
ELLIPSE_CORNERS = 180
"""Of the polygon that stands for an ellipse."""
ROOT_TAG = re.compile(rb"<([A-Za-z_][^\s/>]*)")
Points = Sequence[tuple[float, float]]
Listed = TypeVar("Listed")


@dataclass(frozen=True)
class Drawing:
    """What is drawn on one image."""

    size: tuple[int, int] | None
    """Width and height that the shapes refer to; none: the image's own."""
    shapes: Sequence[Shape]


@dataclass(frozen=True)
class Panoptic:
    """A COCO panoptic picture: which category each segment's colour stands for."""

    file: str
    names: Mapping[int, str]
    """Segment's number (red + 256 green + 65536 blue) -> category's name."""


def parsed(read: Callable[[Any], Any], data: bytes, where: str, what: str) -> Any:
    """Return what `read` makes of a file's JSON; any failure is an `InputError` that names the file."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{where}: {len(data)} bytes, more than {MAX_BYTES}; split the annotations")
    try:
        return read(json.loads(data.decode("utf-8-sig")))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:  # JSON may hold anything anywhere.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{where}: no readable {what} annotations ({reason}); export them again") from error


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    return (int(width), int(height)) if width and height else None


def _refuse_line(kind: str, name: str) -> InputError:
    return InputError(f"a {kind} of class {name!r}, which has no area; draw a polygon, or delete it")


def _rectangle(name: str, corners: Sequence[Any]) -> Polygon:
    """Return a rectangle of two opposite corners, or of all four."""
    if len(corners) > 2:
        return Polygon(name, corners)
    (left, top), (right, bottom) = corners
    return Polygon(name, [(left, top), (right, top), (right, bottom), (left, bottom)])


def _once(files: Sequence[str]) -> None:
    """Raise `InputError` where an image has no name, or is listed twice: one entry's shapes would hide the other's."""
    nameless = [file for file in files if not PurePosixPath(file.replace("\\", "/")).name]
    if nameless:
        raise InputError(f"an image is called {nameless[0]!r}, which is no file name; correct or delete it")
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise InputError(
            f"{len(twice)} images are listed twice, such as {twice[0]}; if they are different images, give their names"
            " the folders, or else one of the entries must go"
        )


def labelme(content: Any) -> Drawing:
    """Read LabelMe's JSON."""
    shapes: list[Shape] = []
    for shape in content["shapes"]:
        name, kind, points = str(shape["label"]), shape.get("shape_type") or "polygon", shape["points"]
        if kind == "polygon":
            shapes.append(Polygon(name, points))
        elif kind == "rectangle":
            shapes.append(_rectangle(name, points))
        elif kind == "circle":
            shapes.append(Circle(name, points))
        elif kind == "mask":
            left, top = points[0]
            shapes.append(Bitmap(name, str(shape["mask"]), (round(left), round(top))))
        else:
            raise _refuse_line(str(kind), name)
    return Drawing(_size(content.get("imageWidth"), content.get("imageHeight")), shapes)


def cityscapes(content: Any) -> Drawing:
    """Read Cityscapes' `…_polygons.json`; `cargroup` is a car."""
    shapes = [
        Polygon(re.sub(r"(?<=.)group$", "", str(item["label"])), item["polygon"])
        for item in content["objects"]
        if not item.get("deleted")
    ]
    return Drawing(_size(content["imgWidth"], content["imgHeight"]), shapes)


def supervisely(content: Any) -> Drawing:
    """Read Supervisely's JSON."""
    shapes: list[Shape] = []
    for item in content["objects"]:
        name, kind = str(item["classTitle"]), item.get("geometryType", "polygon")
        if kind == "polygon":
            shapes.append(Polygon(name, item["points"]["exterior"], item["points"].get("interior") or ()))
        elif kind == "rectangle":
            shapes.append(_rectangle(name, item["points"]["exterior"]))
        elif kind == "bitmap":
            left, top = item["bitmap"]["origin"]
            shapes.append(Bitmap(name, str(item["bitmap"]["data"]), (round(left), round(top))))
        else:
            raise _refuse_line(str(kind), name)
    return Drawing(_size(content["size"]["width"], content["size"]["height"]), shapes)


def yolo(text: str, where: str) -> Drawing:
    """Read Ultralytics' lines: number of the class, then x and y of each point as shares of width and height."""
    shapes = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) == 5:
            raise InputError(f"{where}: line {number} has a box, no polygon; export YOLO segmentation")
        if len(words) < 7 or len(words) % 2 == 0 or not words[0].isdecimal():
            raise InputError(f"{where}: line {number} is no class number with points; export YOLO segmentation")
        shapes.append(Outline(words[0], words[1:], relative=True))
    return Drawing(None, shapes)


def _coco_names(content: Any) -> dict[int, str]:
    return {int(category["id"]): str(category["name"]) for category in content["categories"]}


def _listed(known: Mapping[Any, Listed], number: Any, kind: str, kinds: str) -> Listed:
    """Return an image or a category by its number; raises `InputError` where it is not listed."""
    if number not in known:
        raise InputError(f"annotation of {kind} {number}, which is not in {kinds}; list it, or delete the annotation")
    return known[number]


def coco(content: Any) -> dict[str, Drawing]:
    """Read COCO's instances: file name -> drawing. Crowds are drawn too."""
    names = _coco_names(content)
    shapes: dict[Any, list[Shape]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        drawn = _listed(shapes, annotation["image_id"], "image", "images")
        name = _listed(names, int(annotation["category_id"]), "category", "categories")
        segmentation = annotation.get("segmentation")
        if not segmentation:
            raise InputError(
                f"annotation {annotation.get('id')} of class {name!r} has a box alone; export segmentations"
            )
        if isinstance(segmentation, dict):
            height, width = segmentation["size"]
            drawn.append(Runs(name, segmentation["counts"], (int(height), int(width))))
        else:
            drawn += [Outline(name, ring) for ring in segmentation]
    _once([str(image["file_name"]) for image in content["images"]])
    return {
        str(image["file_name"]): Drawing(_size(image.get("width"), image.get("height")), shapes[image["id"]])
        for image in content["images"]
    }


def coco_panoptic(content: Any) -> dict[str, Panoptic]:
    """Read COCO's panoptic annotations: file name of the image -> its picture of segments."""
    names = _coco_names(content)
    images = {image["id"]: str(image["file_name"]) for image in content["images"]}
    _once(list(images.values()))
    return {
        _listed(images, annotation["image_id"], "image", "images"): Panoptic(
            str(annotation["file_name"]),
            {
                int(segment["id"]): _listed(names, int(segment["category_id"]), "category", "categories")
                for segment in annotation["segments_info"]
            },
        )
        for annotation in content["annotations"]
    }


def cvat(data: bytes, where: str) -> dict[str, Drawing]:
    """Read `CVAT for images` XML: file name -> drawing, by `z_order`.

    Raises:
        InputError: it is no such file.
    """
    _refuse_boxes(data, where)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError(f"{where}: declares XML entities, which CVAT does not; export it again")
    try:
        root = ElementTree.fromstring(data)
        _once([str(image.attrib["name"]) for image in root.iter("image")])
        return {str(image.attrib["name"]): _cvat_image(image) for image in root.iter("image")}
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:  # XML may hold anything anywhere.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{where}: no readable CVAT annotations ({reason}); export them again") from error


def _cvat_image(image: ElementTree.Element) -> Drawing:
    items = sorted(image, key=lambda item: int(item.get("z_order", 0)))
    shapes = [shape for item in items for shape in _cvat_shape(item)]
    return Drawing(_size(image.get("width"), image.get("height")), shapes)


def _cvat_shape(item: ElementTree.Element) -> Iterator[Shape]:
    name, get = item.get("label", ""), item.attrib.__getitem__
    if item.tag == "polygon":
        yield Outline(name, [point.split(",") for point in get("points").split(";")])
    elif item.tag == "box":
        left, top, right, bottom = (float(get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        yield Outline(name, _turned(corners, ((left + right) / 2, (top + bottom) / 2), item))
    elif item.tag == "ellipse":
        x, y, across, down = (float(get(key)) for key in ("cx", "cy", "rx", "ry"))
        angles = [2 * math.pi * number / ELLIPSE_CORNERS for number in range(ELLIPSE_CORNERS)]
        ring = [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]
        yield Outline(name, _turned(ring, (x, y), item))
    elif item.tag == "mask":
        counts = [int(count) for count in get("rle").split(",")]
        corner, width, height = (int(get("left")), int(get("top"))), int(get("width")), int(get("height"))
        counts.append(width * height - sum(counts))  # CVAT may leave out the last run outside.
        yield Runs(name, counts, (height, width), corner, by_columns=False)
    elif item.tag != "tag":  # Which is of the whole image.
        raise _refuse_line(item.tag, name)


def _turned(points: Sequence[tuple[float, float]], centre: tuple[float, float], item: ElementTree.Element) -> Points:
    """Turn points about a centre by a shape's `rotation`, in degrees and clockwise."""
    angle = math.radians(float(item.get("rotation", 0)))
    if not angle:
        return points
    (x, y), cosine, sine = centre, math.cos(angle), math.sin(angle)
    return [(x + (a - x) * cosine - (b - y) * sine, y + (a - x) * sine + (b - y) * cosine) for a, b in points]


def labelstudio(content: Any) -> dict[str, Drawing]:
    """Read Label Studio's tasks: file name -> drawing."""
    return {file: Drawing(*drawn) for file, drawn in label_studio.tasks(content).items()}


def _refuse_boxes(data: bytes, where: str) -> None:
    """Raise `InputError` on XML of one image; that of CVAT has `annotations` as its root."""
    root = ROOT_TAG.search(data)
    if root is not None and root[1] == b"annotation":
        raise InputError(
            f"{where}: XML of one image, as Pascal VOC has for boxes, which have no areas; export masks or polygons"
        )


PER_IMAGE: dict[str, Callable[[Any], Drawing]] = {
    "labelme": labelme,
    "cityscapes": cityscapes,
    "supervisely": supervisely,
}


def sniffed(data: bytes, where: str) -> str:
    """Return the format of an annotation file.

    Raises:
        InputError: it is none that is known.
    """
    suffix = PurePosixPath(where).suffix.lower()
    if suffix == ".txt":
        return "yolo"
    if suffix == ".xml":
        _refuse_boxes(data, where)
        return "cvat"
    found: str | None = parsed(_sniffed_json, data, where, "JSON")
    if found is None:
        raise InputError(
            f"{where}: JSON of no kind that is known as labels; give label_format: labelme, coco, coco_panoptic,"
            " cityscapes, supervisely or labelstudio"
        )
    return found


def _sniffed_json(content: Any) -> str | None:
    if isinstance(content, list):
        return "labelstudio" if any("annotations" in task and "data" in task for task in content) else None
    if "shapes" in content:
        return "labelme"
    if {"images", "annotations", "categories"} <= set(content):
        segmented = any("segments_info" in annotation for annotation in content["annotations"][:1])
        return "coco_panoptic" if segmented else "coco"
    if {"imgWidth", "objects"} <= set(content):
        return "cityscapes"
    return "supervisely" if {"size", "objects"} <= set(content) else None
