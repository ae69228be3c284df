"""The segmenter's optimiser and the poly schedule."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
from torch import nn, optim
from torch.optim import Optimizer

from adaptseg.config import OptimizerConfig
from adaptseg.errors import InputError
from adaptseg.models.network import SegmentationNetwork


class Uncompiled:
    """Before an optimiser of torch: takes off its wrappers for `torch.compile`, which import the whole compiler.

    That takes as long as importing torch itself. Where an update is compiled, the wrappers keep parts of it out; here
    none is. The arithmetic is torch's.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one update with the gradients that are there."""
        result: float | None = unwrap(super().step)(self, closure)  # type: ignore[misc]
        return result


class SGD(Uncompiled, optim.SGD):  # type: ignore[misc]
    """torch's."""


class Adam(Uncompiled, optim.Adam):  # type: ignore[misc]
    """torch's."""


class AdamW(Uncompiled, optim.AdamW):  # type: ignore[misc]
    """torch's."""


def segmenter_optimizer(network: SegmentationNetwork, config: OptimizerConfig) -> Optimizer:
    """Return the optimiser: one group for the backbone, one with a larger rate for the classifiers."""
    classifier_ids = {id(p) for classifier in network.classifiers() for p in classifier.parameters()}
    classifier_lr = config.lr * config.classifier_lr_factor
    factors = layer_factors(network, config.layer_decay)
    groups: dict[tuple[float, int, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            in_classifier = id(parameter) in classifier_ids
            repeats = released_repeats(name) if config.repeated_updates and not in_classifier else 1
            decay = 0.0 if config.name == "adamw" and undecayed(name, parameter) else config.weight_decay
            lr = classifier_lr if in_classifier else config.lr * factors.get(name, 1.0)
            groups.setdefault((lr, repeats, decay), []).append(parameter)
    parameter_groups: list[dict[str, Any]] = [
        {"params": parameters, "lr": lr, "initial_lr": lr, "repeats": repeats, "weight_decay": decay}
        for (lr, repeats, decay), parameters in groups.items()
    ]
    fused = has_fused_update(network)
    if config.name == "adam":
        return Adam(parameter_groups, fused=fused)
    if config.name == "adamw":
        return AdamW(parameter_groups, fused=fused)
    kind = RepeatedSGD if config.repeated_updates else SGD
    return kind(parameter_groups, lr=config.lr, momentum=config.momentum, fused=fused)


def layer_factors(network: SegmentationNetwork, decay: float) -> dict[str, float]:
    """Return the factor on the learning rate of each backbone parameter of a ViT by name; empty for a decay of 1.

    1 for the last block, times `decay` for each block before it, and once more for what is in no block.

    Raises:
        InputError: the backbone has no such blocks.
    """
    if decay == 1:
        return {}
    names = [name for name, _ in network.named_parameters() if name.startswith("backbone.")]
    blocks = {name: int(match[1]) for name in names if (match := re.search(r"\.layer\.(\d+)\.", name))}
    if not blocks:
        raise InputError(f"optimizer.layer_decay is {decay}, for DINOv2 and DINOv3 alone; set it to 1")
    last = max(blocks.values())
    return {name: decay ** (last - blocks.get(name, -1)) for name in names}


def has_fused_update(network: nn.Module) -> bool:
    """Whether torch's optimisers update the network's parameters in one pass over memory, not one per operation."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in network.parameters())


def undecayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether AdamW's weight decay leaves a parameter out: norms, biases, scales, tokens, embeddings of positions."""
    return parameter.ndim <= 1 or "position_embeddings" in name or "token" in name


def released_repeats(name: str) -> int:
    """Return how often the released script lists a ResNet backbone parameter in its optimiser.

    Its nested loops over modules find the convolutions of blocks three times and those of shortcuts four times.
    """
    if "downsample" in name:
        return 4
    return 3 if name.startswith("layer") else 1


class RepeatedSGD(SGD):
    """SGD that applies `repeats` momentum updates per step to a parameter group, all with the same gradient.

    Equal to torch's SGD with parameters listed several times: in the very first step torch reads the (absent)
    momentum of all entries before it updates the first, so those updates do not build on each other's momentum.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every group once, then again those with more repeats."""
        groups = self.param_groups
        first_time = {p for group in groups for p in group["params"] if p not in self.state}
        try:
            for update in range(max(group["repeats"] for group in groups)):
                self.param_groups = [group for group in groups if group["repeats"] > update]
                for group in self.param_groups:
                    for parameter in first_time.intersection(group["params"]):
                        self.state.pop(parameter, None)
                super().step(closure)
        finally:
            self.param_groups = groups
        return None


def poly_factor(step: int, schedule_steps: int, power: float) -> float:
    """Return the factor (1 - step / schedule_steps) ** power on every learning rate (DeepLab-v2, section 4.1.1)."""
    return float((1 - step / schedule_steps) ** power)


def set_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
