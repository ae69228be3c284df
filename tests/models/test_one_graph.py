"""Every network is one graph for torch.compile: what breaks it up would cost a GPU most of what compiling gains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from adaptseg.config import ModelConfig
from adaptseg.models.batch_norm import running_statistics_kept
from adaptseg.models.build import build_network
from adaptseg.models.discriminator import Discriminator

NETWORKS = {
    "resnet18": ModelConfig(backbone="resnet18", width=8),
    "vgg16": ModelConfig(backbone="vgg16", width=8, levels=1),
    "efficientnet_lite0": ModelConfig(backbone="efficientnet_lite0", width=16, levels=1),
    # Other parts of the same files.
    "resnet50": ModelConfig(backbone="resnet50", width=4),
    "mit_b0, daformer": ModelConfig(backbone="mit_b0", head="daformer", width=16, levels=1),
    "dinov2_small, upscale": ModelConfig(backbone="dinov2_small", head="upscale", width=8, levels=1),
    "dinov3_small": ModelConfig(backbone="dinov3_small", width=32, levels=1),  # With the light head.
}
SLOW = [name for name in NETWORKS if "," in name or name in ("resnet50", "dinov3_small")]

pytestmark = pytest.mark.usefixtures("few_blocks")


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_network(name: str) -> None:
    network = build_network(NETWORKS[name], 3, seed=0).train()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outputs = []
    for forward in (network, torch.compile(network, fullgraph=True, backend="eager")):
        torch.manual_seed(0)  # Dropout and drop path.
        outputs.append(forward(images))
    for logits, compiled in zip(*outputs, strict=True):
        assert compiled.requires_grad
        torch.testing.assert_close(compiled, logits)


def test_discriminator() -> None:
    discriminator = Discriminator(3, 8)
    compiled = torch.compile(discriminator, fullgraph=True, backend="eager")
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(compiled(x), discriminator(x))


def test_kept_statistics_are_one_graph_too() -> None:
    """As the source's pass has it, where batch norm's statistics are the target's."""
    network = build_network(ModelConfig(backbone="resnet18", width=8, batch_norm="trained"), 3, seed=0).train()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    images = torch.randn(2, 3, 64, 64)
    before = network.get_buffer("bn1.running_mean").clone()
    with running_statistics_kept(network):
        compiled(images)
    assert torch.equal(network.get_buffer("bn1.running_mean"), before)
    compiled(images)
    assert not torch.equal(network.get_buffer("bn1.running_mean"), before)
