from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptseg.config import DomainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.data.layouts.paired_files import included
from adaptseg.errors import InputError

SPACE = LabelSpace("two", ("car", "road"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (16, 8), (1, 2, 3)).save(tmp_path / "images" / "a.png")
    values = np.repeat(np.array([[0, 1, 7, 255]], np.uint8), 8, 0).repeat(4, 1)
    Image.fromarray(values).save(tmp_path / "labels" / "a.png")
    return tmp_path


def domain(
    root: Path, label_map: dict[int | str, Any], size: tuple[int, int] | None = None, resize: str | None = None
) -> Domain:
    config = DomainConfig(layout="folder", root=str(root), label_map=label_map, labelled=True, size=size, resize=resize)
    return Domain(config, SPACE)


def test_labels_are_mapped_by_name(root: Path) -> None:
    sample = domain(root, {0: "road", 1: "car", 7: "tree"})[0]
    assert sample.label is not None
    assert sample.label.dtype == np.uint8
    assert sample.label[0].tolist() == [1] * 4 + [0] * 4 + [255] * 8
    assert sample.name == "a"
    assert sample.image[0, 0].tolist() == [1, 2, 3]


def test_sizes(root: Path) -> None:
    kept = domain(root, {0: "road", 1: "car", 7: "void"}, size=(8, 8))
    assert (kept[0].image.shape, kept.for_evaluation(0).image.shape, kept.box) == ((8, 16, 3), (8, 16, 3), (8, 8))
    resized = domain(root, {0: "road", 1: "car", 7: "void"}, size=(8, 8), resize="squeeze")
    sample = resized[0]
    assert sample.label is not None
    assert sample.image.shape == (8, 8, 3)
    assert sample.label[0].tolist() == [1, 1, 0, 0, 255, 255, 255, 255]
    evaluated = resized.for_evaluation(0)
    assert evaluated.label is not None
    assert evaluated.image.shape == (8, 8, 3)
    assert evaluated.label.shape == (8, 16)


def test_values_outside_the_map_name_file_and_value(root: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png: label value 7 is outside the map .*7: void"):
        domain(root, {0: "road", 1: "car"})[0]


def test_unlabelled_domain_never_opens_labels(root: Path) -> None:
    (root / "labels" / "a.png").write_bytes(b"broken")
    unlabelled = Domain(DomainConfig(layout="folder", root=str(root), labelled=False), SPACE)
    assert unlabelled[0].label is None


def test_a_plain_folder_of_photographs_is_a_target(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "night" / "x.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    photographs = Domain(DomainConfig(layout="folder", root=str(tmp_path), labelled=False), SPACE)
    assert len(photographs) == 1
    assert photographs[0].name == "night/x"
    assert photographs[0].image.shape == (9, 9, 3)


def test_label_and_image_of_different_size(root: Path) -> None:
    Image.new("L", (8, 8)).save(root / "labels" / "a.png")
    with pytest.raises(InputError, match=r"a\.png: label is 8x8, its image 16x8; both must have the same size"):
        domain(root, {0: "road", 1: "car"})[0]


@pytest.mark.parametrize(
    ("turn", "said"), [(1, ": width and height are swapped; export the label again"), (6, " (turned as its EXIF")]
)
def test_label_of_swapped_sides(root: Path, turn: int, said: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn  # Orientation.
    stored = (8, 16) if turn == 6 else (16, 8)
    Image.new("RGB", stored).save(root / "images" / "a.png", exif=exif)
    Image.new("L", (8, 16)).save(root / "labels" / "a.png")
    with pytest.raises(InputError) as caught:
        domain(root, {0: "road", 1: "car"})[0]
    assert f"a.png: label is 8x16, its image 16x8{said}" in str(caught.value)


def test_no_class_in_common(root: Path) -> None:
    with pytest.raises(InputError, match=r"none of its classes is in label space two; it has cat, void"):
        domain(root, {0: "cat"})


def test_labels_of_16_bits(root: Path) -> None:
    values = np.full((8, 16), 4000, np.uint16)
    values[:, 8:] = 26
    Image.fromarray(values).save(root / "labels" / "a.png")
    sample = domain(root, {4000: "road", 26: "car"})[0]
    assert sample.label is not None
    assert sample.label[0].tolist() == [1] * 8 + [0] * 8


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (None, ["a", "b[1]", "c1", "night/a"]),
        (["a"], ["a"]),
        (["*a"], ["a", "night/a"]),
        (["b[[]1]", "c1"], ["b[1]", "c1"]),
        (["c[1]", "c?", "a"], ["a", "c1"]),
        ([], []),
    ],
)
def test_include_knows_names_and_patterns(patterns: list[str] | None, kept: list[str]) -> None:
    names = ["a", "b[1]", "c1", "night/a"]
    assert [names[position] for position in included(names, patterns)] == kept
