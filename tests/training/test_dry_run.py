from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.errors import InputError
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.training.dry_run import dry_run
from adaptseg.training.loop import train


def lines(experiment: dict[str, Any], tmp_path: Path, *overrides: str) -> list[str]:
    return list(dry_run(build_config(experiment, list(overrides)), tmp_path / "run"))


def test_says_what_a_training_would_do(experiment: dict[str, Any], tmp_path: Path) -> None:
    text = "\n".join(lines(experiment, tmp_path))
    assert "4 images at their own sizes, layout folder" in text
    assert "3 of 3 classes in 4 labels" in text
    assert "4 steps of batch 2 + 2 on cpu, 32-true, poly schedule over 4" in text
    assert "nothing was written" in text
    assert not (tmp_path / "run").exists()


def test_a_method_without_target(experiment: dict[str, Any], tmp_path: Path) -> None:
    text = "\n".join(lines(experiment, tmp_path, "--method.name=source_only"))
    assert "target      not used by source_only" in text
    assert "batch 2 on cpu" in text


def test_labels_of_no_trained_class_are_refused(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "source" / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 9, np.uint8)).save(path)
    experiment["source"] |= {"classes": None, "label_map": {9: "void", 0: "road", 1: "car", 2: "sky"}}
    with pytest.raises(InputError, match="no pixel in 4 labels is of class 'road', 'car', 'sky'"):
        lines(experiment, tmp_path)


def test_absent_classes_are_named(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "source" / "labels").iterdir():
        Image.fromarray(np.repeat([[1], [2]], 24, 0).repeat(64, 1).astype(np.uint8)).save(path)
    assert any("2 of 3 classes in 4 labels (none of road)" in line for line in lines(experiment, tmp_path))


def test_broken_weights_are_found(experiment: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"page\.pth"):
        lines(experiment, tmp_path, f"--model.weights={tmp_path / 'page.pth'}")


def test_weights_that_are_not_finite_are_found(experiment: dict[str, Any], tmp_path: Path) -> None:
    state = build_segmenter(build_config(experiment)).network.state_dict()
    torch.save(state | {"conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"losses \{'seg1': nan"):
        lines(experiment, tmp_path, f"--model.weights={tmp_path / 'nan.pth'}")


@pytest.mark.parametrize("method", ["adaptsegnet", "dacs"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_size_of_a_checkpoint_is_the_real_one(
    method: str, optimizer: str, experiment: dict[str, Any], tmp_path: Path
) -> None:
    experiment["method"] = {"name": method}
    experiment["model"]["width"] = 32
    experiment["optimizer"] = {"name": optimizer, "lr": 0.001}
    config = build_config(experiment, ["--train.steps=1", "--train.precision=bf16-mixed"])
    (line,) = [line for line in dry_run(config, tmp_path / "run") if line.startswith("checkpoints")]
    train(config, tmp_path / "run")
    size = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoints" / "last").iterdir())
    stated = float(re.search(r"about (\d+) MB", line)[1])  # type: ignore[index]
    assert stated == pytest.approx(size / 1e6, abs=0.8)
