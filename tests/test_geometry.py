"""One geometry: training, evaluation, prediction, export and app see an image in the same way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adaptseg.app.photos import read_photo
from adaptseg.app.result import Choice, Network, result_page
from adaptseg.config import DomainConfig, ModelConfig, TrainConfig
from adaptseg.data.check import check
from adaptseg.data.dataset import Domain
from adaptseg.data.geometry import distortion, fitting_size, seen_size
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.data.loader import StepDataset
from adaptseg.data.prepare import prepare
from adaptseg.evaluation.evaluate import confusion_matrix, evaluate
from adaptseg.export.graph import ImagesToClasses
from adaptseg.methods.configuration import build_config
from adaptseg.models.build import build_network
from adaptseg.models.network import SegmentationNetwork
from adaptseg.predict.predictions import predict_files
from adaptseg.segmenter.segmenter import Segmenter
from tests.conftest import CLASSES, write_images

SPACE = LabelSpace("own3", tuple(CLASSES))
BOXES = [(48, 24), (24, 48), (40, 30)]


class Witness(SegmentationNetwork):
    """Keeps what it sees; its logits are the colours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(x)
        return (torch.nn.functional.avg_pool2d(x, 8),)


def domain(root: Path, size: tuple[int, int] | None, resize: str | None, **options: Any) -> Domain:
    config = DomainConfig(
        layout="folder", root=str(root), classes=CLASSES, labelled=True, size=size, resize=resize, **options
    )
    return Domain(config, SPACE)


@pytest.mark.parametrize(
    ("size", "box", "keep", "height"),
    [
        ((80, 60), (40, 30), (40, 30), (40, 30)),
        ((80, 60), (48, 24), (48, 36), (32, 24)),
        ((60, 80), (48, 24), (48, 64), (18, 24)),
        ((1920, 1080), (256, 128), (256, 144), (228, 128)),
        ((1000, 100), (64, 64), (640, 64), (640, 64)),
        ((3, 2), (64, 64), (96, 64), (96, 64)),
    ],
)
def test_seen_sizes(
    size: tuple[int, int], box: tuple[int, int], keep: tuple[int, int], height: tuple[int, int]
) -> None:
    assert seen_size(size, box, "keep") == keep
    assert seen_size(keep, box, "keep") == keep  # Scaling twice is scaling once.
    assert seen_size(size, box, "squeeze") == box
    assert seen_size(size, box, "height") == height
    assert seen_size(size, None, "keep") == size


