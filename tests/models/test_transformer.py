from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptseg import load_model
from adaptseg.config import ModelConfig
from adaptseg.errors import InputError
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.optimizers import segmenter_optimizer
from adaptseg.models.build import build_network
from adaptseg.models.transformer import MIT, TransformerNetwork, build_backbone
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.training.loop import train

TINY: dict[str, Any] = {"levels": 1, "width": 8, "preprocessing": "imagenet"}


@pytest.mark.parametrize("head", ["light", "daformer"])
@pytest.mark.parametrize(
    ("backbone", "channels", "sizes"),
    [
        ("mit_b0", [4, 8, 20, 32], [(17, 25), (9, 13), (5, 7), (3, 4)]),
        ("dinov2_small", [48] * 4, [(5, 7)] * 4),
        ("dinov3_small", [48] * 4, [(5, 7)] * 4),
    ],
)
@torch.no_grad()
def test_maps_and_logits(backbone: str, head: str, channels: list[int], sizes: list[tuple[int, int]]) -> None:
    network = build_network(ModelConfig(backbone=backbone, head=head, **TINY), 5, seed=0).eval()
    images = torch.rand(2, 3, 65, 97)
    maps = network.feature_maps(images)
    assert [x.shape[1] for x in maps] == channels
    assert [tuple(x.shape[2:]) for x in maps] == sizes
    (logits,) = network(images)
    assert logits.shape == (2, 5, *sizes[0])


@torch.no_grad()
def test_tokens_stand_where_their_patches_are() -> None:
    """A change in the lower right corner of the image changes the lower right token most."""
    network = build_network(ModelConfig(backbone="dinov2_small", **TINY), 5, seed=0).eval()
    images = torch.rand(1, 3, 70, 98)
    changed = images.clone()
    changed[..., -14:, -14:] = 5
    difference = (network.feature_maps(changed)[0] - network.feature_maps(images)[0]).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 7) == (4, 6)


def test_sizes_are_the_published_ones() -> None:
    millions = {"mit_b0": 3.3, "mit_b2": 24.2, "dinov2_small": 22.1, "dinov3_small": 21.6}
    for name, expected in millions.items():
        backbone, _, _ = build_backbone(name, 1.0)
        assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(expected, rel=0.03)
    assert set(MIT) == {f"mit_b{size}" for size in range(6)}


def test_pretrained_weights_from_a_folder(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["model"] = {**TINY, "backbone": "mit_b0"}
    torch.manual_seed(3)
    source = build_backbone("mit_b0", 8 / 64)[0]
    source.save_pretrained(tmp_path / "mit")  # type: ignore[operator]
    experiment["model"]["weights"] = str(tmp_path / "mit")
    config = build_config(experiment)
    network = initialise(build_segmenter(config), config.model).network
    assert isinstance(network, TransformerNetwork)
    assert all(torch.equal(v, network.backbone.state_dict()[k]) for k, v in source.state_dict().items())

    config = build_config(experiment, ["--model.width=16"])
    with pytest.raises(InputError, match=r"model\.weights .*mit"):
        initialise(build_segmenter(config), config.model)
    config = build_config(experiment, [f"--model.weights={tmp_path / 'nothing'}"])
    with pytest.raises(InputError, match=r"model\.weights .*nothing: cannot be loaded") as caught:
        initialise(build_segmenter(config), config.model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("backbone", "method"), [("mit_b0", "mic"), ("dinov2_small", "adaptsegnet")])
def test_trains_and_loads_again(backbone: str, method: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["model"] = {**TINY, "backbone": backbone, "head": "daformer"}
    experiment["optimizer"] = {"name": "adamw", "lr": 6e-5, "weight_decay": 0.01}
    config = build_config(experiment, [f"--method.name={method}", "--train.steps=2", "--train.warmup_steps=10"])
    train(config, tmp_path / "run")
    segmenter = load_model(tmp_path / "run")
    trained = build_segmenter(config).network.state_dict()
    loaded = segmenter.network.state_dict()
    assert trained.keys() == loaded.keys()
    assert segmenter.predict(next((tmp_path / "target" / "images").glob("*.png"))).shape == (48, 64)


def test_adamw_as_published() -> None:
    network = build_network(ModelConfig(backbone="mit_b0", **TINY), 5, seed=0)
    config = build_config(
        {"label_space": ["a"], "source": {"layout": "folder"}, "method": {"name": "source_only"}},
        [
            "--optimizer.name=adamw",
            "--optimizer.lr=6e-5",
            "--optimizer.weight_decay=0.01",
            "--optimizer.classifier_lr_factor=10",
        ],
    )
    groups = segmenter_optimizer(network, config.optimizer).param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    settings = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert settings["head.classifier.weight"] == pytest.approx((6e-4, 0.01))
    assert settings["head.classifier.bias"] == pytest.approx((6e-4, 0.0))
    norms = [name for name in settings if "layer_norm" in name]
    assert norms
    assert all(settings[name] == pytest.approx((6e-5, 0.0)) for name in norms)
    kernels = [name for name, p in network.named_parameters() if p.ndim == 4 and name.startswith("backbone")]
    assert all(settings[name] == pytest.approx((6e-5, 0.01)) for name in kernels)
    assert len(settings) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"backbone": "mit_b0", "levels": 2}, r"model\.levels is 2, but mit_b0"),
        ({"backbone": "mit_b0", "levels": 1, "width": 6}, r"model\.width is 6; give a multiple of 4"),
        ({"backbone": "resnet18", "head": "light"}, r"model\.head is 'light', but resnet18"),
        ({"backbone": "mit_b9", "levels": 1}, r"model\.backbone is 'mit_b9'"),
    ],
)
def test_impossible_models_are_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelConfig(**model)


def test_feature_level_needs_a_pyramid(experiment: dict[str, Any]) -> None:
    from adaptseg.methods import build_method

    experiment["model"] = {**TINY, "backbone": "mit_b0"}
    experiment["method"] = {"name": "feature_level", "lambda_seg": [1.0], "lambda_adv": [0.1]}
    config = build_config(experiment)
    with pytest.raises(InputError, match=r"needs a ResNet or VGG, not mit_b0"):
        build_method(build_segmenter(config), config)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'adaptseg\[transformers\]'"):
        build_backbone("mit_b0", 1.0)
