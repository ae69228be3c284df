"""Names of images: in several splits, with accents and signs, and what a list or `include` means by them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.discovery.labelled import find_labelled
from adaptseg.data.layouts.registry import open_layout
from adaptseg.errors import InputError
from tests.data.test_films import write_film
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


def cvat(category: str) -> str:
    points = ";".join(f"{x},{y}" for x, y in zip(HALF[::2], HALF[1::2], strict=True))
    image = f"<image name='0001.png' width='{WIDTH}' height='{HEIGHT}'>"
    return f"<annotations>{image}<polygon label='{category}' points='{points}'/></image></annotations>"


def panoptic(category: str) -> str:
    segments = {"image_id": 1, "file_name": "0001.png", "segments_info": [{"id": 1, "category_id": 1}]}
    images = [{"id": 1, "file_name": "0001.png", "width": WIDTH, "height": HEIGHT}]
    return json.dumps({"images": images, "annotations": [segments], "categories": [{"id": 1, "name": category}]})


def splits(root: Path, names: Mapping[str, Sequence[str]]) -> Path:
    """Write `images/SPLIT/` and `labels/SPLIT/`; labels have one value each, counted through."""
    files = [f"{split}/{name}.png" for split, inside in names.items() for name in inside]
    for value, file in enumerate(files):
        for kind in ("images", "labels"):
            (root / kind / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8)).save(root / kind / file)
    return root


@pytest.mark.parametrize("form", ["coco", "cvat", "panoptic"])
@pytest.mark.parametrize("roots", ["x", "xy"])
def test_an_annotation_of_a_split_is_not_that_of_another(form: str, roots: str, tmp_path: Path) -> None:
    write = {"coco": lambda category: coco(["0001.png"], category), "cvat": cvat, "panoptic": panoptic}[form]
    suffix = ".xml" if form == "cvat" else ".json"
    segments = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    segments[:, :8, 0] = 1
    for root in roots:
        splits(tmp_path / root, {"train": ["0001"], "val": ["0001", "0002"]})
        for split, category in (("train", "road"), ("val", "car")):
            (tmp_path / root / f"{split}{suffix}").write_text(write(category))
            (tmp_path / root / split).mkdir()
            Image.fromarray(segments).save(tmp_path / root / split / "0001.png")
    found = open_layout(
        DomainConfig(
            layout="folder", root=[str(tmp_path / root) for root in roots], labelled=True, split=["train", "val"],
            labels=f"{{split}}{suffix}", unlabelled="skip",
        )
    )  # fmt: skip
    own = ["train/0001", "val/0001"]
    assert list(found.names) == (own if roots == "x" else [f"{root}/{name}" for root in roots for name in own])
    for index, name in enumerate(found.names):
        category = "road" if "train" in name else "car"
        assert [found.raw_classes[value] for value in np.unique(found.label(index))] == ["background", category]


def test_one_annotation_for_images_of_two_splits_is_refused(tmp_path: Path) -> None:
    splits(tmp_path, {"train": ["0001"], "val": ["0001"]})
    (tmp_path / "all.json").write_text(coco(["0001.png"]))
    with pytest.raises(InputError, match=r"all\.json: 0001 could be an image of several splits \(train, val\); give"):
        layout(tmp_path, split=["train", "val"], labels="all.json", classes=None)


def test_names_that_several_splits_have_are_unique(tmp_path: Path) -> None:
    splits(tmp_path, {"train": ["0001", "0002"], "val": ["0001", "0003"]})

    def read(**keys: Any) -> tuple[list[str], list[int]]:
        found = layout(tmp_path, split=["train", "val"], **keys)
        return found.names, [int(found.label(index)[0, 0]) for index in range(len(found.names))]

    assert read() == (["train/0001", "0002", "val/0001", "0003"], [0, 1, 2, 3])
    assert read(include=["val/0001"]) == (["val/0001"], [2])
    # What a name or pattern means in the splits, and which part of them is read, does not change by that.
    assert read(include=["0001", "0002"])[1] == [0, 1, 2]
    assert read(include=["0*"])[1] == [0, 1, 2, 3]
    assert read(part=(0.0, 0.5))[1] == [0, 2]
    (tmp_path / "list.txt").write_text("val/0001\n0002\n")
    assert read(list="list.txt")[1] == [1, 2]
    (tmp_path / "list.txt").write_text("0001\n")
    with pytest.raises(InputError, match="'0001' is 2 images: train/0001, val/0001; write folders"):
        read(list="list.txt")


def test_images_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    splits(tmp_path, {"a": ["1"], "b": ["1", "a/1"]})
    with pytest.raises(InputError, match="split a, b, a has one twice; name each once"):
        layout(tmp_path, split=["a", "b", "a"])
    with pytest.raises(InputError, match=r"images/a/1\.png and .*images/b/a/1\.png: two images of one name; rename or"):
        layout(tmp_path, split=["a", "b"])
    (tmp_path / "films" / "clip").mkdir(parents=True)
    write_film(tmp_path / "films" / "clip.mp4", "libx264", frames=12)
    Image.fromarray(VALUES).save(tmp_path / "films" / "clip" / "000010.png")
    with pytest.raises(InputError, match=r"clip\.mp4#000010 and .*clip/000010\.png: two images of one name; rename"):
        open_layout(DomainConfig(layout="folder", root=str(tmp_path / "films"), labelled=False))


def test_splits_of_several_formats_are_refused(tmp_path: Path) -> None:
    splits(tmp_path, {"a": ["1"], "b": ["2"]})
    for split in "ab":
        (tmp_path / "drawn" / split).mkdir(parents=True)
    (tmp_path / "drawn" / "a" / "all.json").write_text(coco(["1.png"]))
    (tmp_path / "drawn" / "b" / "2.json").write_text(json.dumps({"shapes": [], "imageWidth": 16, "imageHeight": 12}))
    for order in ("ab", "ba"):
        with pytest.raises(InputError, match=r"split ., .: labels of several formats \(coco, labelme\); export them"):
            layout(tmp_path, split=list(order), labels="drawn", classes=None)


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


def test_a_list_of_two_columns_means_the_first(tmp_path: Path) -> None:
    folder(tmp_path, Image.fromarray(VALUES).save, names=("a 1", "b", "c"))
    for line, name in (
        ("images/b.png labels/c.png", "b"),
        ("b.png\tc.png", "b"),
        ("a 1.png", "a 1"),
        ("images/a 1.png", "a 1"),
        ("/data/my set/images/b.png", "b"),
    ):
        (tmp_path / "list.txt").write_text(f"{line}\n")
        assert layout(tmp_path, list="list.txt").names == [name], line


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
