from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from adaptseg.config import ModelConfig, OptimizerConfig
from adaptseg.methods.optimizers import RepeatedSGD, poly_factor, segmenter_optimizer, set_learning_rates
from adaptseg.models.build import build_network


def test_repeated_updates_equal_torchs_with_parameters_listed_repeatedly() -> None:
    ours = nn.ParameterList(nn.Parameter(torch.randn(5)) for _ in range(3))
    theirs = copy.deepcopy(ours)
    settings: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = RepeatedSGD([{"params": [p], "repeats": n} for p, n in zip(ours, (1, 3, 4), strict=True)], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of parameters that are listed twice
        repeated = [p for p, n in zip(theirs, (1, 3, 4), strict=True) for _ in range(n)]
        reference = torch.optim.SGD(repeated, foreach=False, **settings)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(5)
            q.grad = p.grad.clone()
        optimizer.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q)


def test_schedule_equals_torchs() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    ours = torch.optim.SGD([{"params": [parameter], "initial_lr": 0.5}], lr=0.5)
    reference = torch.optim.SGD([parameter], lr=0.5)
    schedule = torch.optim.lr_scheduler.PolynomialLR(reference, total_iters=10, power=0.9)
    for step in range(10):
        set_learning_rates(ours, poly_factor(step, 10, 0.9))
        assert ours.param_groups[0]["lr"] == pytest.approx(reference.param_groups[0]["lr"])
        reference.step()
        schedule.step()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_steps_are_torchs(name: str) -> None:
    """Momentum and weight decay are the configuration's: the same weights as a plain optimiser's after three steps."""
    config = OptimizerConfig(name=name, lr=0.01, classifier_lr_factor=1, momentum=0.7, weight_decay=0.3)
    network = build_network(ModelConfig(backbone="resnet18", width=4, batch_norm="trained"), classes=3, seed=0)
    copied = copy.deepcopy(network)
    plain: torch.optim.Optimizer
    if name == "sgd":
        plain = torch.optim.SGD(copied.parameters(), lr=0.01, momentum=0.7, weight_decay=0.3)
    elif name == "adam":
        plain = torch.optim.Adam(copied.parameters(), lr=0.01, weight_decay=0.3)
    else:
        groups = [{"params": [p for p in copied.parameters() if (p.ndim > 1) == decays]} for decays in (False, True)]
        groups[0]["weight_decay"] = 0.0  # type: ignore[assignment]
        plain = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3)
    ours = segmenter_optimizer(network, config)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for p, q in zip(network.parameters(), copied.parameters(), strict=True):
            p.grad = q.grad = torch.randn(p.shape, generator=generator)
        ours.step()
        plain.step()
    for p, q in zip(network.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_classifiers_learn_faster_and_frozen_parameters_not_at_all(name: str) -> None:
    model = ModelConfig(backbone="resnet18", width=8, batch_norm="affine_frozen")
    network = build_network(model, classes=3, seed=0)
    optimizer = segmenter_optimizer(network, OptimizerConfig(name=name, lr=0.01, classifier_lr_factor=10))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in network.named_parameters():
        expected = None if "bn" in key or "downsample.1" in key else 0.1 if key[:6] in ("layer5", "layer6") else 0.01
        assert rates.get(id(parameter)) == expected, key
