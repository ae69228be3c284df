"""Own data as engines, phones and tools deliver it: each case of shared/cases/own_data has its right outcome."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
    ("name", "labels", "width"),
    [("16-labelme-json-only", "labels", 120), ("17-coco-json", "annotations/instances_default.json", 119)],
)
def test_shapes_are_drawn(cases: Path, name: str, labels: str, width: int) -> None:
    """Both reach to x = 119 and y = 29: the last pixels of LabelMe, the border before them in COCO."""
    classes: dict[str, Any] = {"label_space": ["road", "sky"]}
    source = domains(cases / name, {"labels": labels, "label_map": None}, **classes).source
    found = source[5].label
    assert found is not None
    assert found.shape == (90, 120)
    assert (found[60:89, :width] == 0).all()
    assert (found[:29, :width] == 1).all()
    assert (found[31:60] == 255).all()
    assert (found[:, width:] == 255).all()
    assert not checked(cases / name, {"labels": labels}, **classes).fails


def warnings_of(case: Path, capsys: pytest.CaptureFixture[str], source: dict[str, Any], **keys: Any) -> str:
    open_domains(experiment(case, source, **keys), uses_target=True)
    return capsys.readouterr().err


def test_masks_that_were_interpolated_are_warned_of(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = warnings_of(cases / "24-antialiased-mask", capsys, {})
    assert re.search(
        r"source: .*renderings: 1\d\.\d % of the pixels of 8 labels lie on borders, with a value between", said
    )
    texts = [finding.text for finding in checked(cases / "24-antialiased-mask", {}).findings]
    assert any("lie on borders" in text for text in texts)
    assert "lie on borders" not in warnings_of(cases / "04-png16", capsys, {})


def test_masks_of_0_and_255_have_their_own_sentence(cases: Path) -> None:
    case = cases / "73-binary255-written-as-0-1"
    keys: dict[str, Any] = {"label_space": ["background", "road"]}
    message = "no pixel in 8 labels is of class 'road': the labels hold 0 and 255, and 255 is ignored; write label_map"
    with pytest.raises(InputError, match=message):
        open_domains(experiment(case, {}, **keys), uses_target=True)
    assert any(re.search(message, finding.text) for finding in checked(case, {}, **keys).findings)
    read = domains(case, {"label_map": {0: "background", 255: "road"}, "classes": None}, **keys).source[0].label
    np.testing.assert_array_equal(read, street(0)[1] == 0)


def test_a_class_without_a_pixel_is_told_before_the_first_step(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = cases / "74-class-absent-in-source-trained"
    assert "source: " in (said := warnings_of(case, capsys, {}))
    assert "no pixel in 8 labels is of class 'truck': it cannot be learnt" in said
    with pytest.raises(InputError, match="is of class 'truck': it cannot be learnt"):
        open_domains(experiment(case, {}, label_space=["road", "truck"]), uses_target=True)
    with pytest.raises(InputError, match="label_space has 'void', the name of what is ignored"):
        open_domains(experiment(case, {}, label_space=["road", "void"]), uses_target=True)


def test_avif_is_read_and_heic_names_its_extra(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases / "42-avif-heic"
    avif = domains(case, {}, {"images": "{name}.avif"})
    assert avif.target is not None
    assert avif.target[3].image.shape == (90, 120, 3)
    assert any("4 files in it are not read (4 .heic): IMG_10.HEIC" in note for note in avif.target.layout.notes)
    monkeypatch.setattr("adaptseg.data.layouts.folder.find_spec", lambda name: None)
    message = r"4 of 8 images are HEIC: IMG_10\.HEIC, IMG_11\.HEIC, IMG_12\.HEIC, …; pip install 'adaptseg\[heic\]'"
    with pytest.raises(InputError, match=message):
        domains(case, {})


def test_a_film_is_a_target(cases: Path) -> None:
    case = cases / "44-video-target"
    target = domains(case, {}, {"every": 3}).target
    assert target is not None
    assert target.layout.names == [f"drive/{number:06d}" for number in range(0, 20, 3)]
    for index in (6, 0, 3, 4, 1):  # In any order.
        image = street(3 * index % IMAGES, "camera")[0]
        assert np.abs(target[index].image.astype(int) - image).mean() < 16, index  # MPEG-4.
    assert "7 frames are read, one in 3" in target.layout.notes[0]
    again = pickle.loads(pickle.dumps(target.layout))
    np.testing.assert_array_equal(again.image(5), target[5].image)
    assert not checked(case, {}, {"every": 3}).fails
    film = domains(case, {}, {"images": "drive.mp4", "every": 10}).target
    assert film is not None
    assert len(film) == 2
    root = domains(case, {}, {"root": "photographs/drive.mp4", "every": 10}).target
    assert root is not None
    assert root.layout.names == film.layout.names == ["drive/000000", "drive/000010"]


def test_deep_images_have_the_range_of_the_data(cases: Path) -> None:
    case = cases / "57-12bit-thermal"
    found = domains(case, {})
    assert found.target is not None
    low, high = found.value_range or (0, 0)
    assert 0 <= low < 200 < 800 < high <= 1020
    grey = np.asarray(Image.fromarray(street(2, "camera")[0]).convert("L")).astype(float) * 4
    expected = np.clip((grey - low) / (high - low) * 255, 0, 255)
    assert np.abs(found.target[2].image - expected[:, :, None]).max() < 1
    findings = checked(case, {}).findings
    assert any("8 of 8 images looked at have more than 8 bits; values" in finding.text for finding in findings)
    fixed = domains(case, {}, {"value_range": [0, 1020]}).target
    assert fixed is not None
    np.testing.assert_array_equal(fixed[2].image[:, :, 0], np.rint(grey / 4))


def test_many_broken_files_are_one_line(cases: Path, tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(cases / "04-png16", case)
    for path in sorted((case / "renderings" / "labels").iterdir())[:5]:
        path.write_bytes(path.read_bytes()[:50])
    broken = [finding for finding in checked(case, {}).findings if finding.kind == "broken"]
    assert len(broken) == 1
    assert "(5 files are so: 0000.png, 0001.png, 0002.png, …)" in broken[0].text


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


@pytest.mark.parametrize(("resize", "warned"), [("keep", "crops away"), ("squeeze", "distort")])
def test_a_box_of_another_ratio_is_warned_of_with_one_that_fits(cases: Path, resize: str, warned: str) -> None:
    options = [f"--source.resize={resize}", f"--target.resize={resize}", "--prepared=null"]
    config = build_config(read_experiment(str(cases / "70-aspect-squeezed" / "mine.yaml"))[1], options)
    texts = {found.role: found.text for found in check(config, True, 0).findings if warned in found.text}
    assert texts.keys() == {"source", "target"}
    assert all("size [120, 88]" in text for text in texts.values()), texts
