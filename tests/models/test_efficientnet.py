from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.config import ModelConfig
from adaptseg.models.build import build_network
from adaptseg.models.efficientnet import EfficientNetLite, SameConv2d


@pytest.mark.parametrize(
    ("name", "channels", "blocks", "millions"),
    [
        ("efficientnet_lite0", (24, 40, 112, 320), 16, 4.7),
        ("efficientnet_lite1", (24, 40, 112, 320), 21, 5.4),
        ("efficientnet_lite2", (24, 48, 120, 352), 21, 6.1),
    ],
)
def test_the_family(name: str, channels: tuple[int, ...], blocks: int, millions: float) -> None:
    backbone = EfficientNetLite(name)
    assert backbone.map_channels == channels
    assert len(backbone._blocks) == blocks
    # Published with the classifier of images: a 1x1 convolution, its batch norm, a linear layer.
    classifier = 1280 * channels[-1] + 2 * 1280 + 1281 * 1000
    assert (sum(p.numel() for p in backbone.parameters()) + classifier) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 11)])
@torch.no_grad()
def test_padding_is_tensorflows(kernel: int, size: tuple[int, int]) -> None:
    """Output i of `SAME` at stride 2 sees from 2 i - floor(total / 2) on, total what ceil(size / 2) outputs lack."""
    convolution = SameConv2d(1, 1, kernel, 2)
    x = torch.rand(1, 1, *size)
    wide = functional.pad(x, (8, 8, 8, 8))
    rows, columns = ((side + 1) // 2 for side in size)
    before = [max(0, 2 * (n - 1) + kernel - side) // 2 for n, side in zip((rows, columns), size, strict=True)]
    expected = torch.zeros(1, 1, rows, columns)
    for i in range(rows):
        for j in range(columns):
            top, left = 8 + 2 * i - before[0], 8 + 2 * j - before[1]
            expected[0, 0, i, j] = (
                wide[0, 0, top : top + kernel, left : left + kernel] * convolution.weight[0, 0]
            ).sum()
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("head", ["light", "daformer"])
@torch.no_grad()
def test_maps_and_logits(head: str) -> None:
    config = ModelConfig(backbone="efficientnet_lite0", levels=1, width=16, head=head)
    network = build_network(config, 5, seed=0).eval()
    images = torch.rand(2, 3, 65, 98)
    maps = network.feature_maps(images)
    assert [tuple(x.shape[2:]) for x in maps] == [(17, 25), (9, 13), (5, 7), (3, 4)]
    assert tuple(x.shape[1] for x in maps) == network.backbone.map_channels  # type: ignore[union-attr]
    (logits,) = network(images)
    assert logits.shape == (2, 5, 17, 25)


@pytest.mark.parametrize(
    ("mode", "trained", "moves"), [("trained", True, True), ("affine_frozen", False, True), ("frozen", False, False)]
)
def test_batch_norm_of_the_backbone(mode: str, trained: bool, moves: bool) -> None:
    config = ModelConfig(backbone="efficientnet_lite0", levels=1, width=8, batch_norm=mode)
    network: Any = build_network(config, 5, seed=0).train()
    norm, of_head = network.backbone._blocks[3]._bn1, network.head.fuse[1]
    before = norm.running_mean.clone(), of_head.running_mean.clone()
    network(torch.rand(2, 3, 64, 64))
    assert norm.weight.requires_grad is trained
    assert torch.equal(norm.running_mean, before[0]) is not moves
    assert of_head.weight.requires_grad
    assert not torch.equal(of_head.running_mean, before[1])
