"""Annotations as tools write them: COCO, CVAT, LabelMe, YOLO and others, one small folder each."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.layouts.annotated import matched
from adaptseg.data.layouts.registry import open_layout
from adaptseg.data.layouts.shapes import Runs
from adaptseg.errors import InputError
from tests.data.test_own_data_forms import HEIGHT, VALUES, WIDTH, folder, layout

COCO_IMAGES = [
    {"id": 7, "file_name": "somewhere/a.png", "width": WIDTH, "height": HEIGHT},
    {"id": 9, "file_name": "b.png"},
]
SQUARE = np.zeros((HEIGHT, WIDTH), np.uint8)
SQUARE[2:6, 3:9] = 1
ROAD_THEN_CAR = np.zeros((HEIGHT, WIDTH), np.uint8)
ROAD_THEN_CAR[6:] = 1
ROAD_THEN_CAR[8:11, 2:6] = 2
ROAD, CAR = [(0, 6), (15, 6), (15, 11), (0, 11)], [(2, 8), (5, 8), (5, 10), (2, 10)]
"""As pixels."""
ROAD_BORDER, CAR_BORDER = [(0, 6), (16, 6), (16, 12), (0, 12)], [(2, 8), (6, 8), (6, 11), (2, 11)]
"""As COCO, CVAT and YOLO have them."""


def flat(points: list[tuple[int, int]]) -> list[int]:
    return [part for point in points for part in point]


def coco(annotations: list[dict[str, Any]]) -> str:
    categories = [{"id": 4, "name": "road"}, {"id": 5, "name": "car"}]
    return json.dumps({"images": COCO_IMAGES, "categories": categories, "annotations": annotations})


def compressed(mask: np.ndarray[Any, Any]) -> str:
    """COCO's text, written independently of the reader: runs down the columns, then base 32 with signs."""
    column = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column, [1 - column[-1]]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    text = ""
    for position, count in enumerate(counts):
        value = count - counts[position - 2] if position > 2 else count
        while True:
            digit = value & 31
            value >>= 5
            done = value == (-1 if digit & 16 else 0)
            text += chr(48 + digit + (0 if done else 32))
            if done:
                break
    return text


def bitmap(packed: bool) -> str:
    data = cv2.imencode(".png", np.full((3, 4), 255, np.uint8))[1].tobytes()
    return base64.b64encode(zlib.compress(data) if packed else data).decode()


def cvat_rows(mask: np.ndarray[Any, Any]) -> str:
    """Runs along the rows, outside first, the last outside left out."""
    runs, current, length = [], 0, 0
    for value in mask.ravel().tolist():
        if value != current:
            runs.append(length)
            current, length = value, 0
        length += 1
    return ", ".join(map(str, [*runs, length] if current else runs))


def _labelme(shapes: list[dict[str, Any]]) -> str:
    return json.dumps({"shapes": shapes, "imageWidth": WIDTH, "imageHeight": HEIGHT})


PER_IMAGE = {
    "labelme": _labelme([{"label": "road", "points": ROAD}, {"label": "car", "points": CAR, "shape_type": "polygon"}]),
    "labelme rectangle and mask": _labelme([
        {"label": "road", "points": [ROAD[0], ROAD[2]], "shape_type": "rectangle"},
        {"label": "car", "points": [CAR[0], CAR[2]], "shape_type": "mask", "mask": bitmap(False)},
    ]),
    "cityscapes": json.dumps({"imgWidth": WIDTH, "imgHeight": HEIGHT, "objects": [
        {"label": "road", "polygon": ROAD}, {"label": "cargroup", "polygon": CAR},
        {"label": "car", "polygon": ROAD, "deleted": 1},
    ]}),
    "supervisely": json.dumps({"size": {"width": WIDTH, "height": HEIGHT}, "objects": [
        {"classTitle": "road", "geometryType": "polygon", "points": {"exterior": ROAD, "interior": []}},
        {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"origin": CAR[0], "data": bitmap(True)}},
    ]}),
}  # fmt: skip


