from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptseg.cli import main
from adaptseg.data_check import Report, check
from adaptseg.experiment import build_config
from tests.data.published_trees import build_tree


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
    assert all("\n" not in text for text in errors)
    assert report.fails


def test_classes_that_never_occur(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "source" / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 1, np.uint8)).save(path)
    report = checked(experiment)
    (warning,) = texts(report, fatal=False)
    assert warning.startswith("source: road, sky in no label")
    assert not report.fails
    for path in (tmp_path / "validation" / "labels").rglob("*.png"):
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path)
    (error,) = texts(checked(experiment), fatal=True)
    assert error.startswith("evaluation: no pixel is of a class of road, car, sky")


def test_leakage(experiment: dict[str, Any], tmp_path: Path) -> None:
    """The same pixels in another file format and under another name."""
    image = Image.open(tmp_path / "validation" / "images" / "night" / "b.png")
    image.save(tmp_path / "target" / "images" / "other.bmp")
    (warning,) = texts(checked(experiment), fatal=False)
    assert warning.startswith("evaluation: 1 images are also in target (night/b is other there)")
    assert texts(checked(experiment, "--method.name=source_only"), fatal=False) == []


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
