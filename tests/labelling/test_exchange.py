"""To annotation programs and back: what is written is read as the same train ids, by the layout that trains."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import LabelSpace, label_space
from adaptseg.data.layouts import brush_rle
from adaptseg.data.layouts.shapes import Runs
from adaptseg.errors import InputError
from adaptseg.labelling.annotations import ToLabel
from adaptseg.labelling.coco import run_lengths
from adaptseg.labelling.cvat import instance_colors
from adaptseg.labelling.exchange import chosen_formats, refuse_unwritable, write_formats

PLAIN = ("road", "car, parked", "Straße & <b>", "sky")
WITH_BACKGROUND = ("road", "background", "yes", "sky")
SIZES = {"a": (17, 23), "deep/a": (9, 31), "deep/über all": (1, 1), "b c": (40, 40), "deep/one": (12, 16)}


def blobs(rng: np.random.Generator, size: tuple[int, int]) -> UInt8Array:
    """Return train ids in smooth regions, (H, W), 0 … 3 and 255."""
    noise = rng.normal(size=(5, *size)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), max(size) / 12) for plane in noise])
    label: UInt8Array = np.array([0, 1, 2, 3, 255], np.uint8)[smooth.argmax(0)]
    return label


def to_label(folder: Path, space: LabelSpace, smooth: bool = False) -> ToLabel:
    """Write images and labels of odd sizes: noise, smooth regions, single pixels, one class alone."""
    rng, files = np.random.default_rng(0), []
    for name, size in SIZES.items():
        label = blobs(rng, size) if smooth else rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), size)
        if name == "deep/one":
            label = np.full(size, 3, np.uint8)
            label[5, 7] = 255 if smooth else 1
        for kind, pixels in (("images", np.zeros((*size, 3), np.uint8)), ("labels", label)):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        files.append(PurePosixPath("images", f"{name}.png"))
    return ToLabel(folder, files, space)


def read(folder: Path, space: LabelSpace, **keys: Any) -> Domain:
    keys = {"classes": list(space.classes), **keys}
    return Domain(DomainConfig(layout="folder", root=str(folder), labelled=True, **keys), space)


def read_all(folder: Path, space: LabelSpace, labels: str) -> None:
    domain = read(folder, space, labels=labels)
    for index in range(len(domain)):
        domain.read(index)


def unpacked(folder: Path) -> str:
    with zipfile.ZipFile(folder / "cvat.zip") as file:
        file.extractall(folder / "cvat")
    return "cvat"


def corrected_tasks(folder: Path) -> str:
    """Make annotations of the predictions, as Label Studio does when they are submitted."""
    tasks = json.loads((folder / "label-studio.json").read_text())
    for task in tasks:
        task["annotations"] = [{"was_cancelled": True, "result": []}, {"result": task.pop("predictions")[0]["result"]}]
    (folder / "export.json").write_text(json.dumps(tasks))
    return "export.json"


BACK: dict[str, Callable[[Path], str]] = {
    "png": lambda folder: "labels",
    "cvat": unpacked,
    "coco": lambda folder: "coco.json",
    "labelstudio": corrected_tasks,
}


@pytest.mark.parametrize("classes", [PLAIN, WITH_BACKGROUND])
@pytest.mark.parametrize("name", BACK)
def test_round_trip_is_exact(name: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    made = to_label(tmp_path, label_space(classes))
    assert len(write_formats(made, [name], "out")) == (name != "png")
    domain = read(tmp_path, made.space, labels=BACK[name](tmp_path))
    assert sorted(domain.layout.names) == sorted(SIZES)
    for index, image in enumerate(domain.layout.names):
        expected = np.array(Image.open(tmp_path / "labels" / f"{image}.png"))
        np.testing.assert_array_equal(domain.read(index)[1], expected, err_msg=f"{name} {image}")


@pytest.mark.parametrize("classes", [PLAIN, WITH_BACKGROUND])
@pytest.mark.parametrize("smooth", [True, False])
def test_polygons_lose_what_is_said(classes: tuple[str, ...], smooth: bool, tmp_path: Path) -> None:
    made = to_label(tmp_path, label_space(classes), smooth)
    (line,) = write_formats(made, ["labelme"], "out")
    domain = read(tmp_path, made.space, labels="labelme")
    wrong = total = 0
    for index, image in enumerate(domain.layout.names):
        label = domain.read(index)[1]
        assert label is not None
        expected = np.array(Image.open(tmp_path / "labels" / f"{image}.png"))
        wrong, total = wrong + int((label != expected).sum()), total + label.size
        content = json.loads((tmp_path / "labelme" / f"{image}.json").read_text())
        assert (tmp_path / "labelme" / f"{image}.json").parent.joinpath(content["imagePath"]).is_file()
    assert f"{100 * wrong / total:.2f} % of the pixels" in line
    assert wrong < total * (0.12 if smooth else 1)


def test_polygons_of_large_regions_are_near(tmp_path: Path) -> None:
    made = to_label(tmp_path, label_space(PLAIN), smooth=True)
    label = blobs(np.random.default_rng(1), (240, 320))
    Image.fromarray(label).save(tmp_path / "labels/a.png")
    (line,) = write_formats(ToLabel(tmp_path, made.images[:1], made.space), ["labelme"], "out")
    assert 0 < float(line.partition("which ")[2].partition(" %")[0]) < 2


def test_classes_that_nobody_drew_come_back_too(tmp_path: Path) -> None:
    """`classes` and `label_map` of the experiment say what annotated names mean; others are errors, with the cure."""
    made = to_label(tmp_path, label_space(PLAIN), smooth=True)
    write_formats(made, ["cvat", "coco", "labelme", "labelstudio"], "out")
    places = {"coco.json", unpacked(tmp_path), corrected_tasks(tmp_path), "labelme"}
    for labels in places:
        domain = read(tmp_path, label_space(("road", "sky")), labels=labels, classes=None)
        expected = np.array(Image.open(tmp_path / "labels/b c.png"))
        label = domain.read(list(domain.layout.names).index("b c"))[1]
        assert label is not None
        if labels != "labelme":
            np.testing.assert_array_equal(label == 1, expected == 3)
            np.testing.assert_array_equal(label == 255, (expected != 0) & (expected != 3))
        with pytest.raises(InputError, match=r"class '.*' is not in classes; add it to classes, or write label_map of"):
            read_all(tmp_path, label_space(("road", "sky")), labels)
        mapped = {"road": "road", "sky": "sky", "default": "void"}
        read(tmp_path, label_space(("road", "sky")), labels=labels, classes=None, label_map=mapped).read(0)


@pytest.mark.parametrize("labels", ["cvat", "coco.json", "export.json", "labelme"])
def test_labels_of_another_size_are_refused(labels: str, tmp_path: Path) -> None:
    made = to_label(tmp_path, label_space(PLAIN))
    write_formats(made, ["cvat", "coco", "labelme", "labelstudio"], "out")
    unpacked(tmp_path), corrected_tasks(tmp_path)
    Image.new("RGB", (50, 20)).save(tmp_path / "images/b c.png")
    domain = read(tmp_path, made.space, labels=labels)
    with pytest.raises(InputError, match="label is 40x40, its image 50x20; both must have the same size"):
        domain.read(list(domain.layout.names).index("b c"))


def test_colours_are_apart(tmp_path: Path) -> None:
    space = label_space(["a", "b", "c", "background"], {"a": (0, 0, 0), "b": (9, 9, 9), "c": (9, 9, 9)})
    colors = ToLabel(tmp_path, [], space).colors()
    assert len(set(colors.values())) == 5
    assert colors["background"] == (0, 0, 0)
    assert colors["b"] == (9, 9, 9)


def test_instances_have_the_colours_of_pascal_voc() -> None:
    known = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]  # The devkit's first five.
    assert instance_colors()[:5].tolist() == known
    assert len(np.unique(instance_colors(), axis=0)) == 256


def test_cvat_archive(tmp_path: Path) -> None:
    made = to_label(tmp_path, label_space(PLAIN))
    write_formats(made, ["cvat"], "out")
    with zipfile.ZipFile(tmp_path / "cvat.zip") as file:
        lines = file.read("labelmap.txt").decode().splitlines()
        listed = file.read("ImageSets/Segmentation/default.txt").decode().splitlines()
        assert {f"SegmentationObject/{name}.png" for name in SIZES} <= set(file.namelist())
    assert lines[:3] == ["# label:color_rgb:parts:actions", "background:0,0,0::", "road:128,64,128::"]
    assert listed == ["a", "deep/a", '"deep/über all"', '"b c"', "deep/one"]
    labels = json.loads((tmp_path / "cvat-labels.json").read_text())
    assert [label["name"] for label in labels] == [*PLAIN, "void"]
    with pytest.raises(InputError, match=r"'a:b' cannot be a class in labelmap\.txt; take coco, or rename it"):
        refuse_unwritable(label_space(["a:b", "c"]), ["cvat"])
    refuse_unwritable(label_space(["a:b", "c"]), ["coco"])
    with pytest.raises(InputError, match="'voc' is unknown; choose of png, cvat, coco"):
        chosen_formats("png,voc")


# From Label Studio's published format: rle-pack's header and runs, written by hand.
BY_HAND = (
    "00000000000000000000000000011000" "00111" "0010" "0011" "0111" "1111"  # 24 values of 8 bits: 2 x 3 pixels.
    "1" "01" "0111" "00000000"  # Eight times 0: two pixels.
    "0" "00" "011" "11111111" "00000000" "00000000" "10000000"  # Red 255, alpha 128: painted.
    "0" "00" "011" "11111111" "11111111" "11111111" "01111111"  # Alpha 127: not painted.
    "1" "00" "111" "11111111"  # Eight times 255.
)  # fmt: skip


def test_label_studios_runs_by_hand() -> None:
    padded = BY_HAND + "0" * (-len(BY_HAND) % 8)
    rle = [int(padded[i : i + 8], 2) for i in range(0, len(padded), 8)]
    np.testing.assert_array_equal(brush_rle.decode(rle, (2, 3)), [[0, 0, 1], [0, 1, 1]])
    for broken, size in ((rle[:-2], (2, 3)), (rle, (3, 3)), ([], (2, 3)), ([*rle[:5], 256], (2, 3))):
        with pytest.raises(ValueError):  # noqa: PT011
            brush_rle.decode(broken, size)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (200, 333), (300, 300)])
def test_brush_runs_come_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) < 0.5, rng.random(shape) < 0.001]
    for mask in masks:
        np.testing.assert_array_equal(brush_rle.decode(brush_rle.encode(mask), shape), mask)


def compressed(counts: list[int]) -> str:
    """Return COCO's text of run lengths: differences to the last but one, five bits a letter, lowest first."""
    text = ""
    for place, count in enumerate(counts):
        value, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def test_coco_is_read_with_runs_of_both_kinds() -> None:
    mask = np.random.default_rng(0).random((37, 41)) < 0.3
    mask[:, 20:30] = True
    for counts in (run_lengths(mask), compressed(run_lengths(mask))):
        canvas = np.zeros(mask.shape, np.uint8)
        Runs("x", counts, (37, 41)).draw(canvas, 1, "here")
        np.testing.assert_array_equal(canvas, mask)
    assert run_lengths(np.array([[True, False]])) == [0, 1, 1]


