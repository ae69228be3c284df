from __future__ import annotations

import json
import os
import shutil
import signal
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptseg.cli import main
from adaptseg.data.check import Report, check
from adaptseg.data.domains import list_domains
from adaptseg.data.files import FolderTree
from adaptseg.data.inspection import Part, read_all
from adaptseg.data.layouts.paired_files import Files
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from tests.conftest import CLASSES, write_images
from tests.data.published_trees import TREES, build_tree, pack


def checked(experiment: dict[str, Any], *overrides: str, workers: int = 1) -> Report:
    config = build_config(experiment, list(overrides))
    return check(config, uses_target=config.method.name != "source_only", workers=workers)


def texts(report: Report, fatal: bool) -> list[str]:
    return [finding.text for finding in report.findings if finding.fatal == fatal]


@pytest.mark.parametrize("workers", [1, 2])
def test_sound_data(workers: int, experiment: dict[str, Any]) -> None:
    report = checked(experiment, workers=workers)
    assert report.findings == []
    assert not report.fails
    source = report.domains["source"]
    assert (source.images, source.sizes) == (4, {"64x48": 4})
    assert source.class_shares == pytest.approx({"road": 1 / 6, "car": 1 / 3, "sky": 1 / 2}, abs=0.2)
    assert sum(source.class_shares.values()) == pytest.approx(1)
    assert source.class_images == {"road": 4, "car": 4, "sky": 4}
    assert report.domains["target"].class_shares == {}
    assert json.loads(json.dumps(report.to_dict()))["domains"]["evaluation"]["images"] == 2


