"""Own data as engines, phones and tools deliver it: each case of shared/cases/own_data has its right outcome."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptseg.config import ExperimentConfig
from adaptseg.data.check import Report, check
from adaptseg.data.domains import Domains, list_domains, open_domains
from adaptseg.data.streets.worlds import STREETS_CLASSES, render
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config

SCRIPTS = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "own_data"
CLASSES = ["road", "sidewalk", "building", "vegetation", "sky", "car"]
IMAGES = 8
SIZE = (120, 90)
RUN_ALL = """
import runpy, sys
folder, out, *scripts = sys.argv[1:]
sys.path.insert(0, folder)
for path in scripts:
    sys.argv = [path, out]
    runpy.run_path(path)
"""

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="shared/cases/own_data is not beside the checkout")


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    scripts = sorted(map(str, SCRIPTS.glob("[0-9]*.py")))
    subprocess.run([sys.executable, "-c", RUN_ALL, str(SCRIPTS), str(folder), *scripts], check=True)
    return folder


def experiment(
    case: Path, source: dict[str, Any], target: dict[str, Any] | None = None, **keys: Any
) -> ExperimentConfig:
    """Return the case's YAML with other keys of the source and the target."""
    content = read_experiment(str(case / "mine.yaml"))[1]
    content |= {"prepared": None, **keys}
    for role, changes in (("source", source), ("target", target or {})):
        domain = {key: value for key, value in (content[role] | changes).items() if value is not None}
        content[role] = domain | {"root": str(case / domain["root"]), "size": None}
    return build_config(content)


def domains(case: Path, source: dict[str, Any], target: dict[str, Any] | None = None, **keys: Any) -> Domains:
    return list_domains(experiment(case, source, target, **keys), uses_target=True)


def checked(case: Path, source: dict[str, Any], target: dict[str, Any] | None = None, **keys: Any) -> Report:
    return check(experiment(case, source, target, **keys), uses_target=True, workers=0)


def street(index: int, style: str = "game", size: tuple[int, int] = SIZE) -> tuple[Any, Any]:
    return render(style, "train", index, size)


def train_ids(label: Any) -> Any:
    table = np.full(256, 255, np.uint8)
    for value, name in enumerate(STREETS_CLASSES):
        if name in CLASSES:
            table[value] = CLASSES.index(name)
    return table[label]


COLORS: dict[str, Any] = {
    "road": [[128, 64, 128]], "sidewalk": "244,35,232", "building": "70,70,70", "fence": "190,153,153",
    "pole": "#999999", "traffic light": "250,170,30", "traffic sign": "220,220,0", "vegetation": "107,142,35",
    "terrain": "152,251,152", "sky": "70,130,180", "person": "220,20,60", "rider": "255,0,0", "car": "#00008E",
    "bus": "0,60,100",
}  # fmt: skip

READ: dict[str, dict[str, Any]] = {
    "01-rgb-cityscapes-palette": {"label_map": COLORS},
    "04-png16": {},
    "10-carla-raw-red-channel": {},
    "11-replicator": {
        "images": "rgb_{name}.png", "labels": "semantic_segmentation_{name}.png", "label_map": COLORS,
    },
    "12-suffix-names": {"images": "{name}_rgb.png", "labels": "{name}_seg.png"},
    "14-other-folder-names": {"images": "img_dir/train", "labels": "ann_dir/train"},
    "19-masks-and-sidecars": {},
    "21-camvid-original": {
        "layout": "folder", "images": "701_StillsRaw_full", "labels": "LabeledApproved_full/{name}_L.png",
        "label_map": COLORS,
    },
    "33-voc-palette-different-per-file": {"label_map": COLORS},
    "54-images-labels-other-root": {
        "root": ".", "images": "rgb", "labels": "annotations",
        "label_map": {**dict(enumerate(STREETS_CLASSES)), 255: "void"},
    },
    "69-masks-folder": {"labels": "masks"},
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_labels_are_read_pixel_for_pixel(cases: Path, name: str) -> None:
    source = domains(cases / name, READ[name]).source
    assert len(source) == IMAGES
    for index in range(IMAGES):
        image, label = street(index)
        sample = source[index]
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.label, train_ids(label))
    report = checked(cases / name, READ[name])
    assert not report.fails, report.findings


def test_a_channel_may_be_named(cases: Path) -> None:
    source = domains(cases / "10-carla-raw-red-channel", {"label_format": "red"}).source
    np.testing.assert_array_equal(source[3].label, train_ids(street(3)[1]))


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "06-jpeg-mask-full-map": (r"8 of 8 labels are \.jpg files, which change pixels", {}),
    "35-duplicate-stems": (r"0000\.jpg and .*0000\.png: two images of one name \(and 7 more", {}),
    "33-voc-palette-different-per-file": ("its palette numbers the colours otherwise than", {}),
    "01-rgb-cityscapes-palette": ("a picture of colours; give label_map the colours", {}),
    "69-masks-folder": ("no folder labels/ in it, but images, masks", {}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_rightly_is_refused(cases: Path, name: str) -> None:
    message, keys = REFUSED[name]
    with pytest.raises(InputError, match=message):
        open_domains(experiment(cases / name, keys), uses_target=True)


def test_two_labels_of_one_name(cases: Path) -> None:
    case = cases / "35-duplicate-stems"
    with pytest.raises(InputError, match=r"0000\.png and .*0000\.tif: two labels of one name"):
        domains(case, {"images": "images/{name}.png"})
    source = domains(case, {"images": "images/{name}.png", "labels": "labels/{name}.png"}).source
    np.testing.assert_array_equal(source[0].label, train_ids(street(0)[1]))
    assert any("8 files in it are not read (8 .jpg)" in note for note in source.layout.notes)


def test_a_color_outside_the_map_is_counted(cases: Path) -> None:
    known = {name: color for name, color in COLORS.items() if name != "sky"}
    source = domains(cases / "01-rgb-cityscapes-palette", {"label_map": known}, label_space=["road", "car"]).source
    with pytest.raises(
        InputError, match=r"0000\.png: \d+ pixels have colours that are not in label_map, such as 70,130"
    ):
        source[0]
    known["default"] = "void"
    assert domains(cases / "01-rgb-cityscapes-palette", {"label_map": known}, label_space=["road", "car"]).source[0]


@pytest.mark.parametrize(
    ("name", "labels"), [("16-labelme-json-only", "labels"), ("17-coco-json", "annotations/instances_default.json")]
)
def test_shapes_are_drawn(cases: Path, name: str, labels: str) -> None:
    classes: dict[str, Any] = {"label_space": ["road", "sky"]}
    source = domains(cases / name, {"labels": labels, "label_map": None}, **classes).source
    found = source[5].label
    assert found is not None
    assert found.shape == (90, 120)
    assert (found[60:89] == 0).all()
    assert (found[:30] == 1).all()
    assert (found[31:60] == 255).all()
    assert not checked(cases / name, {"labels": labels}, **classes).fails


@pytest.mark.parametrize("name", ["40-exif-rotated", "72-exif-labelled-upright"])
def test_sideways_photographs_are_upright(cases: Path, name: str) -> None:
    found = domains(cases / name, {})
    domain, style = (found.target, "camera") if name.startswith("40") else (found.source, "game")
    assert domain is not None
    sample = domain[0]
    image, label = street(0, style, (90, 120))
    assert sample.image.shape == image.shape
    assert np.abs(sample.image.astype(int) - image).mean() < 10  # JPEG.
    if sample.label is not None:
        np.testing.assert_array_equal(sample.label, train_ids(label))
    assert not checked(cases / name, {}).fails
