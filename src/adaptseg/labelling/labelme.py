"""Predictions for LabelMe: polygons with as few points as serve, so not exact; how far off is measured."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from adaptseg.atomic import write_text
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID
from adaptseg.data.layouts.annotation_formats import labelme
from adaptseg.data.layouts.label_map import BACKGROUND
from adaptseg.labelling.annotations import ToLabel

TOLERANCE = 1.0
"""Pixels by which a polygon may miss the border that it stands for."""
SMALLEST = 12
"""Pixels of a region that gets a polygon."""


def write(to_label: ToLabel) -> str:
    """Write `labelme/NAME.json` for each image, and say how many pixels the polygons change."""
    wrong = pixels = 0
    for image, label in to_label.labels():
        name = to_label.name(image)
        up = "../" * (name.count("/") + 1)
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": polygons(to_label, label),
            "imagePath": f"{up}{image}",
            "imageData": None,
            "imageHeight": label.shape[0],
            "imageWidth": label.shape[1],
        }
        write_text(to_label.folder / "labelme" / f"{name}.json", json.dumps(content, ensure_ascii=False) + "\n")
        wrong, pixels = wrong + int((drawn(to_label, content) != label).sum()), pixels + label.size
    return (
        f"labelme: polygons in labelme/, in which {100 * wrong / pixels:.2f} % of the pixels have another class than in"
        " labels/; correct them there, and add `labels: labelme`"
    )


def polygons(to_label: ToLabel, label: UInt8Array) -> list[dict[str, Any]]:
    """Return a polygon for each region of a label (H, W), large ones first: those in their holes lie on them."""
    regions: list[tuple[int, str, list[list[float]]]] = []
    for value in np.unique(label).tolist():
        name = VOID if value == IGNORE_INDEX else to_label.space.classes[value]
        # Regions of 4 neighbours: of any two, one lies in a hole of the other or outside of it.
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats((label == value).astype(np.uint8), connectivity=4)
        for number in range(1, count):
            left, top, width, height, area = boxes[number].tolist()
            if area >= SMALLEST:
                part = numbers[top : top + height, left : left + width] == number
                regions.append(_outline(part, left, top, name))
    regions.sort(key=lambda region: -region[0])
    return [
        {"label": name, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}}
        for _, name, points in regions
    ]


def _outline(part: npt.NDArray[np.bool_], left: int, top: int, name: str) -> tuple[int, str, list[list[float]]]:
    """Return the pixels within a region's outline, holes filled; its name; and the points of its polygon."""
    (contour,), _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.fillPoly(np.zeros(part.shape, np.uint8), [contour], 1)
    points = cv2.approxPolyDP(contour, TOLERANCE, True)
    if len(points) < 3:  # A line of one pixel: there and back.
        points = np.concatenate([points, points[::-1]])[:4]
    return int(filled.sum()), name, [[float(x + left), float(y + top)] for x, y in points[:, 0].tolist()]


def drawn(to_label: ToLabel, content: dict[str, Any]) -> UInt8Array:
    """Return the train ids (H, W) that LabelMe's polygons are read as."""
    numbers = {name: number for number, name in enumerate(to_label.space.classes)} | {VOID: IGNORE_INDEX}
    canvas = np.full((content["imageHeight"], content["imageWidth"]), numbers.get(BACKGROUND, IGNORE_INDEX), np.uint8)
    for shape in labelme(content).shapes:
        shape.draw(canvas, numbers[shape.name], "labelme")
    return canvas
