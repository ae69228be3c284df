"""Training on the source alone: the lower bound of every table; on the target's labels, the oracle.

Labelled target images, where there are some, add + λ_labelled Σ λ_seg CE(labelled target).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adaptseg.config import ExperimentConfig, MethodConfig
from adaptseg.data.loader import Batch
from adaptseg.methods.base import Method, level_weights, segment_source
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class SourceOnlyConfig(MethodConfig):
    """Options of `source_only`."""

    name: str = "source_only"
    lambda_seg: tuple[float, ...] = (0.1, 1.0)
    """Weight of the segmentation loss per level, main last."""


class SourceOnly(Method):
    """Supervised segmentation: Σ λ_seg CE(source).

    Never sees a target image without a label. That is why λ_adv = 0 is not the same: there, target images would still
    move the running statistics of batch norm.
    """

    uses_target = False

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: SourceOnlyConfig) -> None:
        """Take one weight per level."""
        super().__init__(segmenter, config)
        self.lambda_seg = level_weights("lambda_seg", options.lambda_seg, config.model.levels)

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of the segmentation loss."""
        return segment_source(self.segmenter, source, self.lambda_seg)[1]
