"""From a configuration to a raw network with random weights."""

from __future__ import annotations

import torch

from adaptseg.config import LITES, ModelConfig
from adaptseg.models.deeplab import DeepLabResNet, DeepLabVGG
from adaptseg.models.efficientnet import EfficientNetLiteNetwork
from adaptseg.models.network import SegmentationNetwork
from adaptseg.models.own_network import build_own_network

RANDOM = ("imagenet", "second", "trained")
"""Preprocessing, stride of bottlenecks and batch norm of networks that begin from random weights."""


def build_network(config: ModelConfig, classes: int, seed: int | None = None) -> SegmentationNetwork:
    """Return the raw network with initial weights that depend on `seed` alone (none: on torch's global state).

    Its `config` says what `config` leaves open. With a `model.factory` this runs the code that it names.
    """
    config = config.filled(*RANDOM)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        network: SegmentationNetwork
        if config.factory is not None:
            network = build_own_network(config, classes)
        elif config.is_transformer:
            from adaptseg.models.transformer import TransformerNetwork  # An extra, slow to import.

            network = TransformerNetwork(config, classes)
        elif config.backbone in LITES:
            network = EfficientNetLiteNetwork(config, classes)
        else:
            network = DeepLabVGG(config, classes) if config.backbone == "vgg16" else DeepLabResNet(config, classes)
    network.config = config
    return network
