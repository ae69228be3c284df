"""How far AdaptSegNet and ADVENT are from the figures of their authors' code; see tests/golden/README.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adaptseg.config import DomainConfig, ExperimentConfig, MethodConfig, ModelConfig, OptimizerConfig
from adaptseg.data.label_spaces import label_space
from adaptseg.methods import build_method
from adaptseg.methods.adaptsegnet import AdaptSegNetConfig
from adaptseg.methods.advent import AdventConfig
from adaptseg.methods.base import Method
from adaptseg.methods.minent import MinEntConfig
from adaptseg.methods.optimizers import poly_factor, set_learning_rates
from adaptseg.models.build import build_network
from adaptseg.models.discriminator import Discriminator, DiscriminatorConfig
from adaptseg.models.entropy import entropy, self_information
from adaptseg.models.network import SegmentationNetwork
from adaptseg.segmenter.initial_settings import CAFFE
from adaptseg.segmenter.segmenter import Segmenter
from tests.golden.figures import DEVICE, batch, digest_difference, fill, image, labels, load, relative

ADVENT = ModelConfig(backbone="resnet101", levels=2).filled(*CAFFE)
RELEASED = replace(ADVENT, aspp_branches=2)
NO_UPSAMPLING = DiscriminatorConfig(upsample=False)

adaptsegnet, advent = load("adaptsegnet"), load("advent")


def golden_network(config: ModelConfig) -> SegmentationNetwork:
    with torch.device("meta"):  # Initial weights that nobody sees cost as much as the recipe's.
        network = build_network(config, 19, seed=0)
    fill(network)
    return network.to(DEVICE)


NETWORKS = {
    "eval_multi": (adaptsegnet, RELEASED),
    "eval_single": (adaptsegnet, replace(RELEASED, levels=1)),
    "eval_vgg": (adaptsegnet, replace(RELEASED, backbone="vgg16", levels=1)),
    "eval_multi_four_branches": (advent, ADVENT),
}


@torch.no_grad()
def network_difference(key: str) -> float:
    figures, config = NETWORKS[key]
    logits = golden_network(config).eval()(image(1))
    return max(digest_difference(*pair) for pair in zip(logits, figures[key], strict=True))


def golden_probabilities() -> Tensor:
    channel = image(3)[:, :1].repeat(1, 19, 1, 1)
    return (channel * torch.arange(19.0, device=DEVICE).view(1, 19, 1, 1) / 400).softmax(1)


@torch.no_grad()
def discriminator_difference() -> float:
    discriminator = Discriminator(19, upsample=False)
    fill(discriminator, "D.")
    return digest_difference(discriminator.to(DEVICE)(golden_probabilities()), adaptsegnet["discriminator"])


def entropy_difference() -> float:
    loss = relative(entropy(golden_probabilities()).mean().item(), advent["entropy_loss"])
    return max(loss, digest_difference(self_information(golden_probabilities()), advent["entropy_map"]))


TRAININGS: dict[str, tuple[dict[str, Any], ModelConfig, MethodConfig, OptimizerConfig]] = {
    "train_multi_vanilla": (
        adaptsegnet,
        RELEASED,
        AdaptSegNetConfig(discriminator=NO_UPSAMPLING),
        OptimizerConfig(),
    ),
    "train_multi_vanilla_released": (
        adaptsegnet,
        RELEASED,
        AdaptSegNetConfig(discriminator=NO_UPSAMPLING),
        OptimizerConfig(repeated_updates=True),
    ),
    "train_single_ls": (
        adaptsegnet,
        RELEASED,
        AdaptSegNetConfig(
            lambda_seg=(0.0, 1.0), lambda_adv=(0.0, 0.01), gan="least_squares", discriminator=NO_UPSAMPLING
        ),
        OptimizerConfig(),
    ),
    "train_minent": (advent, ADVENT, MinEntConfig(), OptimizerConfig()),
    "train_advent": (advent, ADVENT, AdventConfig(discriminator=NO_UPSAMPLING), OptimizerConfig()),
}


def golden_method(model: ModelConfig, method: MethodConfig, optimizer: OptimizerConfig) -> Method:
    domain = DomainConfig(layout="folder")
    config = ExperimentConfig(
        label_space="cityscapes19", source=domain, target=domain, model=model, method=method, optimizer=optimizer
    )
    segmenter = Segmenter(golden_network(model), label_space("cityscapes19"), preprocessing="none")
    built = build_method(segmenter, config)
    for level, discriminator in enumerate(getattr(built, "discriminators", []), start=1):
        fill(discriminator, f"D{level}.")
    return built.to(DEVICE).train()


def training_difference(key: str) -> float:
    """Return the largest difference of losses and gradient norms of three iterations, and of the final weights."""
    figures, model, options, settings = TRAININGS[key]
    method = golden_method(model, options, settings)
    optimizers = method.optimizers()
    differences = []
    for i, expected in enumerate(figures[key]["log"]):
        for optimizer in optimizers.values():
            optimizer.zero_grad()
            set_learning_rates(optimizer, poly_factor(i, 250_000, 0.9))
        losses = method.step(
            batch(image(100 + i), labels(200 + i, 129, 161)), batch(image(300 + i, 97, 129) * 0.7 + 10)
        )
        gradients = [p.grad for p in method.segmenter.parameters() if p.grad is not None]
        actual = {name: loss.item() for name, loss in losses.items()}
        actual["grad_norm"] = torch.stack([g.double().norm() for g in gradients]).norm().item()
        assert actual.keys() == expected.keys()
        differences += [relative(actual[name], expected[name]) for name in expected]
        for optimizer in optimizers.values():
            optimizer.step()
    final = figures[key]["final"]
    return max(differences + [digest_difference(parameter(method, name), final[name]) for name in final])


def parameter(method: Method, name: str) -> Tensor:
    """Return a tensor by its golden name: `D1.conv3.weight` is of the first level's discriminator."""
    if name.startswith("D"):
        discriminators: Any = method.discriminators
        value: Tensor = discriminators[int(name[1]) - 1].state_dict()[name[3:]]
        return value
    value = method.segmenter.network.state_dict()[name]
    return value
