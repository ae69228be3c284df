"""Shapes whose points lie between pixels: a pixel belongs to the one that its centre is in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from adaptseg.data.layouts.annotation_formats import coco, cvat, yolo
from adaptseg.data.layouts.label_studio import tasks
from adaptseg.data.layouts.shapes import Outline, Shape

Ring = list[tuple[float, float]]


def drawn(ring: Any, size: tuple[int, int] = (40, 60), relative: bool = False) -> npt.NDArray[np.uint8]:
    canvas = np.zeros(size, np.uint8)
    Outline("x", ring, relative).draw(canvas, 1, "x")
    return canvas


def box(left: float, top: float, right: float, bottom: float) -> Ring:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def expected(columns: range, rows: range) -> npt.NDArray[np.uint8]:
    canvas = np.zeros((40, 60), np.uint8)
    canvas[rows.start : rows.stop, columns.start : columns.stop] = 1
    return canvas


RECTANGLE: Ring = box(20, 10, 51, 30)
PERCENT = [(100 * x / 60, 100 * y / 40) for x, y in RECTANGLE]
FORMATS: dict[str, Callable[[], Sequence[Shape]]] = {
    "coco": lambda: coco({
        "images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [np.ravel(RECTANGLE).tolist()]}],
    })["a.png"].shapes,
    "cvat": lambda: cvat(
        b"<annotations><image name='a.png'><polygon label='x' points='20,10;51,10;51,30;20,30'/></image></annotations>",
        "x")["a.png"].shapes,
    "cvat box": lambda: cvat(
        b"<annotations><image name='a.png'><box label='x' xtl='20' ytl='10' xbr='51' ybr='30'/></image></annotations>",
        "x")["a.png"].shapes,
    "label studio": lambda: tasks([{"data": {"image": "a.png"}, "annotations": [{"result": [
        {"type": "polygonlabels", "original_width": 60, "original_height": 40,
         "value": {"points": PERCENT, "polygonlabels": ["x"]}},
    ]}]}])["a.png"][1],
    "yolo": lambda: yolo("0 " + " ".join(str(part / 100) for part in np.ravel(PERCENT)), "x").shapes,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_a_rectangle_has_its_area(form: str) -> None:
    canvas = np.zeros((40, 60), np.uint8)
    for shape in FORMATS[form]():
        shape.draw(canvas, 1, "x")
    assert canvas.sum() == 31 * 20
    np.testing.assert_array_equal(canvas, expected(range(20, 51), range(10, 30)))


@pytest.mark.parametrize(
    ("ring", "columns", "rows"),
    [
        (box(10.5, 5.5, 12.5, 7.5), range(10, 12), range(5, 7)),  # Centres on the left and above belong to it.
        (box(10.51, 5.51, 12.51, 7.51), range(11, 13), range(6, 8)),
        (box(30, 4, 32, 36), range(30, 32), range(4, 36)),
        (box(30.6, 4, 31.4, 36), range(0), range(0)),
        (box(-9, -9, 1e9, 3), range(60), range(3)),
        (box(70, 5, 90, 9), range(0), range(0)),
        (box(5, -90, 9, -5), range(0), range(0)),
        ([(3, 3), (9, 9)], range(0), range(0)),
        ([(3, 3)], range(0), range(0)),
    ],
)
def test_boxes(ring: Ring, columns: range, rows: range) -> None:
    np.testing.assert_array_equal(drawn(ring), expected(columns, rows))
    np.testing.assert_array_equal(drawn(ring[::-1]), drawn(ring))


def test_rings_that_meet_themselves_are_even_odd() -> None:
    bridged = [*box(0, 0, 10, 10), (0, 0), (20, 20), *box(20, 20, 25, 25), (20, 20), (0, 0)]
    np.testing.assert_array_equal(drawn(bridged), drawn(box(0, 0, 10, 10)) + drawn(box(20, 20, 25, 25)))
    hole = [*box(0, 0, 30, 30), (0, 0), *box(10, 10, 20, 20), (10, 10), (0, 0)]
    np.testing.assert_array_equal(drawn(hole), drawn(box(0, 0, 30, 30)) - drawn(box(10, 10, 20, 20)))


@pytest.mark.parametrize("step", [0.5, 0.01])
def test_neighbours_neither_overlap_nor_leave_a_gap(step: float) -> None:
    """Triangles about points, the outer ones on the border; with half-integers many centres lie on edges."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        middle = (rng.uniform(5, 55), rng.uniform(5, 35)) // np.array(step) * step
        sides = [np.unique(rng.uniform(0, length, 5) // step * step) for length in (60, 40, 60, 40)]
        border = [(0, 0), *((x, 0) for x in sides[0]), (60, 0), *((60, y) for y in sides[1])]
        border += [(60, 40), *((x, 40) for x in sides[2][::-1]), (0, 40), *((0, y) for y in sides[3][::-1]), (0, 0)]
        covered = sum(drawn([middle, *edge][:: rng.choice([-1, 1])]).astype(int) for edge in pairwise(border))
        np.testing.assert_array_equal(covered, 1)


def test_centres_that_are_inside_are_drawn() -> None:
    """Compared with the sign of the distance, centre by centre."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        angles = np.sort(rng.random(12)) * 2 * np.pi
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(3, 30, (12, 1)) + (30, 20)
        contour = points.astype(np.float32).reshape(-1, 1, 2)
        inside = [[cv2.pointPolygonTest(contour, (x + 0.5, y + 0.5), False) > 0 for x in range(60)] for y in range(40)]
        np.testing.assert_array_equal(drawn(contour.reshape(-1, 2)), np.array(inside))
