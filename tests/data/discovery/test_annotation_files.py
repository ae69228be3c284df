"""`init` on files of annotations: which folder's images they are of, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptseg.data.discovery.labelled import find_labelled
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
