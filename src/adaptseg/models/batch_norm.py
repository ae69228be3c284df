"""Batch norm: what of it is trained, and whose running statistics it keeps when two domains pass through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within the block, forward passes in train mode leave the running statistics as they are.

    They still normalise by the batch's own statistics.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    kept = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer, (_, count) in zip(layers, kept, strict=True):
        layer.momentum = 0.0
        # Synchronised batch norm insists on counting.
        layer.num_batches_tracked = count.clone() if count is not None and type(layer) is nn.SyncBatchNorm else None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, kept, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count


def fix_affine(network: nn.Module, mode: str) -> None:
    """Exclude the weight and bias of each batch norm from training, unless `mode` (model.batch_norm) is `trained`."""
    for module in network.modules():
        if mode != "trained" and isinstance(module, _BatchNorm):
            for parameter in module.parameters(recurse=False):  # None without `affine`.
                parameter.requires_grad_(False)


def fix_statistics(network: nn.Module, mode: str) -> None:
    """Have each batch norm use its running statistics in training mode too, if `mode` is `frozen`."""
    for module in network.modules():
        if mode == "frozen" and isinstance(module, _BatchNorm):
            module.eval()