def test_everything_that_is_wrong_is_found_at_once(experiment: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    content = (source / "images" / "a.png").read_bytes()
    (source / "images" / "a.png").write_bytes(content[: len(content) // 2])
    Image.new("L", (32, 48)).save(source / "labels" / "b.png")
    Image.new("RGB", (64, 48), (1, 2, 3)).save(source / "labels" / "c.png")
    label = np.zeros((48, 64), np.uint8)
    label[:2, :5] = 77
    Image.fromarray(label).save(source / "labels" / "d.png")
    (tmp_path / "target" / "images" / "b.png").write_text("<html>")
    report = checked(experiment, workers=2)
    errors = texts(report, fatal=True)
    for part in ("a.png", "b.png: label is 32x48, its image 64x48", "c.png", "target/images/b.png"):
        assert any(part in text for text in errors), part
    assert any("d.png: label value 77 is outside the map (10 pixels in 1 labels" in text for text in errors)
    assert len(errors) == 5
    assert [finding.role for finding in report.findings].count("target") == 1
    assert all("\n" not in text for text in errors)
    assert report.fails


def test_a_broken_image_does_not_hide_its_label(experiment: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "source" / "images" / "a.png").write_bytes(b"x")
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(tmp_path / "source" / "labels" / "a.png")
    first, second = texts(checked(experiment), fatal=True)
    assert "images/a.png: not a readable image" in first
    assert "labels/a.png: label value 77 is outside the map (3072 pixels in 1 labels" in second


def test_classes_that_never_occur(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "validation" / "labels").rglob("*.png"):
        Image.fromarray(np.full((48, 64), 1, np.uint8)).save(path)
    report = checked(experiment)
    assert not report.fails
    assert [text.split(" labels: ")[0] for text in texts(report, fatal=False)] == [
        f"{tmp_path / 'validation'}: class 'road' is in none of 2",
        f"{tmp_path / 'validation'}: class 'sky' is in none of 2",
    ]
    assert texts(checked(experiment, "--protocol=[car,sky]"), fatal=False) == texts(report, fatal=False)[1:]
    for path in (tmp_path / "source" / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 1, np.uint8)).save(path)
    errors = texts(checked(experiment), fatal=True)
    assert [text.split(" is in none")[0] for text in errors] == [
        f"{tmp_path / 'source'}: class 'road'",
        f"{tmp_path / 'source'}: class 'sky'",
    ]
    for path in (tmp_path / "validation" / "labels").rglob("*.png"):
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path)
    assert "validation: no pixel is of a class of road, car, sky" in texts(checked(experiment), fatal=True)[-1]


def test_rare_classes_and_grey_of_16_bits_are_warnings(experiment: dict[str, Any], tmp_path: Path) -> None:
    label = np.zeros((48, 64), np.uint8)
    label[:, :30] = 1
    for path in (tmp_path / "source" / "labels").iterdir():
        Image.fromarray(label).save(path)
    label[:2, 0] = 2  # 2 of 12288 pixels
    Image.fromarray(label).save(tmp_path / "source" / "labels" / "b.png")
    Image.fromarray(np.full((48, 64), 40000, np.uint16)).save(tmp_path / "source" / "images" / "c.png")
    report = checked(experiment)
    assert [finding.kind for finding in report.findings] == ["files", "rare"]
    assert not report.fails
    assert (
        "source: 1 of 4 images looked at have more than 8 bits; values 40000 … 40001 become 0 … 255"
        in report.findings[0].text
    )
    assert "class 'sky' is rare, in 1 of 4 labels" in report.findings[1].text
    assert len(texts(checked(experiment, "--train.rare_class_temperature=0.01"), fatal=False)) == 1


def test_leakage(experiment: dict[str, Any], tmp_path: Path) -> None:
    """The same pixels in another file format and under another name, and a file that is in both domains."""
    image = Image.open(tmp_path / "validation" / "images" / "night" / "b.png")
    other = tmp_path / "target" / "images" / "other.bmp"
    image.save(other)
    (tmp_path / "target" / "images" / "link.png").symlink_to(tmp_path / "validation" / "images" / "a.png")
    first, second = texts(checked(experiment), fatal=False)
    assert "images/a.png: this very image is also in target" in first
    assert f"night/b.png: the same picture as {other} in target" in second
    assert texts(checked(experiment, "--method.name=source_only"), fatal=False) == []


def test_labels_in_which_nothing_is_drawn(experiment: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "source" / "labels"
    for name in "bd":
        Image.new("L", (64, 48), 255).save(folder / f"{name}.png")
    (found,) = checked(experiment).findings
    line = "source: 2 of 4 labels have no pixel of a class to train: b, d; label these images"
    assert line in found.text
    assert (found.fatal, found.kind) == (False, "class")
    assert found.files == tuple(str(tmp_path / "source" / "images" / f"{name}.png") for name in "bd")
    images = [
        {"id": number, "file_name": f"{name}.png", "width": 64, "height": 48} for number, name in enumerate("abcd")
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    annotations = [
        {"id": 9 * image + number, "image_id": image, "category_id": number, "segmentation": [[x, 0, x + 9, 0, x, 40]]}
        for image in (0, 2)  # Those of b and d were not drawn; every image of the task is listed.
        for number, x in enumerate((0, 20, 40))
    ]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "source" / "coco.json").write_text(json.dumps(coco))
    assert line in texts(checked(experiment, "--source.labels=coco.json"), fatal=False)[0]


def test_copies_with_different_labels(experiment: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in "bcd":
        (source / "images" / f"{name}.png").write_bytes((source / "images" / "a.png").read_bytes())
    assert checked(experiment).findings == [], "copies with one label"
    Image.fromarray(np.asarray(Image.open(source / "labels" / "d.png"))[:, ::-1]).save(source / "labels" / "d.png")
    label = np.asarray(Image.open(source / "labels" / "c.png"))
    Image.fromarray(label.astype(np.uint16)).save(source / "labels" / "c.png")
    (text,) = texts(checked(experiment), fatal=False)
    assert "source: 1 images are copies of others, but have other labels than these: d; correct the labels" in text


def test_rendered_streets(experiment: dict[str, Any]) -> None:
    streets = {"layout": "streets", "size": [64, 32]}
    experiment["label_space"] = "streets14"
    experiment["source"] = streets | {"root": "game", "count": 30}
    experiment["target"] = streets | {"root": "camera", "count": 3}
    experiment["evaluation"] = {"split": ["val"], "count": 2}
    report = checked(experiment)
    assert report.domains["source"].sizes == {"64x32": 30}
    assert report.domains["target"].class_shares == {}
    assert not any(finding.kind == "leakage" for finding in report.findings)
    experiment["evaluation"] = {"split": ["train"], "count": 2}
    leaks = [finding.text for finding in checked(experiment).findings if finding.kind == "leakage"]
    assert [text.partition(":")[0] for text in leaks] == ["camera-train-00000", "camera-train-00001"]


def test_sizes_that_training_would_refuse(experiment: dict[str, Any], tmp_path: Path) -> None:
    Image.new("RGB", (80, 48)).save(tmp_path / "target" / "images" / "wide.png")
    assert "set target.size" in texts(checked(experiment), fatal=True)[0]
    assert not checked(experiment, "--target.size=[64,48]").fails
    assert not checked(experiment, "--train.batch=1").fails
    assert any("train.crop 70x40" in text for text in texts(checked(experiment, "--train.crop=[70,40]"), fatal=True))


def test_published_layouts_in_archives(experiment: dict[str, Any], tmp_path: Path) -> None:
    build_tree("gta5", tmp_path / "gta5", images=3, zipped=True)
    build_tree("cityscapes", tmp_path / "cityscapes", zipped=True)
    experiment["label_space"] = "cityscapes19"
    experiment["source"] = {"layout": "gta5", "root": str(tmp_path / "gta5")}
    experiment["target"] = {"layout": "cityscapes", "root": str(tmp_path / "cityscapes"), "split": ["train"]}
    experiment["evaluation"] = {"split": ["val"]}
    report = checked(experiment, workers=2)
    assert not report.fails
    assert all(count == 3 for count in report.domains["source"].class_images.values())


def gta5(experiment: dict[str, Any], root: Path) -> list[Path]:
    """Make GTA5 the source of an experiment; return its labels."""
    build_tree("gta5", root, images=3)
    experiment["label_space"] = ["road", "car"]
    experiment["source"] = {"layout": "gta5", "root": str(root)}
    experiment["evaluation"]["classes"] = ["road", "car", "void"]
    return sorted((root / "labels").iterdir())


def test_published_labels_are_counted_past_their_first_unknown_value(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    labels = gta5(experiment, tmp_path / "gta5")
    for path, values in ((labels[1], (98, 99)), (labels[2], (99, 99))):
        picture = Image.open(path)
        pixels = np.array(picture)
        pixels[0, :5], pixels[1, :2] = values
        changed = Image.fromarray(pixels)
        changed.putpalette(picture.getpalette() or [])
        changed.save(path)
    errors = texts(checked(experiment), fatal=True)
    assert [text.partition("; ")[0] for text in errors] == [
        f"{labels[1]}: label value 98 is outside the map (5 pixels in 1 labels, this the first)",
        f"{labels[1]}: label value 99 is outside the map (9 pixels in 2 labels, this the first)",
    ]
    experiment["source"]["label_map"] = {98: "void", 99: "void"}
    assert texts(checked(experiment), fatal=True) == []


def test_files_of_train_ids_are_recognised(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in gta5(experiment, tmp_path / "gta5"):
        values = np.arange(64 * 96, dtype=np.int64).reshape(64, 96) % 19
        Image.fromarray(np.where(values == 3, 255, values).astype(np.uint8)).save(path)
    text = texts(checked(experiment), fatal=True)[0]
    assert "label value 255 is outside the map" in text
    assert text.endswith("these look like train ids: give the published files, with label ids")


def test_a_damaged_member_of_an_archive_is_named(experiment: dict[str, Any], tmp_path: Path) -> None:
    gta5(experiment, tmp_path / "gta5")
    pack(TREES["gta5"], tmp_path / "gta5")
    archive = tmp_path / "gta5" / "02_images.zip"
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo("images/00001.png").header_offset
    content = bytearray(archive.read_bytes())
    content[start + 100 : start + 160] = bytes(60)
    archive.write_bytes(content)
    (error,) = texts(checked(experiment), fatal=True)
    assert error.startswith(f"{archive}/images/00001.png: ")


class Killer(FolderTree):
    """A folder with a file that ends the process that reads it, as the system does where memory runs out."""

    def read(self, name: str) -> bytes:
        if name == "images/c.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(name)


def test_a_killed_worker_is_one_line(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment)
    domain = list_domains(config, uses_target=False).source
    assert isinstance(domain.layout, Files)
    layout = replace(domain.layout, images=Killer(tmp_path / "source"))
    part = Part(role="source", layout=layout, classes=layout.raw_classes)
    with pytest.raises(
        InputError, match=r"near this image, after \d of 4, DataLoader worker .* fewer --workers"
    ) as caught:
        list(read_all([part], workers=2))
    assert "\n" not in str(caught.value)


def test_many_findings_of_a_kind_are_cut_on_the_terminal_only(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "source", [f"[red]{index:02d}" for index in range(25)], labels=True)
    for path in (tmp_path / "source" / "images").glob("*red*"):
        path.write_bytes(b"x")
    os.rename(tmp_path / "target" / "images" / "b.png", os.fsencode(tmp_path / "target" / "images") + b"/\xff.png")
    (tmp_path / "target" / "images" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "own.yaml"), "--workers=1", "--json", str(tmp_path / "out.json")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    assert "[red]00.png: not a readable image" in lines[0]
    assert lines[0].endswith("(25 files are so: [red]00.png, [red]01.png, [red]02.png, …)")
    assert "\\udcff.png: not a readable image" in lines[1]
    assert len(lines) == 2
    assert len(json.loads((tmp_path / "out.json").read_text())["findings"][0]["files"]) == 25


def test_command(experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(tmp_path / "own.yaml"), "--workers=1"])
    shown = capsys.readouterr().out
    assert "0 errors, 0 warnings: training can begin" in shown
    shutil.copy(tmp_path / "own.yaml", tmp_path / "target" / "images" / "x.png")
    with pytest.raises(SystemExit) as caught:
        main(["check", str(tmp_path / "own.yaml"), "--workers=1", "--json", str(tmp_path / "out.json")])
    assert caught.value.code == 2
    assert "1 errors, 0 warnings: training would fail" in capsys.readouterr().out
    (finding,) = json.loads((tmp_path / "out.json").read_text())["findings"]
    assert finding["role"] == "target"
    assert "x.png" in finding["text"]
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "own.yaml"), "--workers=0"])
    assert "--workers 0" in capsys.readouterr().err


def test_an_image_without_label_is_one_line(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source" / "labels" / "c.png").unlink()
    with pytest.raises(SystemExit) as caught:
        main(["check", str(tmp_path / "own.yaml")])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "c.png: no label" in error
    assert len(error.strip().splitlines()) == 1


def test_the_package_of_the_weights_is_asked_for(
    tmp_path: Path, experiment: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("adaptseg.segmenter.pretrained.find_spec", lambda _: None)
    network = ["--model.backbone=efficientnet_lite0", "--model.levels=1", "--model.weights=imagenet"]
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "own.yaml"), *network])
    assert "pip install 'adaptseg[pretrained]'" in capsys.readouterr().err


def test_portraits_and_landscapes_in_equal_number(experiment: dict[str, Any], tmp_path: Path) -> None:
    for number, path in enumerate(sorted((tmp_path / "target" / "images").iterdir())):
        Image.fromarray(np.zeros((90, 40, 3) if number % 2 else (40, 90, 3), np.uint8)).save(path)
    Image.fromarray(np.zeros((90, 40, 3), np.uint8)).save(tmp_path / "target" / "images" / "z.png")
    experiment["target"]["size"] = [72, 32]
    (text,) = [finding.text for finding in checked(experiment).findings if "target.size" in finding.text]
    assert "; a squarer target.size loses less of both, or resize: squeeze" in text
