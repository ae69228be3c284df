"""`init`: evaluation, targets, what is refused and said, the page, and four commands from folders to predictions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptseg.cli import main
from adaptseg.data.check import check
from adaptseg.data.discovery.names import Naming, read_names
from adaptseg.data.discovery.tables import tables
from adaptseg.data.domains import list_domains
from adaptseg.data.files import FolderTree
from adaptseg.data.label_spaces import CITYSCAPES_COLORS
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.reports.discovery import summary
from tests.data.discovery import annotated_forms
from tests.data.discovery.drawing import CLASSES, OWN, colored, each, photograph, photographs, save, scene, valued
from tests.data.discovery.test_forms import proposed

FROM_ZERO = {name: value for value, name in enumerate(CLASSES)}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Colours without names in the source, photographs in the target."""
    each(tmp_path / "source", "images/{:04}.png", "labels/{:04}.png", colored(OWN))
    photographs(tmp_path / "target")
    return tmp_path


def name_colors(folder: Path, names: dict[str, str] | None = None) -> None:
    rows = [f"{r} {g} {b}\t{(names or {}).get(name, name)}" for name, (r, g, b) in OWN.items()]
    (folder / "label_colors.txt").write_text("\n".join(rows))


def test_an_evaluation_meets_the_source_by_names_of_its_own(folders: Path) -> None:
    name_colors(folders / "source")
    each(folders / "labelled", "rgb/{:04}.png", "gt/{:04}.png", lambda ids: (ids + 7).astype(np.uint8))
    names = {"7": "Sky", "8": "Buildings", "9": "Roads", "10": "vehicle", "11": "Tree"}
    (folders / "labelled/classes.json").write_text(json.dumps(names))
    proposal, config = proposed(folders, evaluation=folders / "labelled")
    assert config.label_space == ["sky", "building", "road", "car", "vegetation"] or set(config.label_space) == set(
        CLASSES
    )
    assert set(config.domain("evaluation").label_map.values()) == set(CLASSES)  # type: ignore[union-attr]
    assert not check(config, uses_target=True, workers=0).fails
    assert proposal.protocol is None


def test_classes_that_the_evaluation_lacks_are_not_averaged(folders: Path) -> None:
    name_colors(folders / "source")
    each(folders / "labelled", "images/{:04}.png", "labels/{:04}.png", lambda ids: np.minimum(ids, 2))
    (folders / "labelled/classes.txt").write_text("sky\nbuilding\nroad\n")
    _, config = proposed(folders, evaluation=folders / "labelled")
    assert set(config.protocol or ()) == {"sky", "building", "road"}


def test_an_evaluation_of_other_names_is_left_out_and_said(folders: Path) -> None:
    name_colors(folders / "source")
    each(folders / "labelled", "images/{:04}.png", "labels/{:04}.png")
    (folders / "labelled/classes.txt").write_text("cat\ndog\ncow\nhorse\nsheep\n")
    proposal, config = proposed(folders, evaluation=folders / "labelled")
    assert not config.has_evaluation
    assert "labels are called cat, dog, cow, …" in proposal.notes[0]


def test_a_labelled_target_keeps_a_part_for_evaluation(folders: Path) -> None:
    name_colors(folders / "source")
    for index in range(10):
        save(folders / f"labelled/images/{index}.png", scene(index % 6)[:, :, None].repeat(3, 2) * 50 + index)
        save(folders / f"labelled/labels/{index}.png", scene(index % 6))
    (folders / "labelled/classes.txt").write_text("\n".join(CLASSES))
    (folders / "target").rename(folders / "plain")
    (folders / "labelled").rename(folders / "target")
    _, config = proposed(folders)
    assert config.target.part == (0.0, 0.8)
    assert config.evaluation.part == (0.8, 1.0)
    report = check(config, uses_target=True, workers=0)
    assert {role: summary.images for role, summary in report.domains.items()} == {
        "source": 6,
        "target": 8,
        "evaluation": 2,
    }


def test_names_are_text(folders: Path) -> None:
    """No name of a file or class is taken for YAML or HTML."""
    name_colors(folders / "source", {"road": "on", "sky": "a: #b", "car": "<i>car</i>"})
    _, config = proposed(folders)
    assert {"on", "a: #b", "<i>car</i>"} <= set(config.label_space)