def test_classes_that_are_called_by_numbers(tmp_path: Path) -> None:
    """As BlenderProc writes COCO: category 4 is called "4"."""
    shapes = [{"image_id": 7, "category_id": 4, "segmentation": [flat(ROAD_BORDER)]}]
    root = folder(tmp_path, lambda path: None, "")
    content = json.loads(coco(shapes)) | {"categories": [{"id": 4, "name": "4"}]}
    (root / "all.json").write_text(json.dumps(content))
    found = layout(root, classes=None, labels="all.json", unlabelled="skip", label_map={4: "road", 1: "4x"})
    assert "road" in found.raw_classes.values()
    np.testing.assert_array_equal(found.label(0) > 0, ROAD_THEN_CAR > 0)
    assert found.raw_classes[int(found.label(0).max())] == "road"
    swapped = layout(root, classes=None, labels="all.json", unlabelled="skip", label_map={0: "4", 4: "road"})
    assert swapped.raw_classes[int(swapped.label(0).max())] == "4", "a class of that very name goes before"


@pytest.mark.parametrize("label_map", [{"001": "road"}, {"road": "001"}, {"road": ["001", "7"]}])
def test_a_class_that_is_called_by_a_number_with_noughts(label_map: dict[str, Any], tmp_path: Path) -> None:
    text = _labelme([{"label": "001", "points": ROAD}])
    root = folder(tmp_path, lambda path: path.write_text(text), ".json")
    found = layout(root, classes=None, label_map=label_map)
    assert found.raw_classes[int(found.label(0).max())] == "road"
    with pytest.raises(InputError, match="class '001' is not in label_map; add '001': NAME, or"):
        layout(root, classes=None, label_map={1: "road"}).label(0)


@pytest.mark.parametrize("form", PER_IMAGE)
def test_annotations_of_one_image(form: str, tmp_path: Path) -> None:
    suffix = ".png.json" if form == "supervisely" else ".json"
    root = folder(tmp_path, lambda path: path.write_text(PER_IMAGE[form]), suffix)
    found = layout(root, classes=None)
    assert found.raw_classes == {0: "background", 1: "road", 2: "car"}
    np.testing.assert_array_equal(found.label(0), ROAD_THEN_CAR)
    renamed = layout(root, classes=None, label_map={"road": "street", "default": "void"})
    np.testing.assert_array_equal(renamed.label(1), ROAD_THEN_CAR)
    assert renamed.raw_classes == {0: "background", 1: "street", 2: "void"}
    with pytest.raises(InputError, match="class 'car' is not in label_map; add car: NAME, or default: void"):
        layout(root, classes=None, label_map={"road": "road"}).label(0)
    with pytest.raises(InputError, match="class 'car' is not in classes; add it to classes, or write label_map of all"):
        layout(root, classes=["road", "sky"]).label(0)
    below = layout(root, classes=None, label_map={"road": "road", "car": "car", "background": "car"})
    names = np.array([below.raw_classes[value] for value in range(len(below.raw_classes))])
    np.testing.assert_array_equal(names[below.label(0)] == "car", ROAD_THEN_CAR != 1)


def test_yolo(tmp_path: Path) -> None:
    def line(number: int, points: list[tuple[int, int]]) -> str:
        return " ".join([str(number), *(f"{x / WIDTH} {y / HEIGHT}" for x, y in points)])

    root = folder(tmp_path, lambda path: path.write_text(f"{line(0, ROAD_BORDER)}\n{line(1, CAR_BORDER)}\n"), ".txt")
    found = layout(root, classes=["road", "car"])
    np.testing.assert_array_equal(found.label(0), ROAD_THEN_CAR)
    assert layout(root, classes=None, label_map={0: "road", 1: "car", "background": "sky"}).raw_classes[0] == "sky"
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match="line 1 has a box, no polygon"):
        found.label(0)
    with pytest.raises(InputError, match="YOLO numbers its classes; give classes"):
        layout(root, classes=None)


