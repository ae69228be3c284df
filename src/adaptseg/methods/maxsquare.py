"""MaxSquare: like entropy minimisation, but with a gradient that sure pixels do not dominate.

Chen et al., "Domain Adaptation for Semantic Segmentation with Maximum Squares Loss", ICCV 2019:
Σ λ_seg CE(source) - Σ λ_square Σ w p² / 2 on the target (equation 3), with image-wise class weights (equation 9):
w = 1 / (n_c^α (HW)^(1-α)), where n_c pixels of the image are predicted to be of the pixel's class c.
Labelled target images add + λ_labelled Σ λ_seg CE(labelled target), on images that are never blurred.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adaptseg.config import ExperimentConfig, require_in
from adaptseg.data.loader import Batch
from adaptseg.methods.color_jitter import GaussianBlur
from adaptseg.methods.minent import MinEnt, MinEntConfig
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class MaxSquareConfig(MinEntConfig):
    """Options of `maxsquare`."""

    name: str = "maxsquare"
    lambda_ent: tuple[float, ...] = (0.001, 0.0105)
    """Weight of the target's maximum squares loss per level, main last; the released 0.1 is 0.1 · 2 / 19 here."""
    alpha: float = 0.2
    """Exponent α of the image-wise class weights: 0 none, 1 every class counts alike."""
    class_mean: bool = False
    """Released code's quirk: the mean over classes too, and no half beside class weights. With it belongs λ 0.1."""
    blur: bool = False
    """Half of the images are blurred, σ up to 1 pixel, source and target alike (as released)."""

    def __post_init__(self) -> None:
        """Refuse exponents that are none."""
        super().__post_init__()
        require_in("method.alpha", self.alpha, 0, 1)


class MaxSquare(MinEnt):
    """MinEnt with the maximum squares loss in place of the entropy."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: MaxSquareConfig) -> None:
        """Take the options."""
        super().__init__(segmenter, config, options)
        self.blur = GaussianBlur(size=7, sigma=(0.05, 1.0), probability=0.5)

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of one iteration, on blurred images where `blur` wants it."""
        assert target is not None
        return super().step(*(self._blurred(batch) for batch in (source, target)))

    def _blurred(self, batch: Batch) -> Batch:
        assert isinstance(self.options, MaxSquareConfig)
        image = self.blur(batch["image"].float()) if self.options.blur else batch["image"]
        return Batch(image=image, label=batch["label"], names=batch["names"])

    def target_loss(self, probabilities: Tensor) -> Tensor:
        """Return the maximum squares loss of probabilities (N, C, H, W), at least -½."""
        assert isinstance(self.options, MaxSquareConfig)
        return maximum_squares_loss(probabilities, self.options.alpha, self.options.class_mean)


def maximum_squares_loss(probabilities: Tensor, alpha: float, class_mean: bool = False) -> Tensor:
    """Return the maximum squares loss of probabilities (N, C, H, W), at least -½ (equations 3 and 9).

    Args:
        probabilities: summing to 1 over classes.
        alpha: exponent of the image-wise class weights; 0: none.
        class_mean: as released, a mean over classes where the paper has a sum, and no half beside class weights.
    """
    count, classes = probabilities.shape[:2]
    weights = image_wise_weights(probabilities.detach().argmax(1), classes, alpha)
    loss = -(weights * probabilities.square().sum(1)).sum() / (2 * count)
    if not class_mean:
        return loss
    return loss / classes if alpha == 0 else loss * 2 / classes


def image_wise_weights(predicted: Tensor, classes: int, alpha: float) -> Tensor:
    """Return 1 / (n_c^α (HW)^(1-α)) for each pixel of predicted classes (N, H, W); for α 0 they sum to 1 per image."""
    flat = predicted.flatten(1)
    counts = torch.zeros(len(flat), classes, device=flat.device).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=torch.float32)
    )
    weights: Tensor = 1 / (counts.clamp(min=1).pow(alpha) * flat.shape[1] ** (1 - alpha))
    return weights.gather(1, flat).view(predicted.shape)