def without_labels(folder: Path) -> None:
    shutil.rmtree(folder / "source/labels")


def without_photographs(folder: Path) -> None:
    for path in (folder / "target").iterdir():
        path.rename(path.with_suffix(".doc"))


def without_target(folder: Path) -> None:
    shutil.rmtree(folder / "target")


def without_source(folder: Path) -> None:
    shutil.rmtree(folder / "source")


def of_one_class(folder: Path) -> None:
    for path in (folder / "source/labels").iterdir():
        save(path, np.zeros((36, 48), np.uint8))


def of_two_kinds(folder: Path) -> None:
    each(folder / "source", "images/{:04}.png", "masks/{:04}.png", lambda ids: (ids > 1).astype(np.uint8))


def smoothed(folder: Path) -> None:
    for index, path in enumerate(sorted((folder / "source/labels").iterdir())):
        large = Image.fromarray(colored(CITYSCAPES_COLORS)(scene(index))).resize((480, 360))
        save(path, np.array(large))
        save(folder / f"source/images/{path.name}", np.array(Image.fromarray(photograph(index)).resize((480, 360))))


def copied(folder: Path, suffix: str) -> None:
    for path in folder.iterdir():
        Image.open(path).convert("RGB").save(path.with_suffix(suffix))


def of_converted_images(folder: Path) -> None:
    copied(folder / "source/images", ".jpg")


def of_converted_labels(folder: Path) -> None:
    copied(folder / "source/labels", ".tif")


def of_converted_photographs(folder: Path) -> None:
    copied(folder / "target", ".webp")


def of_converted_renderings(folder: Path) -> None:
    """One folder, names that tell images from labels."""
    for kind in ("images", "labels"):
        for path in (folder / "source" / kind).iterdir():
            path.rename(folder / f"source/{kind}_{path.name}")
    for path in (folder / "source").glob("images_*"):
        Image.open(path).save(path.with_suffix(".jpg"))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (without_labels, "no labels that belong to images (6 .png)"),
        (without_photographs, "target: no images (6 .doc)"),
        (without_target, "target: no such folder"),
        (without_source, "source: no such folder"),
        (of_one_class, "two are needed"),
        (of_two_kinds, "could both be the labels, and they differ; say which with --labels"),
        (smoothed, "borders are smoothed"),
        (of_converted_images, "images/0000.png: two images of one name (and 5 more such pairs); keep one of them"),
        (of_converted_labels, "labels/0000.tif: two labels of one name (and 5 more such pairs); keep one of them"),
        (of_converted_photographs, "two images of one name (and 5 more such pairs); keep one of them"),
        (of_converted_renderings, "two images of one name (and 5 more such pairs); keep one of them"),
    ],
)
def test_refused_in_one_line_with_the_cure(folders: Path, break_it: Callable[[Path], None], says: str) -> None:
    break_it(folders)
    with pytest.raises(InputError) as refusal:
        proposed(folders)
    assert says in str(refusal.value)


def test_the_suffix_alone_may_tell_images_from_labels(folders: Path) -> None:
    for path in (folders / "source/images").iterdir():
        Image.open(path).save(folders / f"source/{path.stem}.jpg")
    for path in (folders / "source/labels").iterdir():
        path.rename(folders / "source" / path.name)
    shutil.rmtree(folders / "source/images")
    _, config = proposed(folders)
    assert (config.source.images, config.source.labels) == ("{name}.jpg", "{name}.png")
    assert not check(config, uses_target=True, workers=0).fails


def test_labels_may_lie_elsewhere(folders: Path) -> None:
    (folders / "source/labels").rename(folders / "annotations")
    (folders / "source/images").rename(folders / "rgb")
    (folders / "source").rmdir()
    (folders / "rgb").rename(folders / "source")
    _, config = proposed(folders, labels=folders / "annotations")
    assert (config.source.images, config.source.labels) == ("source", "annotations")
    assert not check(config, uses_target=True, workers=0).fails


