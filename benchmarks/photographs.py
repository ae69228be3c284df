"""What predictions are timed on: a network with random weights, and photographs that weigh what a camera's do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import label_space
from adaptseg.data.streets.worlds import STREETS_CLASSES, render
from adaptseg.export.export import write_weights
from adaptseg.models.build import build_network
from adaptseg.segmenter.hub import export_card
from adaptseg.segmenter.segmenter import Segmenter

NOISE = 4.0
"""Standard deviation of a sensor's noise: with it a JPEG of quality 90 has the 0.7 MB of a camera's at 1920x1080."""


def write_model(path: Path, input_size: tuple[int, int] | None, backbone: str = "efficientnet_lite0") -> Path:
    """Write a segmenter of 14 classes with random weights that sees images in a box, or at their own size."""
    model = ModelConfig(backbone=backbone, levels=1).filled("tensorflow", "second", "trained")
    classes = label_space(list(STREETS_CLASSES))
    network = build_network(model, len(classes), seed=0)
    settings = network.config
    segmenter = Segmenter(network, classes, settings.preprocessing or "", bool(settings.align_corners), input_size)
    write_weights(segmenter.eval(), export_card(segmenter, {}), path)
    return path


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write rendered streets of `size` (width, height), enlarged, with noise, as JPEG of quality 90."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scenes = [render("camera", "benchmark", index, (512, 288))[0] for index in range(min(count, 8))]
    paths = [folder / f"{index:05d}.jpg" for index in range(count)]
    for path, scene in zip(paths, (scenes[index % len(scenes)] for index in range(count)), strict=True):
        pixels = cv2.resize(scene, size, interpolation=cv2.INTER_CUBIC) + rng.normal(0, NOISE, (*size[::-1], 1))
        Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(path, quality=90)
    return paths