ANNOTATED = {
    "coco polygons": coco([
        {"id": 1, "image_id": 7, "category_id": 4, "segmentation": [flat(ROAD_BORDER)]},
        {"id": 2, "image_id": 7, "category_id": 5, "segmentation": [flat(CAR_BORDER)]},
    ]),
    "coco runs": coco([
        {"id": 1, "image_id": 7, "category_id": 4, "segmentation": {
            "size": [HEIGHT, WIDTH], "counts": [6, *[6] * (2 * WIDTH - 1)]}},
        {"id": 2, "image_id": 7, "category_id": 5, "iscrowd": 1, "segmentation": {
            "size": [HEIGHT, WIDTH], "counts": compressed((ROAD_THEN_CAR == 2).astype("u1"))}},
    ]),
    "cvat": f"""<?xml version="1.0"?><annotations><image id="0" name="x/a.png" width="{WIDTH}" height="{HEIGHT}">
        <mask label="car" left="2" top="8" width="4" height="3" rle="0, 12" z_order="1"/>
        <polygon label="road" points="{';'.join(f'{x:.2f},{y:.2f}' for x, y in ROAD_BORDER)}" z_order="0"/></image>
        <image id="1" name="b.png" width="{WIDTH}" height="{HEIGHT}"/></annotations>""",
}  # fmt: skip


@pytest.mark.parametrize("form", ANNOTATED)
def test_annotations_of_all_images_in_one_file(form: str, tmp_path: Path) -> None:
    root = folder(tmp_path, lambda path: None)
    file = root / ("annotations.xml" if form == "cvat" else "instances.json")
    file.write_text(ANNOTATED[form])
    found = layout(root, classes=None, labels=file.name)
    assert set(found.raw_classes.values()) == {"background", "road", "car"}
    names = np.array([found.raw_classes[value] for value in range(3)])
    np.testing.assert_array_equal(names[found.label(0)], np.array(["background", "road", "car"])[ROAD_THEN_CAR])
    assert found.label(1).shape == (HEIGHT, WIDTH)
    assert not found.label(1).any()


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [HEIGHT // 2, WIDTH // 2], "counts": [0, HEIGHT * WIDTH // 4]},
        {"size": [-HEIGHT, -WIDTH], "counts": [0, HEIGHT * WIDTH]},
        *({"size": [HEIGHT, WIDTH], "counts": counts} for counts in (
            ["a", 5], [None], [10**30], [2**62] * 4 + [0, HEIGHT * WIDTH], [[1], [2, 3]])),
        [[1], [2, 3]], [{"a": 1}], "abc",
    ],
)  # fmt: skip
def test_shapes_of_coco_that_cannot_be_drawn_are_one_line(segmentation: Any, tmp_path: Path) -> None:
    root = folder(tmp_path, lambda path: None, names=("a",))
    content = coco([{"id": 1, "image_id": 7, "category_id": 4, "segmentation": segmentation}])
    (root / "coco.json").write_text(content)
    with pytest.raises(InputError, match=r"coco\.json: .*; .*(export it again|correct or delete it)") as caught:
        layout(root, classes=None, labels="coco.json").label(0)
    assert "\n" not in str(caught.value)


def test_a_circle_of_one_point_is_one_line(tmp_path: Path) -> None:
    text = _labelme([{"label": "road", "points": [[3, 3]], "shape_type": "circle"}])
    with pytest.raises(InputError, match=r"a\.json: a shape of class 'road' cannot be drawn .*; correct or delete it"):
        layout(folder(tmp_path, lambda path: path.write_text(text), ".json"), classes=None).label(0)


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_an_image_without_a_name_is_refused(name: str, tmp_path: Path) -> None:
    root = folder(tmp_path, lambda path: None)
    (root / "coco.json").write_text(coco([]).replace('"b.png"', json.dumps(name)))
    with pytest.raises(InputError, match=rf"coco\.json: an image is called '{name}', which is no file name; correct"):
        layout(root, classes=None, labels="coco.json")


@pytest.mark.parametrize("label_format", [None, "cvat"])
def test_boxes_of_voc_are_said_to_be_boxes(label_format: str | None, tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0"?><annotation><object><name>car</name><bndbox><xmin>1</xmin></bndbox></object></annotation>'
    )
    root = folder(tmp_path, lambda path: path.write_text(text), ".xml", ("a",) if label_format else ("a", "b"))
    with pytest.raises(InputError, match=r"a\.xml: XML of one image, as Pascal VOC has for boxes, which have no areas"):
        layout(root, label_format=label_format)


