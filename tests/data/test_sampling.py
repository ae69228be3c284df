from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptseg.config import LabelMapping, TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import StepDataset
from adaptseg.data.sampling import RareClassSampling, class_pixels, rare_class_sampling
from adaptseg.errors import InputError
from adaptseg.methods.configuration import build_config
from tests.conftest import CLASSES


def test_rare_classes_come_more_often() -> None:
    """Equations 7 and 8 of the paper, at temperature 1: ten samples, one with the rare class."""
    pixels = np.zeros((10, 3), np.int64)
    pixels[:, 0] = 900
    pixels[3, 1] = 100  # A share of 100 / 9100; the third class never occurs.
    sampling = RareClassSampling(pixels, 1.0)
    weights = np.exp(1 - np.array([9000, 100]) / 9100)
    np.testing.assert_allclose(sampling.probabilities, [*weights / weights.sum(), 0], rtol=1e-9)
    drawn = Counter(index for step in range(500) for index, _ in sampling.draw(7, step, 4))
    assert drawn[3] / 2000 == pytest.approx(weights[1] / weights.sum() + weights[0] / weights.sum() / 10, abs=0.03)
    assert set(drawn) == set(range(10))
    assert sampling.draw(7, 12, 4) == RareClassSampling(pixels, 1.0).draw(7, 12, 4)
    assert sampling.draw(7, 12, 4) != sampling.draw(8, 12, 4)


def test_few_pixels_are_no_class_but_better_than_none() -> None:
    pixels = np.array([[9999, 1, 1], [9000, 1000, 0]])
    with_class = RareClassSampling(pixels, 0.01).with_class
    assert [list(found) for found in with_class] == [[0, 1], [1], [0]]


def test_no_labels_at_all() -> None:
    with pytest.raises(InputError, match="no pixel of the source"):
        RareClassSampling(np.zeros((3, 2), np.int64), 0.01)


def test_class_pixels(experiment: dict[str, Any], tmp_path: Path) -> None:
    label = np.full((48, 64), 2, np.uint8)
    label[:5] = 1
    Image.fromarray(label).save(tmp_path / "source" / "labels" / "b.png")
    domain = Domain(build_config(experiment).domain("source"), label_space(CLASSES))
    counts = class_pixels(domain, threads=2)
    assert counts.shape == (4, 3)
    assert counts[1].tolist() == [0, 5 * 64, 43 * 64]
    assert counts.sum() == 4 * 48 * 64


def test_counts_are_kept_for_the_very_label_map(experiment: dict[str, Any], tmp_path: Path) -> None:
    """Annotated names are numbered in the map's order, so that only the map itself tells the two apart."""
    shapes = [{"label": "a", "points": [[0, 0], [63, 0], [63, 47], [0, 47]]}]
    for label in list((tmp_path / "source" / "labels").iterdir()):
        label.with_suffix(".json").write_text(json.dumps({"shapes": shapes, "imageWidth": 64, "imageHeight": 48}))
        label.unlink()
    config = replace(build_config(experiment).domain("source"), classes=None)
    settings = replace(build_config(experiment).train, rare_class_temperature=0.01)
    maps: list[LabelMapping] = [{"a": "road", "b": "car"}, {"b": "road", "a": "car"}]
    for names in maps:
        domain = Domain(replace(config, label_map=names), label_space(CLASSES))
        sampling = rare_class_sampling(domain, settings, tmp_path / "class_pixels.npz")
        assert sampling is not None
        assert [len(found) for found in sampling.with_class] == [4 * (name == names["a"]) for name in CLASSES]


def test_crops(experiment: dict[str, Any]) -> None:
    domain = Domain(build_config(experiment).domain("source"), label_space(CLASSES))
    whole = StepDataset(domain, "source", 1, TrainConfig(batch=4, flip=False))[3]
    parts = StepDataset(domain, "source", 1, TrainConfig(batch=4, flip=False, crop=(20, 30)))
    part = parts[3]
    assert part["image"].shape == (4, 3, 30, 20)
    assert whole["label"] is not None
    assert part["label"] is not None
    places = set()
    for i in range(4):
        windows = whole["image"][i].unfold(1, 30, 1).unfold(2, 20, 1)
        found = (windows == part["image"][i].unsqueeze(1).unsqueeze(1)).all(0).all(-1).all(-1).nonzero().tolist()
        assert len(found) == 1
        (top, left) = found[0]
        assert (whole["label"][i][top : top + 30, left : left + 20] == part["label"][i]).all()
        places.add((top, left))
    assert len(places) > 1
    assert (parts[3]["image"] == part["image"]).all()
    with pytest.raises(InputError, match=r"train\.crop 65x30 is larger than .* of 64x48; .*source\.size"):
        StepDataset(domain, "source", 1, TrainConfig(batch=1, flip=False, crop=(65, 30)))[0]


@pytest.mark.parametrize("role", ["source", "target"])
def test_jitter_is_a_function_of_seed_and_step(role: str, experiment: dict[str, Any]) -> None:
    domain = Domain(build_config(experiment).domain("source"), label_space(CLASSES))
    plain = StepDataset(domain, role, 1, TrainConfig(batch=4, flip=True))
    scaled = StepDataset(domain, role, 1, TrainConfig(batch=4, flip=True, scale_jitter=(0.5, 2.0)))
    colored = StepDataset(domain, role, 1, TrainConfig(batch=4, flip=True, source_jitter=1.0))
    assert scaled[3]["image"].shape == plain[3]["image"].shape
    assert (scaled[3]["image"] == scaled[3]["image"]).all()
    assert (scaled[3]["image"] != plain[3]["image"]).any()
    assert (colored[3]["image"] == colored[3]["image"]).all()
    assert (colored[3]["image"] != plain[3]["image"]).any() == (role == "source"), "the source alone is coloured"
    first, label = plain[3]["label"], colored[3]["label"]
    assert first is not None
    assert label is not None
    assert (first == label).all()


def test_jitter_of_a_share_is_its_part_of_the_batch(experiment: dict[str, Any]) -> None:
    domain = Domain(build_config(experiment).domain("source"), label_space(CLASSES))
    settings = TrainConfig(batch=4, flip=True, scale_jitter=(0.5, 2.0), source_jitter=0.5)
    whole = StepDataset(domain, "source", 1, settings)[2]["image"]
    parts = [StepDataset(domain, "source", 1, settings, share=(rank, 2))[2]["image"] for rank in range(2)]
    assert (torch.cat(parts) == whole).all()
