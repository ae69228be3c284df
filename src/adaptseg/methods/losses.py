"""Losses as free functions, each with its shapes and its equation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.distributed import mean_over_processes
from adaptseg.models.entropy import entropy

GUESSING_LOSS = {"vanilla": math.log(2), "least_squares": 0.25}
"""Loss by kind of GAN of a discriminator that says ½ everywhere: ½ ln 2, or ½ (½)², on each domain."""


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None, void_counts: bool = False) -> Tensor:
    """Return the mean over labelled pixels of -log softmax(logits)[label] (Tsai et al. 2018, equation 3).

    Args:
        logits: (N, C, H, W).
        labels: int64 (N, H, W), train ids; 255 is left out.
        weights: (N, H, W), multiplied to each pixel's loss; none: 1. The mean is over pixels, not over weights.
        void_counts: the sum is divided by all pixels, those without a label included.

    Returns:
        A scalar; 0 where no pixel has a label.
    """
    # Over all processes, so that the mean of their gradients is that of the whole batch.
    labelled = mean_over_processes((labels != IGNORE_INDEX).sum()).clamp(min=1)
    pixels = labels.numel() if void_counts else labelled
    if weights is None:
        return functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum") / pixels
    each = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (weights * each).sum() / pixels


def adversarial_loss(logits: Tensor, domain: float, gan: str) -> Tensor:
    """Return how far the discriminator's logits are from saying `domain` everywhere, averaged over places.

    `vanilla` is binary cross-entropy (Tsai et al. 2018, equations 2 and 4); `least_squares` is the mean of
    (logit - domain)² (Mao et al., ICCV 2017).

    Args:
        logits: (N, 1, h, w).
        domain: `SOURCE_LABEL` (0) or `TARGET_LABEL` (1).
        gan: vanilla or least_squares.
    """
    goal = torch.full_like(logits, domain, dtype=torch.float32)
    if gan == "least_squares":
        return functional.mse_loss(logits.float(), goal)
    return functional.binary_cross_entropy_with_logits(logits.float(), goal)


def robust_entropy_loss(probabilities: Tensor, eta: float) -> Tensor:
    """Return the mean over pixels of (x² + 1e-8)^η, x the normalised entropy (Yang and Soatto 2020, equation 4).

    The paper writes 0.001² for the released code's 1e-8.

    Args:
        probabilities: (N, C, H, W), summing to 1 over classes.
        eta: the larger, the less is asked of unsure pixels.
    """
    return (entropy(probabilities).square() + 1e-8).pow(eta).mean()
