"""The entropy of class probabilities: losses, scores and maps share one definition."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def self_information(probabilities: Tensor) -> Tensor:
    """Return the weighted self-information -p log2(p + 1e-30) / log2(C), (N, C, H, W) (Vu et al. 2019, section 3.2).

    Args:
        probabilities: (N, C, H, W), summing to 1 over classes.
    """
    return -probabilities * torch.log2(probabilities + 1e-30) / math.log2(probabilities.shape[1])


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy over log C, (N, H, W): 0 where one class is certain, 1 where all are equally probable."""
    return self_information(probabilities).sum(1)