@pytest.mark.parametrize(
    ("file", "text", "colors", "values"),
    [
        ("label_colors.txt", "64 128 64\tAnimal\n192 0 128\tArchway", {(64, 128, 64): "Animal"}, {}),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:1,2,3::\n", {(1, 2, 3): "road"}, {}),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, road\n", {}, {1: "road"}),
        ("class_dict.csv", "name,r,g,b\nroad,1,2,3\n", {(1, 2, 3): "road"}, {}),
        ("ontology.json", '{"#010203": "road", "#040506": "sky"}', {(1, 2, 3): "road"}, {}),
        ("meta.json", '{"classes": [{"title": "road", "color": "#010203"}]}', {(1, 2, 3): "road"}, {}),
        ("a.json", '{"categories": [{"id": 4, "name": "road", "supercategory": "x"}]}', {}, {4: "road"}),
        ("id2label.json", '{"0": "wall", "1": "road"}', {}, {1: "road"}),
        ("data.yaml", "names: {0: wall, 1: road}\nnc: 2", {}, {1: "road"}),
        ("labels.json", '{"(1, 2, 3, 255)": {"class": "road"}}', {(1, 2, 3): "road"}, {}),
    ],
)
def test_names_from_files(tmp_path: Path, file: str, text: str, colors: object, values: object) -> None:
    (tmp_path / file).write_text(text)
    naming = read_names(FolderTree(tmp_path), file) or Naming("")
    assert colors.items() <= naming.colors.items()  # type: ignore[attr-defined]
    assert values.items() <= naming.values.items()  # type: ignore[attr-defined]


@pytest.mark.parametrize("keys", ["label_space: [sky, wall]", "source: {label_map: {0: sky, 1: wall}}"])
def test_an_experiment_beside_the_data_names_no_classes(folders: Path, keys: str) -> None:
    """It is of other data, however it is called: `labelled.yaml`."""
    (folders / "labelled.yaml").write_text(f"{keys}\ntarget:\n  label_map: {{10: wall, 250: sky}}")
    assert not read_names(FolderTree(folders), "labelled.yaml")
    proposal, _ = proposed(folders)
    assert proposal.source.named_by != "labelled.yaml"


def test_an_evaluation_whose_labels_are_not_clear_has_a_cure_of_its_own(folders: Path) -> None:
    """`--labels` is of the source."""
    name_colors(folders / "source")
    cure = "; give --evaluation a folder with the images and those labels alone, or write evaluation into the YAML"
    each(folders / "labelled", "images/{:04}.png", "")
    with pytest.raises(InputError, match="no labels that belong to images") as caught:
        proposed(folders, evaluation=folders / "labelled")
    assert cure in str(caught.value)
    each(folders / "labelled", "images/{:04}.png", "labels/{:04}.png")
    each(folders / "labelled", "images/{:04}.png", "masks/{:04}.png", lambda ids: (ids > 1).astype(np.uint8))
    with pytest.raises(InputError, match="could both be the labels, and they differ") as caught:
        proposed(folders, evaluation=folders / "labelled")
    assert cure in str(caught.value)
    assert "--labels" not in str(caught.value)


def test_which_of_several_labels_were_taken_is_said_with_the_cure(tmp_path: Path) -> None:
    photographs(tmp_path / "target")
    for name in ("source", "labelled"):
        annotated_forms.roboflow_coco(tmp_path / name)
        shutil.copy(tmp_path / name / "train/_annotations.coco.json", tmp_path / name / "train/_old.coco.json")
    proposal, _ = proposed(tmp_path, evaluation=tmp_path / "labelled")
    said = "labels are train/_annotations.coco.json; there are train/_old.coco.json too: "
    assert proposal.evaluation
    assert f"{said}--labels PATH chooses" in proposal.source.notes
    assert [note for note in proposal.evaluation.notes if note.startswith(f"{said}for those, give --evaluation a")]


def test_tables_have_their_sources() -> None:
    known = {table.name: table for table in tables()}
    assert len(known["ADE20K"].ids) == 151
    assert known["CARLA"].ids[7] == "traffic light"
    assert known["CARLA before 0.9.14"].ids[7] == "road"
    assert known["CamVid"].colors[64, 0, 128] == "car"
    assert known["PASCAL VOC"].colors[192, 128, 128] == known["PASCAL VOC"].ids[15] == "person"
    assert all(table.source for table in known.values())


