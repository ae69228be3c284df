"""Gradient checkpointing: the same gradients and statistics from fewer kept activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adaptseg.config import ModelConfig
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.models.build import build_network
from tests.conftest import random_batch

NETWORKS = [
    ModelConfig(backbone="resnet18", width=8, batch_norm="trained"),
    ModelConfig(backbone="resnet50", width=4, batch_norm="frozen"),
    ModelConfig(backbone="vgg16", width=8, levels=1),
    ModelConfig(backbone="efficientnet_lite0", width=16, levels=1),
    ModelConfig(backbone="mit_b0", width=16, levels=1),
    ModelConfig(backbone="dinov2_small", width=16, levels=1),
]


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.backbone)
def test_same_gradients_from_fewer_activations(config: ModelConfig) -> None:
    if config.is_transformer:
        pytest.importorskip("transformers", reason="the extra transformers is not installed")
    plain, recomputed = (build_network(config, 5, seed=0).train() for _ in range(2))
    recomputed.recompute_activations()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    kept = []
    for network in (plain, recomputed):
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.manual_seed(0)  # Transformers drop paths.
            logits = network(images)
        sum(x.square().mean() for x in logits).backward()
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2
    for (name, p), q in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-6, msg=name)
    for (name, buffer), other in zip(plain.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(buffer, other), name


@pytest.mark.parametrize("statistics", ["both", "target"])
def test_the_key_changes_no_step(statistics: str, experiment: dict[str, Any]) -> None:
    experiment["method"]["running_statistics"] = statistics
    steps = []
    for switched in (False, True):
        experiment.setdefault("train", {})["gradient_checkpointing"] = switched
        config = build_config(experiment)
        method = build_method(build_segmenter(config), config).train()
        assert method.segmenter.network.recompute == switched
        losses = method.step(random_batch(0, True), random_batch(1, False))
        steps.append((losses, [p.grad for p in method.parameters()], list(method.buffers())))
    (losses, gradients, buffers), (others, other_gradients, other_buffers) = steps
    assert losses == others
    for p, q in zip((*gradients, *buffers), (*other_gradients, *other_buffers), strict=True):
        assert (p is None) == (q is None)
        if p is not None:
            assert q is not None
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
