"""Predictions for CVAT: Segmentation mask 1.1, exact, and the labels of a task."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import numpy.typing as npt
from PIL import Image

from adaptseg.atomic import write_text, written_whole
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import VOID, LabelSpace
from adaptseg.data.layouts.cvat_masks import LABEL_MAP, PICTURES
from adaptseg.data.layouts.label_map import BACKGROUND
from adaptseg.errors import InputError
from adaptseg.labelling.annotations import ToLabel

OBJECTS, NAMES = "SegmentationObject", "ImageSets/Segmentation/default.txt"


def refuse_names(space: LabelSpace) -> None:
    """Raise `InputError` where a class cannot stand in a line of labelmap.txt."""
    for name in space.classes:
        if ":" in name or name.startswith("#") or name != name.strip() or not name.isprintable():
            raise InputError(f"--format cvat: {name!r} cannot be a class in {LABEL_MAP}; take coco, or rename it")


def write(to_label: ToLabel) -> str:
    """Write `cvat.zip`, which a task of the images takes as Segmentation mask 1.1, and `cvat-labels.json`."""
    colors = to_label.colors()
    table = np.zeros((256, 3), np.uint8)
    for number, name in enumerate(to_label.space.classes):
        table[number] = colors[name]
    if to_label.has_background:
        table[255] = colors[VOID]
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in colors.items()]
    names = []
    with written_whole(to_label.folder / "cvat.zip") as path, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(LABEL_MAP, "\n".join([*lines, ""]))
        for image, label in to_label.labels():
            name = to_label.name(image)
            names.append(f'"{name}"' if " " in name else name)
            file.writestr(f"{PICTURES}/{name}.png", _png(table[label]))
            file.writestr(f"{OBJECTS}/{name}.png", _png(_objects(to_label, label)))
        file.writestr(NAMES, "\n".join([*names, ""]))
    own = [
        {"name": name, "color": "#" + bytes(color).hex(), "attributes": []}
        for name, color in colors.items()
        if name != BACKGROUND
    ]
    write_text(to_label.folder / "cvat-labels.json", json.dumps(own, ensure_ascii=False, indent=1) + "\n")
    return (
        "cvat: labels of the task in cvat-labels.json (Raw), predictions in cvat.zip (Segmentation mask 1.1); unpack"
        " the corrected export as cvat/, and add `labels: cvat`"
    )


def _objects(to_label: ToLabel, label: UInt8Array) -> UInt8Array:
    """Return the picture of instances: one of each class, so that each is one mask to correct."""
    palette, objects = instance_colors(), np.zeros((*label.shape, 3), np.uint8)
    for number, (name, mask) in enumerate(to_label.masks(label), start=1):
        if name != BACKGROUND:
            objects[mask] = palette[number % 256]
    return objects


def instance_colors() -> npt.NDArray[np.uint8]:
    """Return the colours of Pascal VOC's instances, (256, 3): the number's bits, three by three, highest first."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def _png(pixels: UInt8Array) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()
