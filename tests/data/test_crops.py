from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.config import TrainConfig
from adaptseg.data.crops import RARE_CLASS_CROP_SHARE, CropContents, crop
from adaptseg.data.dataset import Domain, Sample
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import StepDataset
from adaptseg.data.sampling import RareClassSampling, kept_class_pixels, rare_class_sampling
from adaptseg.methods.configuration import build_config
from tests.conftest import CLASSES


def sample_with(label: np.ndarray[Any, np.dtype[np.uint8]]) -> Sample:
    return Sample("a", np.zeros((*label.shape, 3), np.uint8), label)


def chosen(sample: Sample, contents: CropContents, rare_class: int | None, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    first = tuple(rng.random(2).tolist())
    return contents.choose(partial(crop, sample, (16, 16)), first, rng, rare_class).label


def test_the_rare_class_is_in_the_crop() -> None:
    """Where it is one of three places in the image, a first crop misses it twice in three."""
    label = np.zeros((16, 48), np.uint8)
    label[4:8, 36:40] = 1
    shares = [(chosen(sample_with(label), CropContents(), 1, seed) == 1).mean() for seed in range(200)]
    assert np.mean(np.array(shares) > RARE_CLASS_CROP_SHARE) > 0.95
    once = [(chosen(sample_with(label), CropContents(), None, seed) == 1).mean() for seed in range(200)]
    assert np.mean(np.array(once) > RARE_CLASS_CROP_SHARE) < 0.6


def test_without_a_crop_that_shows_enough_the_best_is_taken() -> None:
    label = np.zeros((16, 32), np.uint8)
    label[0, 16] = 1  # One pixel is 0.4 % of a crop, and 0.57 % are wanted.
    found = [(chosen(sample_with(label), CropContents(), 1, seed) == 1).sum() for seed in range(50)]
    assert sum(found) >= 48


def test_number_of_new_crops() -> None:
    cuts: list[tuple[float, float]] = []

    def cut(place: tuple[float, float]) -> Sample:
        cuts.append(place)
        return sample_with(np.zeros((16, 16), np.uint8))

    for contents, rare_class, expected in (
        (CropContents(rare_class_crops=3), 1, 4),
        (CropContents(rare_class_crops=3), None, 1),
        (CropContents(largest_class=0.75), None, 11),
    ):
        cuts.clear()
        contents.choose(cut, (0.0, 0.0), np.random.default_rng(0), rare_class)
        assert len(cuts) == len(set(cuts)) == expected


def test_one_class_does_not_fill_the_crop() -> None:
    label = np.full((16, 64), 255, np.uint8)
    label[:8, :40] = 0
    label[:8, 40:] = np.arange(24) % 3
    for seed in range(30):
        pixels = np.bincount(chosen(sample_with(label), CropContents(largest_class=0.75), None, seed).ravel())[:3]
        assert pixels.max() / pixels.sum() < 0.75


def test_source_crops_alone_are_drawn_anew(experiment: dict[str, Any]) -> None:
    domain = Domain(build_config(experiment).domain("source"), label_space(CLASSES))
    sampling = RareClassSampling(np.array([[10, 10, 0]] * 3 + [[10, 10, 100]]), 0.01)
    settings = TrainConfig(batch=2, crop=(12, 12), crop_largest_class=0.01)
    rare = StepDataset(domain, "source", 1, replace(settings, crop_largest_class=None), sampling)
    for step in range(5):
        batch = rare[step]
        assert batch["label"] is not None
        assert (rare[step]["image"] == batch["image"]).all()
        for label, (_, rare_class) in zip(batch["label"], sampling.draw(1, step, 2), strict=True):
            assert (label == rare_class).float().mean() > RARE_CLASS_CROP_SHARE
    halves = [StepDataset(domain, "source", 1, settings, sampling, share=(i, 2))[3]["image"] for i in range(2)]
    whole = StepDataset(domain, "source", 1, settings, sampling)[3]["image"]
    assert (torch.cat(halves) == whole).all()
    scaled = replace(settings, scale_jitter=(0.9, 1.1))
    assert StepDataset(domain, "source", 1, scaled, sampling)[0]["image"].shape == whole.shape
    of_target = [
        StepDataset(domain, "target", 1, replace(settings, crop_largest_class=share))[0] for share in (0.01, None)
    ]
    assert (of_target[0]["image"] == of_target[1]["image"]).all(), "the target's labels are not looked at"


def test_counts_of_other_labels_are_not_taken(experiment: dict[str, Any], tmp_path: Path) -> None:
    """A failed first attempt, with other classes or other files, must not decide what the second one samples."""
    config = build_config(experiment, ["--train.rare_class_temperature=0.1"])
    kept = tmp_path / "class_pixels.npz"
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "source" / "labels" / "a.png")

    def probabilities(classes: list[str]) -> list[float]:
        domain = Domain(config.domain("source"), label_space(classes))
        sampling = rare_class_sampling(domain, config.train, kept)
        assert sampling is not None
        return [float(p) for p in sampling.probabilities]

    first = probabilities(CLASSES)
    assert first[0] < 0.9 * first[2]
    mistaken = kept.read_bytes()
    assert probabilities(CLASSES) == first
    assert kept.read_bytes() == mistaken, "the same labels are not counted twice"
    assert probabilities(CLASSES[::-1]) == pytest.approx(first[::-1])
    found = kept_class_pixels(kept)
    assert found is not None
    (tmp_path / "source" / "labels" / "a.png").write_bytes((tmp_path / "source" / "labels" / "b.png").read_bytes())
    kept.write_bytes(b"broken")
    assert kept_class_pixels(kept) is None
    assert len(probabilities(CLASSES[:2])) == 2
