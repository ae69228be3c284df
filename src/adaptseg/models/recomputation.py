"""Activations computed anew in the backward pass instead of kept: less memory for more time.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016 ("gradient checkpointing").
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adaptseg.models.batch_norm import running_statistics_kept


def forward_blocks(blocks: Iterable[nn.Module], x: Tensor, recompute: bool) -> Tensor:
    """Pass x through the blocks, one after another.

    Args:
        blocks: modules that draw no random numbers and leave their input as it is.
        x: input of the first.
        recompute: keep for the backward pass only what goes into each block. Gradients and batch norm's running
            statistics are the same.
    """
    for block in blocks:
        x = checkpoint(block, x, **_settings(block)) if recompute else block(x)
    return x


def _settings(block: nn.Module) -> dict[str, Any]:
    return {"use_reentrant": False, "preserve_rng_state": False, "context_fn": partial(_contexts, block)}


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the first pass and of the second, which moves no statistics again."""
    return nullcontext(), running_statistics_kept(block)
