"""Names of images: letters with accents, signs, and what a list or `include` means by them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptseg.data.discovery.labelled import find_labelled
from adaptseg.errors import InputError
from tests.data.test_own_data_forms import HEIGHT, VALUES, WIDTH, folder, layout

FORMS: tuple[Any, ...] = ("NFC", "NFD")
HALF = [0, 0, 7, 0, 7, HEIGHT - 1, 0, HEIGHT - 1]


def coco(files: list[str], category: str = "road") -> str:
    """COCO in which the left half of every image has the class."""
    return json.dumps({
        "images": [{"id": i, "file_name": file, "width": WIDTH, "height": HEIGHT} for i, file in enumerate(files)],
        "annotations": [{"image_id": i, "category_id": 1, "segmentation": [HALF]} for i in range(len(files))],
        "categories": [{"id": 1, "name": category}],
    })  # fmt: skip


@pytest.mark.parametrize("disk", FORMS)
@pytest.mark.parametrize("text", FORMS)
def test_accents_are_the_same_in_whatever_way_they_are_written(disk: Any, text: Any, tmp_path: Path) -> None:
    """macOS writes file names, and what tools make of them, with the accent as a character of its own."""
    folder(tmp_path, Image.fromarray(VALUES).save, names=(unicodedata.normalize(disk, "straße_ü"), "b"))
    said = unicodedata.normalize(text, "straße_ü")
    (tmp_path / "coco.json").write_text(coco([f"{said}.png"]))
    (tmp_path / "list.txt").write_text(f"{said}.png\n", encoding="utf-8")
    for keys in (
        {"labels": "coco.json", "classes": None, "unlabelled": "skip"},
        {"list": "list.txt"},
        {"include": [said]},
        {"include": [f"*{said[-2:]}"]},
    ):
        assert layout(tmp_path, **keys).names == ["straße_ü"]
    found = find_labelled(tmp_path / "images", tmp_path / "coco.json")
    assert found is not None
    assert found.keys["unlabelled"] == "skip"


def test_a_sign_in_a_name_begins_no_comment(tmp_path: Path) -> None:
    folder(tmp_path, Image.fromarray(VALUES).save, names=("a", "a#1", "b"))

    def listed(text: str) -> Any:
        (tmp_path / "list.txt").write_text(text)
        return layout(tmp_path, list="list.txt").names

    assert listed("a#1\n") == ["a#1"]
    assert listed("# a#1\n  # a\nb.png\t# and not a\n#a\n") == ["b"]
    with pytest.raises(InputError, match="1 names are none of the images: b#a; images are called like a"):
        listed("b#a\n")


def test_a_long_list_is_read_to_its_end(tmp_path: Path) -> None:
    names = [f"{'x' * 200}_{number:04}" for number in range(510)]
    picture = np.zeros((2, 2), np.uint8)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        Image.fromarray(picture).save(tmp_path / kind / f"{names[0]}.png")
        for name in names[1:]:
            (tmp_path / kind / f"{name}.png").hardlink_to(tmp_path / kind / f"{names[0]}.png")
    (tmp_path / "train.txt").write_text("\n".join(names[1:]))
    found = find_labelled(tmp_path)
    assert found is not None
    assert found.keys["list"] == "train.txt"
    assert len(found.images) == len(names) - 1
