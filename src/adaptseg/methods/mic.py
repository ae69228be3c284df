"""MIC: the segmenter completes what is masked, as the teacher sees it whole.

Hoyer et al., "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR 2023, on top of DAFormer's
losses: + λ_mask CE(masked target, pseudo-labels), weighted by the share of pixels of which the teacher is sure
(equation 5). The teacher's one look at the target serves the mixed and the masked images. Labelled target images enter
as in DACS; they are never masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.config import require_in
from adaptseg.errors import InputError
from adaptseg.methods.daformer import DAFormer, DAFormerConfig


@dataclass(frozen=True, kw_only=True)
class MICConfig(DAFormerConfig):
    """Options of `mic`."""

    name: str = "mic"
    lambda_mask: float = 1.0
    """Weight of the masked target images."""
    mask_ratio: float = 0.7
    """Share of the patches that are masked."""
    mask_patch: int = 32
    """Side of a patch in pixels, for images of 512x512; 64 for 1024x1024, less for smaller ones."""

    def __post_init__(self) -> None:
        """Refuse impossible masks."""
        super().__post_init__()
        require_in("method.mask_ratio", self.mask_ratio, 0, 1, below=True)
        if self.mask_patch < 1:
            raise InputError(f"method.mask_patch is {self.mask_patch}; give the side of a patch, at least 1 pixel")


class MIC(DAFormer):
    """DAFormer's training with masked image consistency."""

    def learn_target(self, target: Tensor, pseudo_labels: Tensor, pseudo_weights: Tensor) -> dict[str, Tensor]:
        """Add the gradients of the masked target's cross-entropy; return the loss."""
        assert isinstance(self.options, MICConfig)
        visible = patch_mask(target, self.options.mask_ratio, self.options.mask_patch)
        # What is masked is the mean colour: 0 for the network.
        images = torch.where(visible > 0, self.augmented(target.float()), self.segmenter.mean_color().view(1, 3, 1, 1))
        return {"mask": self.learn_weighted(images, pseudo_labels, pseudo_weights, self.options.lambda_mask)}


def patch_mask(images: Tensor, ratio: float, patch: int) -> Tensor:
    """Return 1 for visible pixels and 0 for masked ones, float (N, 1, H, W) for images (N, 3, H, W) (equation 3).

    Sides that are no multiple of the patch's are shared by as many patches as are nearest to that, as released.
    """
    rows, columns = (max(1, round(side / patch)) for side in images.shape[-2:])
    visible = (torch.rand(len(images), 1, rows, columns, device=images.device) > ratio).float()
    return functional.interpolate(visible, size=images.shape[-2:], mode="nearest")