@pytest.mark.parametrize("resize", ["keep", "squeeze"])
@pytest.mark.parametrize("box", BOXES)
def test_every_path_sees_the_same_pixels(box: tuple[int, int], resize: str, tmp_path: Path) -> None:
    write_images(tmp_path / "set", ["a"], labels=True, size=(80, 60))
    photograph = tmp_path / "set/images/a.png"
    network = Witness()
    segmenter = Segmenter(network, SPACE, "none", input_size=box, resize=resize).eval()
    images = domain(tmp_path / "set", box, resize)
    evaluate(segmenter, images)
    segmenter.predict(photograph)
    segmenter.predict(photograph, flip=True, scales=(1, 0.5))
    predict_files(segmenter, [(photograph, Path("a"))], tmp_path / "out")
    ImagesToClasses(segmenter)(torch.from_numpy(np.array(Image.open(photograph)))[None])
    result_page("a", read_photo(photograph), Choice("run", (Network("adapted", segmenter),)))
    first, *others = [x for x in network.seen if x.shape == network.seen[0].shape]
    mirrored = others.pop(2)
    assert torch.equal(mirrored.flip(-1), first)
    assert len(others) == 5
    assert all(torch.equal(x, first) for x in others)
    # Training sees a part of the box's size of it, another one in another step.
    batches = [StepDataset(images, "source", 0, TrainConfig(batch=1, flip=False))[step] for step in range(6)]
    windows = first[0].unfold(1, box[1], 1).unfold(2, box[0], 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    parts = [batch["image"][0].float() for batch in batches]
    places = [int((windows == part).flatten(1).all(1).nonzero()[0, 0]) for part in parts]
    assert (len(set(places)) > 1) == (resize == "keep" and box != (40, 30))


def test_a_training_part_is_given_by_seed_and_step(tmp_path: Path) -> None:
    # At the height of the box no pixel is changed: a label is what its pixel says.
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        label = np.random.default_rng(ord(name)).integers(0, 3, (32, 80), np.uint8)
        Image.fromarray(label).save(tmp_path / f"labels/{name}.png")
        Image.fromarray((label * 100)[..., None].repeat(3, 2)).save(tmp_path / f"images/{name}.png")
    data = domain(tmp_path, (32, 32), None)
    found = [StepDataset(data, "source", 5, TrainConfig(batch=2, flip=True))[step] for step in (0, 1, 0)]
    for batch in found:
        assert batch["image"].shape == (2, 3, 32, 32)
        assert batch["label"] is not None
        assert torch.equal(batch["image"][:, 0], batch["label"] * 100)
    assert torch.equal(found[0]["image"], found[2]["image"])
    assert not torch.equal(found[0]["image"], found[1]["image"])
    assert StepDataset(data, "source", 5, TrainConfig(batch=2, flip=True, crop=(16, 24)))[0]["image"].shape == (
        2,
        3,
        24,
        16,
    )
    jittered = StepDataset(data, "source", 5, TrainConfig(batch=2, flip=True, scale_jitter=(0.5, 2.0)))[0]["image"]
    assert jittered.shape == (2, 3, 32, 32)


def test_prepared_images_are_cropped_alike(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment, ["--source.size=[32,32]", f"--prepared={tmp_path / 'prepared'}"])
    directly = Domain(config.domain("source"), SPACE)
    list(prepare(config, uses_target=False, workers=0))
    prepared = Domain(config.domain("source"), SPACE)
    assert prepared.prepared is not None
    assert prepared.prepared.read(0)[0].shape == (32, 43, 3)
    for step in range(3):
        ours, theirs = (
            StepDataset(data, "source", 0, TrainConfig(batch=2, flip=True))[step] for data in (directly, prepared)
        )
        assert torch.equal(ours["image"], theirs["image"])
    squeezed = replace(config.domain("source"), resize="squeeze")
    assert Domain(squeezed, SPACE).prepared is None


@pytest.mark.parametrize("resize", ["keep", "squeeze"])
@pytest.mark.parametrize("box", BOXES)
def test_masks_score_what_the_evaluation_says(box: tuple[int, int], resize: str, tmp_path: Path) -> None:
    write_images(tmp_path / "set", ["a", "b"], labels=True, size=(80, 60))
    model = ModelConfig(backbone="resnet18", width=4, levels=1, batch_norm="trained", preprocessing="imagenet")
    network = build_network(model, len(SPACE), seed=1)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # Classes differ from pixel to pixel.
            torch.nn.init.kaiming_normal_(module.weight, generator=torch.Generator().manual_seed(1))
    segmenter = Segmenter(network, SPACE, "imagenet", input_size=box, resize=resize).eval()
    data = domain(tmp_path / "set", box, resize)
    inputs = [(tmp_path / f"set/images/{name}.png", Path(name)) for name in ("a", "b")]
    predict_files(segmenter, inputs, tmp_path / "out")
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    for index, name in enumerate(("a", "b")):
        mask = torch.from_numpy(np.array(Image.open(tmp_path / f"out/labels/{name}.png")))
        confusion += confusion_matrix(mask, torch.from_numpy(data.label(index)), 3)
    assert torch.equal(confusion, evaluate(segmenter, data).confusion)
    assert (confusion.sum(0) > 0).sum() > 1


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--source.size=[48,48]", "--source.resize=squeeze"], ["distorts up to 33 % of 4", "[56, 40]", "keep does"]),
        (["--source.size=[48,16]", "--target.size=[48,40]"], ["crops away, in a training step, up to 56 % of 4"]),
        (["--source.size=[48,40]", "--target.size=[48,40]"], []),
        (["--source.size=[48,16]", "--train.crop=[16,16]", "--target.size=[48,40]"], []),
    ],
)
def test_check_warns_of_ratios(options: list[str], found: list[str], experiment: dict[str, Any]) -> None:
    report = check(build_config(experiment, options), uses_target=True, workers=0)
    (*texts,) = [finding.text for finding in report.findings if finding.kind == "ratio"]
    assert len(texts) == bool(found)
    assert all(part in text for text in texts for part in found)
    assert not report.fails


def test_fitting_sizes() -> None:
    assert distortion((80, 60), (40, 30)) == 0
    assert distortion((80, 60), (48, 24)) == distortion((60, 80), (24, 48)) == pytest.approx(0.5)
    assert fitting_size((1920, 1080), (256, 128)) == (240, 136)
    assert fitting_size((1080, 1920), (256, 128)) == (136, 240)
