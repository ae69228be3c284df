"""MaxSquare: like entropy minimisation, but with a gradient that sure pixels do not dominate.

Chen et al., "Domain Adaptation for Semantic Segmentation with Maximum Squares Loss", ICCV 2019:
Σ λ_seg CE(source) - Σ λ_square Σ w p² / 2 on the target (equation 3), with image-wise class weights (equation 9):
w = 1 / (n_c^α (HW)^(1-α)), where n_c pixels of the image are predicted to be of the pixel's class c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adaptseg.config import require_in
from adaptseg.methods.minent import MinEnt, MinEntConfig


@dataclass(frozen=True, kw_only=True)
class MaxSquareConfig(MinEntConfig):
    """Options of `maxsquare`."""

    name: str = "maxsquare"
    lambda_ent: tuple[float, ...] = (0.01, 0.1)
    """Weight of the target's maximum squares loss per level, main last."""
    alpha: float = 0.2
    """Exponent α of the image-wise class weights: 0 none, 1 every class counts alike."""

    def __post_init__(self) -> None:
        """Refuse exponents that are none."""
        super().__post_init__()
        require_in("method.alpha", self.alpha, 0, 1)


class MaxSquare(MinEnt):
    """MinEnt with the maximum squares loss in place of the entropy."""

    def target_loss(self, probabilities: Tensor) -> Tensor:
        """Return the maximum squares loss of probabilities (N, C, H, W), at least -½."""
        assert isinstance(self.options, MaxSquareConfig)
        weights = image_wise_weights(probabilities.detach().argmax(1), probabilities.shape[1], self.options.alpha)
        return -(weights * probabilities.square().sum(1)).sum() / (2 * len(probabilities))


def image_wise_weights(predicted: Tensor, classes: int, alpha: float) -> Tensor:
    """Return 1 / (n_c^α (HW)^(1-α)) for each pixel of predicted classes (N, H, W); for α 0 they sum to 1 per image."""
    flat = predicted.flatten(1)
    counts = torch.zeros(len(flat), classes, device=flat.device).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=torch.float32)
    )
    weights: Tensor = 1 / (counts.clamp(min=1).pow(alpha) * flat.shape[1] ** (1 - alpha))
    return weights.gather(1, flat).view(predicted.shape)
