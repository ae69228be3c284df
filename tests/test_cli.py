from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptseg.cli import COMMANDS, main

Run = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must be refused in one line; return that line."""

    def run(*arguments: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        assert exit_.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("adaptseg: ")
        return lines[0]

    return run


@pytest.mark.usefixtures("experiment")
def test_train_evaluate_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, scores, out = tmp_path / "run", tmp_path / "scores.json", tmp_path / "out"
    main(["train", str(tmp_path / "own.yaml"), "--out", str(run), "--seed=3"])
    assert "mIoU" in capsys.readouterr().out
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "result.json",
        "tensorboard",
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"seg1", "adv1", "d1", "lr/segmenter", "images_per_second"} <= lines[0].keys()
    assert (run / "checkpoints" / "last").resolve().name == "step-000004"
    result = json.loads((run / "result.json").read_text())
    assert set(result["iou"]) == {"road", "car", "sky"}
    assert result["seed"] == 3

    main(["evaluate", str(run), "--json", str(scores)])
    assert json.loads(scores.read_text())["miou"] == result["miou"]
    main(["evaluate", str(run / "checkpoints" / "last"), "--json", str(scores), "--protocol=[road,sky]"])
    assert json.loads(scores.read_text())["protocol"]["classes"] == ["road", "sky"]

    main(["predict", str(run), str(tmp_path / "validation" / "images"), "--out", str(out)])
    for name in ("a", "night/b"):
        train_ids = np.array(Image.open(out / "labels" / f"{name}.png"))
        assert train_ids.shape == (48, 64)
        assert train_ids.max() < 3
        assert (out / "colors" / f"{name}.png").exists()
        assert (out / "overlays" / f"{name}.jpg").exists()


@pytest.mark.usefixtures("experiment")
def test_seeds_and_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, out = str(tmp_path / "own.yaml"), tmp_path / "runs"
    main(["train", own, "--seeds", "2", "--out", str(out / "own")])
    assert " ± " in capsys.readouterr().out
    before = (out / "own" / "seed-1" / "result.json").stat().st_mtime_ns
    shutil.copy(own, tmp_path / "plain.yaml")
    with (tmp_path / "plain.yaml").open("a") as file:
        file.write("description: the same again\n")
    main(["compare", own, str(tmp_path / "plain.yaml"), "--seeds=2", "--out", str(out)])
    assert (out / "own" / "seed-1" / "result.json").stat().st_mtime_ns == before  # reused
    summaries = json.loads((out / "comparison.json").read_text())
    assert [summary["name"] for summary in summaries] == ["own", "plain"]
    assert summaries[0]["mious"] == summaries[1]["mious"]  # the same seeds give the same numbers
    assert "| mIoU |" in (out / "comparison.md").read_text()
    with Image.open(out / "side-by-side.png") as picture:
        assert picture.width > 800


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["presets"])
    lines = capsys.readouterr().out.splitlines()
    for name in ("streets", "streets-source", "streets-camvid", "camvid-day-dusk"):
        (line,) = [line for line in lines if line.split()[0] == name]
        assert len(line.split()) > 3


def test_help_is_fast_and_needs_no_torch() -> None:
    code = "import sys; from adaptseg.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        seconds.append(time.perf_counter() - began)
    assert output.splitlines()[-1] == "False"
    assert all(command in output for command in COMMANDS)
    assert min(seconds) < 0.5


def test_unknown_names(refused: Run) -> None:
    assert "'nosuch'" in refused("train", "nosuch")
    assert "'nosuch'" in refused("nosuch")
    assert "model.backbone is 'vgg'" in refused("train", "streets", "--model.backbone", "vgg")
    assert "--model.depth" in refused("train", "streets", "--model.depth=3")
    assert "'gan'" in refused("train", "streets", "--method.name=gan")
    assert "train.steps" in refused("train", "streets", "--train.steps=many")
    assert "nosuch" in refused("evaluate", "nosuch")
    assert "nosuch" in refused("predict", "nosuch", "nosuch.png", "--out", "x")


@pytest.mark.usefixtures("experiment")
def test_wrong_data_is_refused_and_nothing_is_lost(tmp_path: Path, refused: Run) -> None:
    own, source = tmp_path / "own.yaml", tmp_path / "source"
    main(["train", str(own), "--out", str(tmp_path / "run")])
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert str(tmp_path / "run") in refused("train", own, "--out", tmp_path / "run")

    def refused_training(*arguments: str) -> str:
        return refused("train", own, "--out", tmp_path / "other", *arguments)

    assert "nowhere" in refused_training("--source.root=nowhere")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    assert "empty" in refused_training(f"--target.root={tmp_path / 'empty'}")
    assert "cat" in refused_training("--source.classes=[cat, dog, bird]")
    assert "label value 2" in refused_training("--source.label_map={0: road, 1: car, 5: sky}")

    label = source / "labels" / "a.png"
    good = label.read_bytes()
    label.unlink()
    assert str(source / "images" / "a.png") in refused_training()
    Image.new("L", (10, 10)).save(label)
    assert f"{label}: label is 10x10" in refused_training()
    Image.new("RGB", (64, 48)).save(label)
    assert f"{label}: " in refused_training()
    label.write_bytes(good[: len(good) // 2])
    assert f"{label}: not a readable image" in refused_training()
    label.write_bytes(good)
    (source / "images" / "a.png").write_bytes(b"no image")
    assert f"{source / 'images' / 'a.png'}: not a readable image" in refused_training()
    assert not (tmp_path / "other").exists()
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="nosuch"):
        main(["train", "nosuch", "--debug"])


def test_wrong_yaml(tmp_path: Path, refused: Run, experiment: dict[str, Any]) -> None:
    path = tmp_path / "wrong.yaml"
    for text in ("a: [", "- a", "label_space: [a, b]\nmethod: {name: adaptsegnet}\nbogus: 1\n"):
        path.write_text(text)
        refused("train", path)
    path.write_text(json.dumps(experiment | {"method": {"lambda_seg": [1.0]}}))
    assert "method.name" in refused("train", path)