def task(**changes: Any) -> dict[str, Any]:
    value = {"points": [[0, 0], [100, 0], [100, 100], [0, 100]], "polygonlabels": ["road"]}
    result = {"type": "polygonlabels", "original_width": 17, "original_height": 9, "value": value}
    return {"data": {"image": "/data/upload/3/0123abcd-a.png"}, "annotations": [{"result": [{**result, **changes}]}]}


def one_image(folder: Path, content: Any, name: str = "a") -> Domain:
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (17, 9)).save(folder / f"images/{name}.png")
    (folder / "tasks.json").write_text(json.dumps(content))
    return read(folder, label_space(("road", "sky")), labels="tasks.json")


def test_label_studio_polygons_and_rectangles(tmp_path: Path) -> None:
    rectangle = {"type": "rectanglelabels", "original_width": 17, "original_height": 9}
    rectangle["value"] = {"x": 50, "y": 0, "width": 50, "height": 100, "rotation": 0, "rectanglelabels": ["sky"]}
    content = task()
    content["annotations"][0]["result"] += [rectangle, {"type": "choices", "value": {"choices": ["good"]}}]
    label = one_image(tmp_path, [content]).read(0)[1]
    assert label is not None
    assert label[4, 2] == 0
    assert label[4, 14] == 1
    assert not (label == 255).any()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/local-files/?d=out/images/20261127-0930.png", "20261127-0930"),
        ("http://here:8080/data/upload/3/0123abcd-20261127-0930.png", "20261127-0930"),
        ("/data/upload/0123abcd-a.png", "a"),
        ("s3://bucket/deadbeef-a.png", "deadbeef-a"),
        ("https://bucket.s3.example/out/a.png?X-Amz-Signature=0b&X-Amz-Date=1", "a"),
        ("http://here:8080/data/local-files/?d=out%2Fa.png", "a"),
    ],
)
def test_label_studio_numbers_uploads_alone(address: str, name: str, tmp_path: Path) -> None:
    assert one_image(tmp_path, [{**task(), "data": {"image": address}}], name).layout.names == [name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"data": {"image": "a.png"}, "predictions": [], "annotations": []}], "no task has an annotation; submit"),
        ([{**task(), "annotations": [{"result": []}, {"result": []}]}], "a.png has several annotations; delete all"),
        ([task(), task()], "two annotated tasks are of /data/upload/3/a.png; delete one"),
        ([task(type="ellipselabels")], "ellipselabels have no area that is read; draw brush, polygons or rectangles"),
        ([task(image_rotation=90)], "annotated while it was turned; turn it back"),
        ([task(value={"polygonlabels": ["road", "sky"], "points": []})], "a shape of 2 classes; give each shape one"),
        ([task(original_width=10**6, original_height=10**6)], "annotations of 1000000x1000000 pixels; correct width"),
        (
            [task(value={"polygonlabels": ["tree"], "points": [[1, 1]]})],
            "class 'tree' is not in classes; add it to",
        ),
        ([task(value={"polygonlabels": ["road"], "points": [["x", 1]]})], "no readable Label Studio annotations"),
        ([task(type="brushlabels", value={"brushlabels": ["road"], "rle": [1, 2]})], "a brush that cannot be unpacked"),
        ([{**task(), "data": {"text": "words"}}], "a task without an image ('words'); export tasks of images"),
        ([{**task(), "data": None}], "no readable Label Studio annotations"),
        ([1, 2], "no readable JSON annotations"),
        ([], "JSON of no kind that is known as labels"),
    ],
)
def test_broken_label_studio_files_are_one_line(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        one_image(tmp_path, content).read(0)
    assert message in str(caught.value)
    assert "tasks.json" in str(caught.value)


def test_label_studio_takes_the_ground_truth_of_several(tmp_path: Path) -> None:
    content = task()
    content["annotations"] = [{"result": []}, {**content["annotations"][0], "ground_truth": True}]
    label = one_image(tmp_path, [content]).read(0)[1]
    assert label is not None
    assert (label == 0).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road=1,2,3\n", "'road=1,2,3' is no class and colour; lines are such as road:128,64,128::"),
        ("road:1,2,300::\n", "is no class and colour"),
        ("road:1,2,3::\nsky:1,2,3::\n", "sky has the colour of another class; give each class its own"),
        ("# nothing\n", "no classes; unpack CVAT's export again"),
        ("road:7,7,7::\nbackground:0,0,0::\n", "pixels have colours that are not in label_map, such as 128,64,128"),
        ("\xff", "cannot be read as text"),
        (None, "no labelmap.txt and SegmentationClass/ in it; unpack CVAT's Segmentation mask 1.1 there"),
    ],
)
def test_broken_cvat_exports_are_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    for kind in ("images", "cvat/SegmentationClass"):
        (tmp_path / kind).mkdir(parents=True)
        Image.new("RGB", (6, 4), (128, 64, 128)).save(tmp_path / kind / "a.png")
    if text is not None:
        (tmp_path / "cvat/labelmap.txt").write_bytes(text.encode("latin-1"))
    space = label_space(("road", "sky"))
    with pytest.raises(InputError) as caught:
        read(tmp_path, space, labels="cvat", label_format="cvat_mask").read(0)
    assert message in str(caught.value)


def test_the_folder_of_masks_may_be_named(tmp_path: Path) -> None:
    made = to_label(tmp_path, label_space(PLAIN))
    write_formats(made, ["cvat"], "out")
    unpacked(tmp_path)
    domain = read(tmp_path, made.space, labels="cvat/SegmentationClass", label_format="cvat_mask")
    assert len(domain) == len(SIZES)
