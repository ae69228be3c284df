from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from adaptseg.config import ModelConfig
from adaptseg.errors import InputError
from adaptseg.models.build import build_network


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("levels", [1, 2])
@torch.no_grad()
def test_logits_are_at_an_eighth(backbone: str, levels: int) -> None:
    network = build_network(ModelConfig(backbone=backbone, width=8, levels=levels), classes=5, seed=0)
    logits = network(torch.randn(1, 3, 65, 97))
    assert [tuple(level.shape) for level in logits] == [(1, 5, 9, 13)] * levels


@pytest.mark.parametrize(
    ("size", "eighth"), [((64, 96), (9, 13)), ((65, 97), (9, 13)), ((71, 89), (10, 12)), ((48, 50), (7, 7))]
)
@torch.no_grad()
def test_sizes_round_up_as_the_released_pooling_does(size: tuple[int, int], eighth: tuple[int, int]) -> None:
    network = build_network(ModelConfig(backbone="resnet18", width=8, levels=1), classes=5, seed=0)
    assert network(torch.randn(1, 3, *size))[0].shape == (1, 5, *eighth)


@torch.no_grad()
def test_levels_are_stages_3_and_4() -> None:
    network: Any = build_network(ModelConfig(backbone="resnet18", width=8), classes=5, seed=0).eval()
    image = torch.randn(1, 3, 64, 64)
    maps = network.feature_maps(image)
    assert [x.shape[1] for x in maps] == [32, 64]
    torch.testing.assert_close(network.layer4(maps[0]), maps[1])
    for level, classifier, features in zip(network(image), (network.layer5, network.layer6), maps, strict=True):
        torch.testing.assert_close(level, classifier(features))


def test_vgg() -> None:
    network: Any = build_network(ModelConfig(backbone="vgg16", levels=1, width=4), classes=5, seed=0)
    (logits,) = network(torch.randn(1, 3, 64, 96))
    assert logits.shape == (1, 5, 8, 12)
    convs = [m for m in network.features if isinstance(m, nn.Conv2d)]
    assert [conv.dilation[0] for conv in convs] == [1] * 10 + [2] * 3 + [4] * 2
    assert sum(isinstance(m, nn.MaxPool2d) for m in network.features) == 3
    (odd,) = network(torch.randn(1, 3, 65, 103))
    assert odd.shape == (1, 5, 8, 12)
    with pytest.raises(InputError, match=r"model\.levels"):
        ModelConfig(backbone="vgg16", levels=2)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet101"])
def test_last_stages_dilate_instead_of_striding(backbone: str) -> None:
    network: Any = build_network(ModelConfig(backbone=backbone, width=8), classes=5, seed=0)
    for stage, dilation in ((network.layer1, 1), (network.layer2, 1), (network.layer3, 2), (network.layer4, 4)):
        convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d)]
        assert {conv.dilation[0] for conv in convs if conv.kernel_size == (3, 3)} == {dilation}
        assert max(conv.stride[0] for conv in convs) == (2 if stage is network.layer2 else 1)


@pytest.mark.parametrize(("place", "strides"), [("first", (2, 1)), ("second", (1, 2))])
def test_bottleneck_stride(place: str, strides: tuple[int, int]) -> None:
    network: Any = build_network(ModelConfig(backbone="resnet50", width=8, bottleneck_stride=place), classes=5, seed=0)
    block = network.layer2[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_two_branches_are_the_first_two() -> None:
    four = build_network(ModelConfig(backbone="resnet18", width=8, levels=1), classes=5, seed=0).eval()
    two = build_network(ModelConfig(backbone="resnet18", width=8, levels=1, aspp_branches=2), classes=5, seed=0).eval()
    image = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(four(image)[0], two(image)[0])
    classifier: Any = four.classifiers()[0]
    for conv in classifier.conv2d_list[2:]:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    torch.testing.assert_close(four(image)[0], two(image)[0])


@pytest.mark.parametrize(
    ("mode", "trained", "moves"), [("trained", True, True), ("affine_frozen", False, True), ("frozen", False, False)]
)
def test_batch_norm(mode: str, trained: bool, moves: bool) -> None:
    network: Any = build_network(ModelConfig(backbone="resnet18", width=8, batch_norm=mode), classes=5, seed=0).train()
    network(torch.randn(2, 3, 64, 64))
    assert network.bn1.weight.requires_grad == network.layer1[0].bn2.bias.requires_grad == trained
    assert bool((network.bn1.running_mean != 0).any()) == moves
    sum(x.mean() for x in network(torch.randn(2, 3, 64, 64))).backward()
    assert (network.layer1[0].bn2.weight.grad is not None) == trained
    assert network.conv1.weight.grad.any()


@torch.no_grad()
def test_frozen_batch_norm_ignores_the_batch() -> None:
    """The same image gives the same logits whatever is beside it; elsewhere, the batch's statistics count."""
    image, other = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    for mode, same in (("frozen", True), ("affine_frozen", False)):
        network = build_network(ModelConfig(backbone="resnet18", width=8, batch_norm=mode), classes=5, seed=0).train()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):  # Weights of 0.01 would leave nothing but the biases.
                nn.init.kaiming_normal_(module.weight)
        alone, together = network(image)[-1], network(torch.cat([image, other]))[-1][:1]
        assert torch.allclose(alone, together, rtol=1e-4, atol=1e-4) == same


def test_initialisation_is_the_released_one_and_depends_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    config = ModelConfig(backbone="resnet50", width=16)
    networks: list[Any] = [build_network(config, classes=19, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = (network.layer3[5].conv2.weight for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for weight in (first, networks[0].conv1.weight, networks[0].layer6.conv2d_list[3].weight):
        assert weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(weight.mean().item()) < 0.001
