"""`init` on files of annotations: which folder's images they are of, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptseg.data.discovery.labelled import find_labelled
from adaptseg.data.discovery.proposal import propose
from adaptseg.errors import InputError
from tests.data.discovery import annotated_forms
from tests.data.discovery.drawing import each, photographs
from tests.data.discovery.test_forms import proposed


def test_classes_that_are_numbers_are_said(tmp_path: Path) -> None:
    """As BlenderProc writes COCO; by the note's cure they get names."""
    annotated_forms.roboflow_coco(tmp_path / "source")
    file = tmp_path / "source/train/_annotations.coco.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": one["id"], "name": str(one["id"])} for one in content["categories"]]
    file.write_text(json.dumps(content))
    photographs(tmp_path / "target")
    proposal, _ = proposed(tmp_path)
    numbers = [row.name for row in proposal.source.classes if row.name.isdecimal()]
    assert len(numbers) == 5
    said = f"classes have numbers for names there: call them by label_map, as {{{numbers[0]}: road}}"
    assert said in proposal.source.notes


@pytest.mark.parametrize(
    ("file", "folder", "other"),
    [
        ("annotations/instances_val.json", "images/val", "images/train"),
        ("annotations/instances_val.json", "val", "training"),
        ("train/_annotations.coco.json", "train", "validation"),
        ("coco.json", "images", "thumbnails"),
        ("coco.json", "rgb", "depth"),
    ],
)
def test_images_of_one_name_in_two_folders_are_told_by_words(
    file: str, folder: str, other: str, tmp_path: Path
) -> None:
    for place in (folder, other):
        each(tmp_path, f"{place}/{{:04}}.png", "")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(annotated_forms.coco([f"{index:04}.png" for index in range(6)]))
    found = find_labelled(tmp_path)
    assert found is not None
    assert found.keys["images"] == folder


def test_images_of_one_name_in_two_folders_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    for place in ("a", "longer"):
        each(tmp_path, f"{place}/{{:04}}.png", "")
    (tmp_path / "coco.json").write_text(annotated_forms.coco([f"{index:04}.png" for index in range(6)]))
    with pytest.raises(InputError, match=r"coco\.json: a, longer all have images that it names; say which: "):
        find_labelled(tmp_path)
    found = find_labelled(tmp_path / "a", tmp_path / "coco.json")
    assert found is not None
    assert found.keys["images"] == "a"


def test_boxes_are_said_to_be_no_areas(tmp_path: Path) -> None:
    each(tmp_path / "source", "images/{:04}.png", "")
    (tmp_path / "source/labels").mkdir()
    for index in range(6):
        (tmp_path / f"source/labels/{index:04}.xml").write_text("<annotation><object><bndbox/></object></annotation>")
    photographs(tmp_path / "target")
    for labels in (None, tmp_path / "source/labels"):
        with pytest.raises(InputError, match=r"0000\.xml: XML of one image, as Pascal VOC has for boxes"):
            proposed(tmp_path, labels)


def listed_twice(content: dict[str, Any]) -> None:
    content["images"].append(content["images"][0] | {"id": 99})


def with_a_box(content: dict[str, Any]) -> None:
    content["annotations"][0] |= {"id": 7, "segmentation": []}


def without_an_image(content: dict[str, Any]) -> None:
    del content["images"][5]


def without_a_category(content: dict[str, Any]) -> None:
    del content["categories"][-1]


def of_other_images(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["file_name"] = f"other{image['file_name']}"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (listed_twice, "1 images are listed twice, such as 0000.png; if they are"),
        (with_a_box, "annotation 7 of class 'sky' has a box alone; export segmentations"),
        (without_an_image, "annotation of image 5, which is not in images; list it, or delete the annotation"),
        (without_a_category, "annotation of category 5, which is not in categories; list it, or"),
        (of_other_images, "annotates other0000.png, other0001.png, other0002.png, …, none of which is there;"),
    ],
)
def test_why_a_file_is_not_read_is_said(break_it: Callable[[dict[str, Any]], None], says: str, tmp_path: Path) -> None:
    """Where nothing else is found, where `--labels` names it, or its folder, and of an evaluation."""
    annotated_forms.roboflow_coco(tmp_path / "right")
    each(tmp_path / "source", "images/{:04}.png", "")
    content = json.loads(annotated_forms.coco([f"{index:04}.png" for index in range(6)]))
    break_it(content)
    file = tmp_path / "source/annotations/coco.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    (tmp_path / "source/about.json").write_text('{"camera": 1}')
    (tmp_path / "source/scene.xml").write_text("<scene/>")
    photographs(tmp_path / "target")
    for labels in (None, file, file.parent):
        with pytest.raises(InputError) as caught:
            proposed(tmp_path, labels)
        assert f"coco.json: {says}" in str(caught.value)
    with pytest.raises(InputError) as caught:
        propose(tmp_path / "right", tmp_path / "target", tmp_path / "source", None, "laptop")
    assert f"coco.json: {says}" in str(caught.value)


def test_a_file_of_something_else_is_no_reason(tmp_path: Path) -> None:
    each(tmp_path / "source", "images/{:04}.png", "")
    (tmp_path / "source/scene.xml").write_text("<scene/>")
    (tmp_path / "source/about.json").write_text('{"camera": 1}')
    with pytest.raises(InputError, match=r"source: no labels that belong to images"):
        proposed(tmp_path)
    with pytest.raises(InputError, match=r"about\.json: JSON of no kind that is known as labels"):
        proposed(tmp_path, tmp_path / "source/about.json")
