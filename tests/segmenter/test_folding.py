"""What is folded predicts as before, and what cannot be folded stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.models.build import build_network
from adaptseg.segmenter.folding import fold_batch_norm
from adaptseg.segmenter.segmenter import Segmenter

SPACE = LabelSpace("three", ("road", "car", "sky"))
PHOTOGRAPH = np.random.default_rng(1).integers(0, 256, (72, 100, 3), dtype=np.uint8)


def used(network: nn.Module) -> Segmenter:
    """Return a segmenter in eval mode whose batch norms have weights and statistics of their own."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                if values is not None:
                    values.data.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return Segmenter(network, SPACE, "imagenet").eval()  # type: ignore[arg-type]


@torch.no_grad()
def logits(segmenter: Segmenter) -> Tensor:
    return segmenter.main_logits([PHOTOGRAPH])


def norms(segmenter: Segmenter) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in segmenter.modules())


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"backbone": "resnet18", "width": 8}, 0),
        ({"backbone": "resnet50", "width": 8, "levels": 2}, 0),
        ({"backbone": "efficientnet_lite0", "width": 8, "levels": 1}, 1),  # The head's is fed by a sum.
        ({"backbone": "mit_b0", "width": 16, "levels": 1, "head": "daformer"}, 0),
        ({"backbone": "vgg16", "width": 4, "levels": 1}, 0),  # Has none.
    ],
)
def test_own_networks(options: dict[str, Any], left: int) -> None:
    segmenter = used(build_network(ModelConfig(**options), 3, seed=0))
    before, there = logits(segmenter), norms(segmenter)
    assert fold_batch_norm(segmenter) == there - left
    assert norms(segmenter) == left
    torch.testing.assert_close(logits(segmenter), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())


class Own(nn.Module):
    """A network that names its layers backwards, has biases, and a batch norm without weights."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.last = nn.Conv2d(8, 3, 1)
        self.norm = nn.BatchNorm2d(8, affine=how != "plain", track_running_stats=how != "batch")
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.how = how

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        inside = self.first(x)
        if self.how == "activated":
            inside = inside.relu_()  # The same tensor, with other values.
        y = self.norm(input=inside) if self.how == "keyword" else self.norm(inside)
        if self.how == "twice":
            y = y + self.norm(inside)
        if self.how == "shortcut":
            y = y + inside
        return (self.last(y),)


@pytest.mark.parametrize("how", ["affine", "plain"])
def test_the_order_is_seen(how: str) -> None:
    segmenter = used(Own(how))
    before = logits(segmenter)
    assert fold_batch_norm(segmenter) == 1
    assert norms(segmenter) == 0
    torch.testing.assert_close(logits(segmenter), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())


@pytest.mark.parametrize(
    ("how", "normed"),
    [
        ("keyword", nn.Sequential),
        ("affine", parametrizations.weight_norm),
        ("affine", parametrizations.spectral_norm),
        ("affine", nn.utils.spectral_norm),
    ],
)
def test_weights_that_are_computed_anew_stay(how: str, normed: Any) -> None:
    network = Own(how)
    network.first = normed(network.first)
    segmenter = Segmenter(network, SPACE, "imagenet").eval()  # type: ignore[arg-type]
    before = logits(segmenter)
    assert fold_batch_norm(segmenter) == 0
    torch.testing.assert_close(logits(segmenter), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factory", ["unet", "unusual"])
def test_networks_of_ones_own(factory: str) -> None:
    config = ModelConfig(factory=f"tests.own_networks:{factory}", levels=1, multiple_of=4)
    segmenter = used(build_network(config, 3, seed=0))
    before = logits(segmenter)
    fold_batch_norm(segmenter)
    torch.testing.assert_close(logits(segmenter), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())


@pytest.mark.parametrize("how", ["batch", "twice", "shortcut", "activated"])
def test_what_would_be_wrong_stays(how: str) -> None:
    segmenter = used(Own(how))
    before = logits(segmenter)
    assert fold_batch_norm(segmenter) == 0
    assert norms(segmenter) == 1
    torch.testing.assert_close(logits(segmenter), before, rtol=1e-5, atol=1e-5)