def test_cvat_masks_are_counted_by_rows(tmp_path: Path) -> None:
    mask = VALUES > 1
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    counts = [int(count) for count in cvat_rows(mask).split(",")]
    counts.append(mask.size - sum(counts))
    Runs("x", counts, mask.shape, (0, 0), by_columns=False).draw(canvas, 1, "x")
    np.testing.assert_array_equal(canvas, mask)
    canvas[:] = 0
    Runs("x", compressed(mask.astype(np.uint8)), mask.shape).draw(canvas, 1, "x")
    np.testing.assert_array_equal(canvas, mask)
    for counts_of in ("", "0", "5;", [3, 4]):
        with pytest.raises(InputError, match="run lengths that do not fill"):
            Runs("x", counts_of, mask.shape).draw(canvas, 1, "x")


def test_coco_panoptic(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda path: None)
    numbers = np.array([0, 70_000, 300])[ROAD_THEN_CAR]
    picture = np.dstack([numbers % 256, numbers // 256 % 256, numbers // 65536]).astype(np.uint8)
    (root / "panoptic").mkdir()
    Image.fromarray(picture).save(root / "panoptic" / "a.png")
    segments = [{"id": 70_000, "category_id": 4}, {"id": 300, "category_id": 5}]
    annotation = {"image_id": 7, "file_name": "a.png", "segments_info": segments}
    (root / "panoptic.json").write_text(coco([annotation]))
    found = layout(root, classes=None, labels="panoptic.json", unlabelled="skip")
    assert list(found.names) == ["a"]
    np.testing.assert_array_equal(found.label(0), ROAD_THEN_CAR)
    assert "1 of 2 images have no label and are left out: images/b.png" in found.notes[0]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"shapes": [{}]}', '{"shapes": [{"label": "road", "points": [[1]]}]}', "[" * 10**5]
)
def test_annotations_that_hold_anything_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels/a\.json: "):
        layout(folder(tmp_path, lambda path: path.write_text(text), ".json")).label(0)


def test_shapes_without_area_are_refused(tmp_path: Path) -> None:
    text = _labelme([{"label": "road", "points": [[0, 0], [3, 3]], "shape_type": "line"}])
    with pytest.raises(InputError, match="a line of class 'road', which has no area"):
        layout(folder(tmp_path, lambda path: path.write_text(text), ".json")).label(0)


def cvat_image(shapes: str) -> str:
    return (
        f'<?xml version="1.0"?><annotations><image name="a.png" width="41" height="31">{shapes}</image></annotations>'
    )


def test_cvat_shapes_that_are_turned_or_round(tmp_path: Path) -> None:
    root = folder(tmp_path, lambda path: None, names=("a",))
    file = root / "annotations.xml"
    rows, columns = np.mgrid[:31, :41] + 0.5 - np.array([15, 20]).reshape(2, 1, 1)
    ellipse = (columns / 12) ** 2 + (rows / 5) ** 2 <= 1
    turned = (np.abs(columns) <= 4) & (np.abs(rows) <= 10)
    for shapes, expected in (
        ('<ellipse label="road" cx="20" cy="15" rx="12" ry="5"/>', ellipse),
        ('<ellipse label="road" cx="20" cy="15" rx="5" ry="12" rotation="90"/>', ellipse),
        ('<box label="road" xtl="10" ytl="11" xbr="30" ybr="19" rotation="90"/>', turned),
        ('<box label="road" xtl="16" ytl="5" xbr="24" ybr="25"/>', turned),
        ('<tag label="rain"/><box label="road" xtl="16" ytl="5" xbr="24" ybr="25"/>', turned),
    ):
        file.write_text(cvat_image(shapes))
        found = layout(root, classes=None, labels=file.name).label(0) > 0
        np.testing.assert_array_equal(found, expected, shapes)
    for kind in ("cuboid", "skeleton", "points"):
        file.write_text(cvat_image(f'<{kind} label="road" points="0,0;3,3"/>'))
        with pytest.raises(InputError, match=f"a {kind} of class 'road', which has no area; draw a polygon"):
            layout(root, classes=None, labels=file.name)


