"""Preprocessing, stride and batch norm follow from the initial weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.experiment import preset_names, read_experiment
from adaptseg.models.build import build_network
from adaptseg.segmenter.initial_settings import CAFFE, LITE, TORCHVISION, TRANSFORMER, with_initial_settings
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter

URL = "https://example.org/{}.pth"
TINY50 = ModelConfig(backbone="resnet50", levels=1, width=4)


def settings(model: ModelConfig) -> tuple[str | None, str | None, str | None]:
    found = with_initial_settings(model)
    return found.preprocessing, found.bottleneck_stride, found.batch_norm


@pytest.mark.parametrize(
    ("backbone", "weights", "expected"),
    [
        ("resnet18", None, ("imagenet", "second", "trained")),
        ("efficientnet_lite0", None, ("imagenet", "second", "trained")),
        ("resnet101", "imagenet", TORCHVISION),
        ("vgg16", "imagenet", TORCHVISION),
        ("efficientnet_lite2", "imagenet", LITE),
        ("mit_b5", "imagenet", TRANSFORMER),
        ("dinov2_small", "some/name", TRANSFORMER),
        ("resnet101", URL.format("DeepLab_resnet_pretrained_init-f81d91e8"), CAFFE),
        ("resnet101", "here/resnet101-63fe2227.pth", TORCHVISION),
        ("vgg16", URL.format("vgg16-00b39a1b"), CAFFE),
        ("vgg16", URL.format("vgg16-397923af"), TORCHVISION),
    ],
)
def test_what_names_tell(backbone: str, weights: str | None, expected: tuple[str, str, str]) -> None:
    assert settings(ModelConfig(backbone=backbone, levels=1, weights=weights)) == expected


def weights_file(folder: Path, *others: str, prefix: str = "", backbone: str = "resnet50") -> str:
    """Write a backbone's weights with parameters of other names beside them."""
    network = build_network(replace(TINY50, backbone=backbone), 3, seed=1)
    state = {prefix + name: value for name, value in network.state_dict().items() if "conv2d_list" not in name}
    torch.save(state | {name: torch.zeros(3) for name in others}, folder / "w.pth")
    return str(folder / "w.pth")


def test_what_parameters_tell(tmp_path: Path) -> None:
    torchvision = replace(TINY50, weights=weights_file(tmp_path, "fc.weight", "fc.bias"))
    assert settings(torchvision) == TORCHVISION
    assert settings(replace(torchvision, batch_norm="frozen")) == ("imagenet", "second", "frozen")
    segmenter = Segmenter(build_network(with_initial_settings(torchvision), 3), LabelSpace("x", ("a", "b", "c")))
    initialise(segmenter, torchvision)
    released = replace(TINY50, weights=weights_file(tmp_path, "Scale.layer5.conv2d_list.0.bias", prefix="Scale."))
    assert settings(released) == CAFFE
    own = replace(released, preprocessing="imagenet", bottleneck_stride="second")
    assert settings(own) == TORCHVISION


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"preprocessing": "caffe"}, "model.preprocessing is caffe, but model.weights .* want imagenet; leave"),
        ({"bottleneck_stride": "first"}, "model.bottleneck_stride is first, but model.weights .* want second; leave"),
    ],
)
def test_contradictions(tmp_path: Path, model: dict[str, str], says: str) -> None:
    for weights in ("imagenet", weights_file(tmp_path, "fc.weight", "fc.bias")):
        with pytest.raises(InputError, match=says):
            with_initial_settings(replace(TINY50, weights=weights, **model))  # type: ignore[arg-type]
    basic = ModelConfig(backbone="resnet18", levels=1, weights="imagenet", bottleneck_stride="first")
    assert with_initial_settings(basic).bottleneck_stride == "first"  # It has no bottlenecks.


@pytest.mark.parametrize(("backbone", "missing"), [("resnet50", " and model.bottleneck_stride:"), ("vgg16", ":")])
def test_nothing_tells(tmp_path: Path, backbone: str, missing: str) -> None:
    model = replace(TINY50, backbone=backbone, weights=weights_file(tmp_path, backbone=backbone))
    with pytest.raises(
        InputError, match=f"nothing tells how they were trained; set model.preprocessing{missing} caffe"
    ):
        with_initial_settings(model)
    said = replace(model, preprocessing="caffe", bottleneck_stride="first")
    assert settings(said) == CAFFE


def test_a_run_hands_its_settings_on(tmp_path: Path) -> None:
    model = replace(TINY50, preprocessing="caffe", bottleneck_stride="first", batch_norm="frozen")
    space = LabelSpace("x", ("a", "b", "c"))
    save_segmenter(tmp_path, Segmenter(build_network(model, 3), space))
    assert settings(replace(TINY50, weights=str(tmp_path))) == ("caffe", "first", "frozen")
    with pytest.raises(InputError, match=r"model\.preprocessing is imagenet, but model\.weights .* want caffe"):
        with_initial_settings(replace(TINY50, weights=str(tmp_path), preprocessing="imagenet"))


@pytest.mark.parametrize("name", preset_names())
def test_presets_contradict_nothing(name: str) -> None:
    said = read_experiment(name)[1]["model"]
    model = with_initial_settings(ModelConfig(**said))
    assert {key: getattr(model, key) for key in said} == said
    # What a preset trains does not change with the rule; a transformer's weights leave no choice.
    assert model.is_transformer or {"preprocessing", "batch_norm"} <= said.keys()
