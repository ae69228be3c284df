"""Small data sets on disk, and the configuration that trains on them in seconds."""

from __future__ import annotations

import json
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from adaptseg.data.loader import Batch

CLASSES = ["road", "car", "sky"]
PATIENCE = 300.0
"""Seconds after which a process that should have ended, or said something, has failed, on a slow machine too."""


@pytest.fixture(scope="session", autouse=True)
def _same_surroundings() -> Iterator[None]:
    """Give tests, and the processes that they start, what does not depend on the shell.

    A shell starts what runs in the background with SIGINT ignored, `nohup` with SIGHUP, and children inherit it;
    the terminal's width and colours change what is printed.
    """
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "PYTHONWARNINGS"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_COLOR", "1")
        yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hang_up)


def write_images(root: Path, names: list[str], labels: bool, size: tuple[int, int] = (64, 48)) -> None:
    """Write random pictures `images/NAME.png` and labels `labels/NAME.png`; no label equals its mirror image.

    Folders of different names have different pictures.
    """
    rng = np.random.default_rng(zlib.crc32(root.name.encode()))
    for name in names:
        image = root / "images" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(image)
        if labels:
            label = root / "labels" / f"{name}.png"
            label.parent.mkdir(parents=True, exist_ok=True)
            rows, columns = np.indices((size[1], size[0]))
            Image.fromarray(((rows * 3 // size[1] + columns * 2 // size[0]) % 3).astype(np.uint8)).save(label)


def random_batch(seed: int, labelled: bool) -> Batch:
    """Return two random images; eight rows of their labels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(CLASSES), (2, 48, 64), generator=generator)
    labels[:, :8] = 255
    images = torch.randint(0, 256, (2, 3, 48, 64), generator=generator, dtype=torch.uint8)
    return Batch(image=images, label=labels if labelled else None, names=["x", "y"])


@pytest.fixture
def experiment(tmp_path: Path) -> dict[str, Any]:
    """Return an experiment on tiny own folders below `tmp_path`; `tmp_path`/own.yaml holds the same."""
    content = small_experiment(tmp_path)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    return content


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make backbones shallow, for tests of what each block is like; a stage of two has every kind of block."""
    from adaptseg.models import efficientnet, resnet, transformer

    monkeypatch.setitem(resnet.STAGE_BLOCKS, "resnet18", (2, 1, 1, 1))
    monkeypatch.setitem(resnet.STAGE_BLOCKS, "resnet50", (2, 1, 1, 1))
    monkeypatch.setitem(transformer.MIT, "mit_b0", (transformer.MIT["mit_b0"][0], (2, 1, 1, 1)))
    monkeypatch.setitem(transformer.VIT, "small", (384, 4, 6))
    shallow = tuple((1 + (stage == 1), *rest) for stage, (_, *rest) in enumerate(efficientnet.STAGES))
    monkeypatch.setattr(efficientnet, "STAGES", shallow)


def logged_iterations(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log but for those of snapshots."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "lr/segmenter" in line]


def small_experiment(tmp_path: Path) -> dict[str, Any]:
    """Write tiny data sets below a folder and return an experiment on them that trains in seconds."""
    write_images(tmp_path / "source", ["a", "b", "c", "d"], labels=True)
    write_images(tmp_path / "target", ["a", "b", "c"], labels=False)
    write_images(tmp_path / "validation", ["a", "night/b"], labels=True)
    return {
        "label_space": CLASSES,
        "source": {"layout": "folder", "root": str(tmp_path / "source"), "classes": CLASSES},
        "target": {"layout": "folder", "root": str(tmp_path / "target")},
        "evaluation": {"root": str(tmp_path / "validation"), "classes": CLASSES},
        "model": {
            "backbone": "resnet18",
            "width": 8,
            "levels": 1,
            "batch_norm": "trained",
            "preprocessing": "imagenet",
        },
        "method": {"name": "adaptsegnet", "lambda_seg": [1.0], "lambda_adv": [0.01], "discriminator": {"channels": 4}},
        "optimizer": {"name": "adam", "lr": 0.001},
        "train": {
            "steps": 4,
            "batch": 2,
            "log_every": 1,
            "checkpoint_every": 2,
            "flip": True,
            "device": "cpu",
            "report": False,
        },
    }