def test_four_commands(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folders)
    name_colors(folders / "source", {"car": "<b>car</b>"})
    main(["init", "source", "target", "--recipe", "laptop"])
    assert "written: mine.yaml, mine.html" in capsys.readouterr().out
    page = (folders / "mine.html").read_text()
    assert "&lt;b&gt;car&lt;/b&gt;" in page
    assert "<b>car</b>" not in page
    assert page.count("data:image/") > 15
    assert "http://" not in page.replace("http://www.w3.org", "")
    with pytest.raises(SystemExit) as code:
        main(["init", "source", "target"])
    assert code.value.code == 2
    assert "mine.yaml: is there already; add --force" in capsys.readouterr().err
    main(["check", "mine.yaml", "--workers", "1"])
    small = [
        "--train.steps=2",
        "--train.batch=2",
        "--model.weights=null",
        "--train.report=false",
        "--train.tensorboard=false",
    ]
    main(["train", "mine.yaml", "--out", "run", *small])
    main(["predict", "run", "target", "--out", "predictions"])
    assert len(list((folders / "predictions/overlays").iterdir())) == 6


def test_the_terminal_gets_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adaptseg", "init", str(tmp_path / "nothing"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def labelled_by(folder: Path, values: dict[str, int], file: str, text: str) -> list[str]:
    """Write a source with these values and a file of names; return the lines that `init` prints on the classes."""
    each(folder / "source", "images/{:04}.png", "labels/{:04}.png", valued(values))
    (folder / "source" / file).write_text(text)
    photographs(folder / "target")
    proposal, config = proposed(folder)
    assert not check(config, uses_target=True, workers=0).fails
    lines = list(summary(proposal))
    return (
        lines[next(place for place, line in enumerate(lines) if line.startswith("classes")) :] + proposal.source.notes
    )


def test_a_background_is_named_and_said_not_to_be_trained(tmp_path: Path) -> None:
    names = ["background", *CLASSES[1:]]
    lines = labelled_by(tmp_path, FROM_ZERO, "classes.txt", "\n".join(names))
    assert lines[0] == "classes     building, road, car, vegetation"
    assert lines[1].startswith("            not trained: background (27.")
    text = (tmp_path / "mine.yaml").read_text()
    assert re.search(r"0: background # 27\.\d+ %, not trained: add it to label_space if it should be", text)
    (tmp_path / "mine.yaml").write_text(text.replace("label_space: [building", "label_space: [background, building"))
    config = build_config(read_experiment(str(tmp_path / "mine.yaml"))[1])
    assert not check(config, uses_target=True, workers=0).fails
    label = list_domains(config, uses_target=True).source.read(0)[1]
    assert label is not None
    assert 0 in label


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "0 background\n255 drivable\n"),
        ("classes.txt", "background\ndrivable\n"),
        ("classes.json", '{"0": "background", "255": "drivable"}'),
    ],
)
def test_masks_of_0_and_255_take_names_from_files(tmp_path: Path, file: str, text: str) -> None:
    values = dict.fromkeys(CLASSES, 0) | {"road": 255}
    assert labelled_by(tmp_path, values, file, text) == ["classes     background, drivable"]


def test_names_that_may_count_from_one_are_said(tmp_path: Path) -> None:
    values = FROM_ZERO | {"vegetation": 5}
    *_, note = labelled_by(tmp_path, values, "classes.txt", "\n".join(CLASSES))
    assert note.startswith("classes.txt has 5 names for the values 0 … 5: the first is taken for 0; if they count from")


def test_a_dark_grey_of_a_legend_is_a_colour(tmp_path: Path) -> None:
    text = '{"road": [10, 10, 10], "sky": [200, 30, 30], "car": [7, 8, 9]}'
    (tmp_path / "legend.json").write_text(text)
    naming = read_names(FolderTree(tmp_path), "legend.json") or Naming("")
    assert (naming.colors[10, 10, 10], naming.values) == ("road", {})


def test_depths_beside_are_no_images(tmp_path: Path) -> None:
    each(tmp_path / "source", "rgb_{:04}.png", "semantic_segmentation_{:04}.png", colored(OWN))
    for index in range(6):
        np.save(
            tmp_path / "source" / f"distance_to_camera_{index:04}.npy", np.random.default_rng(index).random((36, 48))
        )
    photographs(tmp_path / "target")
    _, config = proposed(tmp_path)
    assert (config.source.images, config.source.labels) == ("rgb_{name}", "semantic_segmentation_{name}")


def test_what_holds_no_pictures_is_said(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for index in range(4):
        (tmp_path / "source" / f"{index}.hdf5").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no images \(4 \.hdf5\); \.hdf5 are not read: write them as PNG first"):
        proposed(tmp_path)
