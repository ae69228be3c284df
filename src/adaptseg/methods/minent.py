"""MinEnt: direct entropy minimisation on the target.

Vu et al., "ADVENT: Adversarial Entropy Minimization for Domain Adaptation in Semantic Segmentation", CVPR 2019,
section 3.1: Σ λ_seg CE(source) + Σ λ_ent entropy(target), equation 3. Labelled target images add
+ λ_labelled Σ λ_seg CE(labelled target); the entropy is of the unlabelled ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adaptseg.config import ExperimentConfig, MethodConfig
from adaptseg.data.loader import Batch
from adaptseg.methods.base import Method, level_weights, segment_source
from adaptseg.models.entropy import entropy
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class MinEntConfig(MethodConfig):
    """Options of `minent`."""

    name: str = "minent"
    lambda_seg: tuple[float, ...] = (0.1, 1.0)
    """Weight of the segmentation loss per level, main last."""
    lambda_ent: tuple[float, ...] = (0.0002, 0.001)
    """Weight of the target's entropy per level, main last."""


class MinEnt(Method):
    """Makes the segmenter sure of itself on the target."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: MinEntConfig) -> None:
        """Take one weight per level."""
        super().__init__(segmenter, config)
        self.options = options
        self.lambda_seg = level_weights("lambda_seg", options.lambda_seg, config.model.levels)
        self.lambda_ent = level_weights("lambda_ent", options.lambda_ent, config.model.levels)

    def target_loss(self, probabilities: Tensor) -> Tensor:
        """Return what is made small on the target, of probabilities (N, C, H, W): here their mean entropy."""
        return entropy(probabilities).mean()

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of one iteration: segment the source, then sharpen the target."""
        assert target is not None
        losses = segment_source(self.segmenter, source, self.lambda_seg)[1]
        target_losses = [self.target_loss(logits.float().softmax(1)) for logits in self.segmenter(target["image"])]
        sum(weight * loss for weight, loss in zip(self.lambda_ent, target_losses, strict=True)).backward()  # type: ignore[union-attr]
        return losses | {f"ent{level}": loss.detach() for level, loss in enumerate(target_losses, start=1)}