def test_rectangles_of_four_corners(tmp_path: Path) -> None:
    text = _labelme([{"label": "road", "points": ROAD, "shape_type": "rectangle"}])
    np.testing.assert_array_equal(
        layout(folder(tmp_path, lambda path: path.write_text(text), ".json"), classes=None).label(0),
        (ROAD_THEN_CAR > 0).astype(np.uint8),
    )


@pytest.mark.parametrize("form", ["coco", "panoptic", "cvat"])
def test_an_image_that_is_listed_twice_is_refused(form: str, tmp_path: Path) -> None:
    """The last entry would win, and the first one's shapes be lost."""
    root = folder(tmp_path, lambda path: None, names=("a",))
    images = [{"id": number, "file_name": "a.png"} for number in (7, 9)]
    content: dict[str, Any] = {"images": images, "categories": [{"id": 4, "name": "road"}]}
    segments = {"segments_info": [{"id": 1, "category_id": 4}], "file_name": "a.png"}
    drawn = {"category_id": 4, "segmentation": [flat(ROAD_BORDER)]}
    content["annotations"] = [{"image_id": 7, **(segments if form == "panoptic" else drawn)}]
    twice = "<annotations><image name='a.png'/><image name='a.png'/></annotations>"
    text = twice if form == "cvat" else json.dumps(content)
    file = root / ("labels.xml" if form == "cvat" else "labels.json")
    file.write_text(text)
    with pytest.raises(InputError, match=r"labels\.\w+: 1 images are listed twice, such as a\.png; if they"):
        layout(root, classes=None, labels=file.name)


def test_an_annotation_that_could_be_of_two_images_is_refused(tmp_path: Path) -> None:
    content = coco([{"id": 1, "image_id": 9, "category_id": 4, "segmentation": [flat(ROAD_BORDER)]}])
    for camera in ("front", "rear"):
        folder(tmp_path / "images" / camera, lambda path: None, names=("b",))
        (tmp_path / "images" / camera / "images" / "b.png").rename(tmp_path / "images" / camera / "b.png")
    (tmp_path / "coco.json").write_text(content)
    keys = {"images": "images/*/{name}.png", "labels": "coco.json", "classes": None}
    with pytest.raises(InputError, match=r"coco\.json: b\.png could be image front/b or rear/b; give it the folder"):
        layout(tmp_path, **keys)
    (tmp_path / "coco.json").write_text(content.replace('"b.png"', '"rear/b.png"'))
    assert list(layout(tmp_path, unlabelled="skip", **keys).names) == ["rear/b"]


class Counted(str):
    """A text that counts how often it is looked up."""

    lookups = 0

    def __hash__(self) -> int:
        Counted.lookups += 1
        return super().__hash__()


@pytest.mark.parametrize("kept", [1, 2])
def test_matching_looks_at_each_annotation_a_few_times(kept: int) -> None:
    """Where all images are called `rgb.png`, in a folder each; also where only every other is annotated."""
    count, Counted.lookups = 300, 0
    names = [f"scene{number}/rgb" for number in range(count)]
    known: dict[str, str] = {Counted(f"{name}.png"): name for name in names[::kept]}
    assert matched(known, names, "x") == {name: name for name in names[::kept]}
    assert Counted.lookups < 20 * count


def test_roots_of_several_formats_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "x", lambda path: path.write_text(PER_IMAGE["labelme"]), ".json")
    (folder(tmp_path / "y", lambda path: None) / "labels" / "all.json").write_text(ANNOTATED["coco polygons"])
    for roots in ("xy", "yx"):
        with pytest.raises(InputError, match=r"labels of several formats \(coco, labelme\); export them in one"):
            open_layout(DomainConfig(layout="folder", root=[str(tmp_path / root) for root in roots], labelled=True))
