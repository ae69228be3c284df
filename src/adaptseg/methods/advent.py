"""ADVENT: AdaptSegNet's game played on entropy maps.

Vu et al., "ADVENT: Adversarial Entropy Minimization for Domain Adaptation in Semantic Segmentation", CVPR 2019,
section 3.2: the discriminators see the weighted self-information of the outputs instead of the probabilities.
Labelled target images add + λ_labelled Σ λ_seg CE(labelled target); the discriminators do not see them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adaptseg.methods.adaptsegnet import AdaptSegNet, AdaptSegNetConfig
from adaptseg.models.entropy import self_information


@dataclass(frozen=True, kw_only=True)
class AdventConfig(AdaptSegNetConfig):
    """Options of `advent`: those of `adaptsegnet`."""

    name: str = "advent"


class Advent(AdaptSegNet):
    """AdaptSegNet with discriminators on entropy maps."""

    def discriminator_input(self, output: Tensor) -> Tensor:
        """Return the weighted self-information (N, C, H, W) of logits (N, C, H, W)."""
        return self_information(super().discriminator_input(output))
