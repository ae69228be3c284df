"""Whose running statistics batch norm keeps when two domains pass through one network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within the block, forward passes in train mode leave the running statistics as they are.

    They still normalise by the batch's own statistics.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, kept, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
