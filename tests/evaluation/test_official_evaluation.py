"""Evaluation as published: equal to Cityscapes' own script, and one command for released weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.cli import main
from adaptseg.config import DomainConfig, ModelConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import evaluate
from adaptseg.evaluation.published import published_evaluation
from adaptseg.experiment import run_folder
from adaptseg.models.build import build_network
from adaptseg.models.network import SegmentationNetwork
from adaptseg.predict.inputs import find_inputs
from adaptseg.predict.predictions import predict_cityscapes
from adaptseg.segmenter.initial_settings import CAFFE
from adaptseg.segmenter.preprocessing import PREPROCESSING
from adaptseg.segmenter.segmenter import Segmenter
from tests.data.published_trees import build_tree
from tests.segmenter.test_weights import golden_state

SIZE = (96, 64)


class Colours(SegmentationNetwork):
    """A class per colour: predictions of many classes, some right, from any image."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(3, classes, 1)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.classifier.weight, generator=generator)

    def classifiers(self) -> list[nn.Module]:
        return [self.classifier]

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        return (functional.avg_pool2d(x, 8),)


def official_scores(ground_truth: Path, predictions: Path) -> tuple[dict[str, float], float]:
    """Run the official script on `*_gtFine_labelIds.png` and the predictions that it finds for them."""
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    official = pytest.importorskip(name, reason="cityscapesscripts is not installed")
    files = sorted(str(path) for path in ground_truth.rglob("*_gtFine_labelIds.png"))
    assert files
    args = official.CArgs()
    args.__dict__.update(official.args.__dict__)
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    args.predictionPath, args.predictionWalk = str(predictions), None
    results = official.evaluateImgLists([official.getPrediction(args, file) for file in files], files, args)
    return results["classScores"], results["averageScoreClasses"]


@pytest.mark.parametrize("input_size", [SIZE, (48, 32)], ids=["own-size", "half-size"])
def test_equals_the_official_evaluation(tmp_path: Path, input_size: tuple[int, int]) -> None:
    root = build_tree("cityscapes", tmp_path / "data", SIZE, images=4)
    space = label_space("cityscapes19")
    segmenter = Segmenter(Colours(19), space, input_size=input_size)
    domain = Domain(
        DomainConfig(layout="cityscapes", root=str(root), split=["val"], size=input_size, labelled=True), space
    )
    scores = evaluate(segmenter, domain)
    predict_cityscapes(segmenter, find_inputs([str(root / "leftImg8bit/val")]), tmp_path / "out")
    by_class, mean = official_scores(root / "gtFine/val", tmp_path / "out")
    assert len(np.unique(scores.confusion.nonzero()[:, 1])) > 8, "too few classes predicted to show anything"
    for name, value in scores.iou.items():
        assert value is not None
        assert math.isclose(value, by_class[name], abs_tol=1e-9)
    assert scores.miou is not None
    assert math.isclose(scores.miou, mean, abs_tol=1e-9)
    assert 0 < mean < 1


def test_class_that_does_not_occur_is_left_out_of_both_means(tmp_path: Path) -> None:
    root = build_tree("cityscapes", tmp_path / "data", SIZE, images=1)
    (label,) = (root / "gtFine/val").rglob("*.png")
    values = np.array(Image.open(label))
    Image.fromarray(np.where(values > 11, 4, values)).save(label)
    space = label_space("cityscapes19")
    network = Colours(19)
    assert network.classifier.bias is not None
    nn.init.constant_(network.classifier.bias[3:], -1e6)
    segmenter = Segmenter(network, space, input_size=SIZE)
    domain = Domain(DomainConfig(layout="cityscapes", root=str(root), split=["val"], labelled=True), space)
    scores = evaluate(segmenter, domain)
    predict_cityscapes(segmenter, find_inputs([str(root / "leftImg8bit/val")]), tmp_path / "out")
    by_class, mean = official_scores(root / "gtFine/val", tmp_path / "out")
    assert [name for name, value in scores.iou.items() if value is None] == [
        name for name in space.classes if math.isnan(by_class[name])
    ]
    assert scores.iou["bicycle"] is None
    assert scores.miou is not None
    assert math.isclose(scores.miou, mean, abs_tol=1e-9)


def replayed_miou(network: SegmentationNetwork, root: Path, size: tuple[int, int]) -> float:
    """The released evaluation by hand: bicubic to `size`, BGR minus mean, logits up-sampled to the label's size."""
    order = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
    order |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    confusion = np.zeros((19, 19))
    for path in sorted((root / "leftImg8bit/val").rglob("*.png")):
        pixels = np.array(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
        x = (pixels[:, :, ::-1] - np.array(PREPROCESSING["caffe"].mean, np.float32)).transpose(2, 0, 1)
        label_path = str(path).replace("leftImg8bit/", "gtFine/").replace("_leftImg8bit", "_gtFine_labelIds")
        label = np.array(Image.open(label_path))
        with torch.no_grad():
            logits = network(torch.from_numpy(x.copy())[None])[-1]
            logits = functional.interpolate(logits, size=label.shape, mode="bilinear", align_corners=True)
        predicted = logits.argmax(1)[0].numpy()
        for raw, train_id in order.items():
            confusion[train_id] += np.bincount(predicted[label == raw], minlength=19)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return float((confusion.diagonal()[union > 0] / union[union > 0]).mean())


def test_one_command_for_released_weights(tmp_path: Path) -> None:
    network = build_network(ModelConfig(aspp_branches=2).filled(*CAFFE), 19, seed=0).eval()
    state = golden_state(network)
    network.load_state_dict(state, strict=False)
    weights = tmp_path / "GTA2Cityscapes_multi-ed35151c.pth"
    torch.save(state, weights, _use_new_zipfile_serialization=False)
    # Somebody else's configuration above the weights is none of ours.
    (tmp_path / "config.yaml").write_text("other: 1\n")
    root = build_tree("cityscapes", tmp_path / "data", SIZE, images=1)
    out = tmp_path / "scores.json"
    arguments = ["evaluate", str(weights), "--data", str(root), "--json", str(out), "--device", "cpu"]
    main([*arguments, "--evaluation.size=[128,64]"])
    result = json.loads(out.read_text())
    assert result["protocol"]["name"] == "cityscapes19"
    assert len(result["iou"]) == 19
    assert math.isclose(result["miou"], replayed_miou(network, root, (128, 64)), abs_tol=1e-9)


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes16", "cityscapes13"])
def test_default_is_the_published_evaluation(name: str) -> None:
    content = published_evaluation(label_space(name))
    assert content["evaluation"] == {
        "layout": "cityscapes",
        "root": "{data}",
        "resize": "squeeze",
        "split": ["val"],
        "size": [1024, 512],
    }
    assert content["label_space"] == list(label_space(name).classes)


def test_default_refuses_other_classes() -> None:
    with pytest.raises(InputError, match="--experiment"):
        published_evaluation(label_space(["road", "hot dog"]))


def test_run_folder(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints/step-000001"
    checkpoint.mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "w.pth").write_bytes(b"")
    for path in (tmp_path, checkpoint, checkpoint / "segmenter.safetensors"):
        assert run_folder(str(path)) == str(tmp_path)
    assert run_folder(str(tmp_path / "w.pth")) is None
    assert run_folder("https://example.org/w.pth") is None
