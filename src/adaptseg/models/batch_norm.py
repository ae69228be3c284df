"""Modes of training: whose running statistics batch norm keeps, and networks that only predict while others train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within the block, forward passes in train mode leave the running statistics as they are.

    They still normalise by the batch's own statistics.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
    kept = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, kept, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count


def without_noise(network: nn.Module) -> None:
    """Switch off what makes two looks at one image differ (dropout, drop path); batch norm stays in its mode."""
    for module in network.modules():
        # What contains others keeps its mode, by which that of the whole is told.
        if not isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and not any(module.children()):
            module.training = False
