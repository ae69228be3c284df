"""What `adaptseg budget` looks at before it trains: missing data, broken, empty and corrected labels, copies."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from adaptseg.cli import main
from adaptseg.methods.configuration import build_config
from adaptseg.reports.budget.pool import open_pool
from adaptseg.reports.budget.precheck import precheck
from adaptseg.reports.budget.study import open_budget
from tests.conftest import CLASSES, small_experiment, write_images


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command on tiny own data; return what it says on stderr."""
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b", "c"], labels=True)
    content["target_labelled"] = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    content["train"] |= {"steps": 1, "checkpoint_every": 1, "tensorboard": False}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))

    def run(*options: str) -> str:
        main(["budget", str(tmp_path / "own.yaml"), "--seeds=1", f"--out={tmp_path / 'out'}", *options])
        return capsys.readouterr().err

    return run


def test_what_would_stop_a_budget_midway_is_found_before(
    tmp_path: Path, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*options: str) -> str:
        with pytest.raises(SystemExit):
            command("--dry-run", *options)
        return capsys.readouterr().err

    assert "nowhere: no such folder" in refused(f"--target.root={tmp_path / 'nowhere'}", "--labels=2")
    label = tmp_path / "labelled" / "labels" / "b.png"
    kept = label.read_bytes()
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(label)
    assert "b.png: label value 7 is" in refused("--labels=3")
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(label)
    assert "1 images have no pixel of a class to train (b); they are counted" in command("--dry-run", "--labels=3")
    label.write_bytes(kept)
    assert "images have no pixel" not in command("--dry-run", "--labels=3")


def test_labels_that_were_corrected_since_are_said(tmp_path: Path, command: Callable[..., str]) -> None:
    command("--labels=1")
    assert "newer" not in command("--labels=1", "--dry-run")
    for path in (tmp_path / "labelled" / "labels").iterdir():
        os.utime(path, (time.time() + 60,) * 2)
    said = command("--labels=1", "--dry-run")
    assert "labels are newer than 2 runs that were trained on them" in said
    assert str(tmp_path / "out" / "adapted-1" / "seed-0") in said


def test_of_copies_one_counts(tmp_path: Path) -> None:
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b", "c"], labels=True)
    for kind in ("images", "labels"):
        shutil.copy(tmp_path / f"labelled/{kind}/c.png", tmp_path / f"labelled/{kind}/d.png")
    content["target_labelled"] = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    config = build_config(content)
    pool = open_pool(config)
    assert sorted(pool.digests) == ["a", "b", "c"]
    assert pool.evaluated == 0
    listed = {"images": [{"name": "d", "digest": pool.digests["c"].hex()}, {"name": "c"}, {"name": "a"}]}
    (tmp_path / "suggestion.json").write_text(json.dumps(listed))
    assert open_pool(config, tmp_path / "suggestion.json").chosen == ("c", "a")


def test_a_few_annotations_need_not_show_every_class(tmp_path: Path) -> None:
    """The source has it: neither arm is refused."""
    content = small_experiment(tmp_path)
    write_images(tmp_path / "labelled", ["a", "b"], labels=False)
    corners = [[0, 0], [30, 0], [30, 40], [0, 40]]
    for name, shown in (("a", "road"), ("b", "car")):
        shape = {"label": shown, "points": corners, "shape_type": "polygon"}
        (tmp_path / "labelled" / "labels").mkdir(exist_ok=True)
        text = json.dumps({"shapes": [shape], "imageWidth": 64, "imageHeight": 48, "imagePath": f"{name}.png"})
        (tmp_path / "labelled" / "labels" / f"{name}.json").write_text(text)
    content["target_labelled"] = {"root": str(tmp_path / "labelled")}
    found = open_budget("x", build_config(content), "2", seeds=[0], out=tmp_path / "out", alone="supervised")
    precheck(found)
