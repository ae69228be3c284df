"""DAFormer's training recipe: DACS, and features of things that stay near those of the initial weights.

Hoyer et al., "DAFormer: Improving Network Architectures and Training Strategies for Domain-Adaptive Semantic
Segmentation", CVPR 2022. Its rare-class sampling (section 3.3, equations 7 and 8) is `train.rare_class_temperature`,
its learning-rate warm-up `train.warmup_steps`. Here is the third part, the thing-class feature distance

    + λ_fd Σ ‖F_initial(source) - F(source)‖ over places that are mostly of a thing class       (equations 9 to 12)

where F is the last stage of the backbone, and F_initial the same with the initial (ImageNet) weights. Labelled target
images enter as in DACS; the distance is the source's alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.config import ExperimentConfig, require_in
from adaptseg.data.label_spaces import THINGS
from adaptseg.data.loader import Batch
from adaptseg.distributed import mean_over_processes
from adaptseg.errors import InputError
from adaptseg.methods.base import backward_segmentation
from adaptseg.methods.dacs import DACS, DACSConfig
from adaptseg.methods.teacher import without_noise
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class DAFormerConfig(DACSConfig):
    """Options of `daformer`."""

    name: str = "daformer"
    teacher_momentum: float = 0.999
    """Share of its weights that the teacher keeps in an iteration."""
    jitter: float = 0.2
    """Strength of the colour jitter of mixed images: brightness (added), contrast, saturation, hue."""
    lambda_fd: float = 0.0
    """Weight of the thing-class feature distance; 0.005 as published. Needs initial weights (`model.weights`)."""
    things_share: float = 0.75
    """Share of a place's pixels that must be of one thing class for its feature to count."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        super().__post_init__()
        require_in("method.things_share", self.things_share, 0, 1)


class DAFormer(DACS):
    """DACS with the thing-class feature distance."""

    things: Tensor

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: DAFormerConfig) -> None:
        """Keep the initial network where the feature distance is wanted.

        Raises:
            InputError: there are no initial weights, or no class of the label space is a thing.
        """
        super().__init__(segmenter, config, options)
        self.initial: Segmenter | None = None
        if options.lambda_fd:
            if not segmenter.network.has_feature_maps:
                raise InputError(
                    f"method.lambda_fd needs feature maps, which the network of model.factory {config.model.factory}"
                    " does not give; set it to 0"
                )
            if config.model.weights is None:
                raise InputError("method.lambda_fd needs initial weights to stay near to; set model.weights, or 0")
            names = segmenter.label_space.classes
            things = [index for index, name in enumerate(names) if name in THINGS]
            if not things:
                raise InputError(
                    f"method.lambda_fd: no class is a thing; name some of them as {', '.join(THINGS)}, or set it to 0"
                )
            self.initial = copy.deepcopy(segmenter).requires_grad_(False)
            self.register_buffer("things", torch.tensor(things), persistent=False)

    def learn_source(self, source: Batch) -> dict[str, Tensor]:
        """Add the gradients of the source's cross-entropy and feature distance; return the losses by name."""
        if self.initial is None:
            return super().learn_source(source)
        assert isinstance(self.options, DAFormerConfig)
        assert source["label"] is not None
        images, labels = source["image"], source["label"]
        size = (images.shape[-2], images.shape[-1])
        prepared = self.segmenter.preprocess(images)
        features = self.segmenter.network.feature_maps(prepared)
        logits = [self.segmenter.upsample(x, size) for x in self.segmenter.network.classify(features)]
        without_noise(self.initial)
        with torch.no_grad():
            initial = self.initial.network.feature_maps(prepared)[-1]
        size = (features[-1].shape[-2], features[-1].shape[-1])
        where = mostly_of_a_class(labels, self.things, size, self.options.things_share)
        loss = feature_distance(features[-1], initial, where)
        torch.autograd.backward(self.options.lambda_fd * loss, retain_graph=True)
        void_counts = self.options.void_in_mean == "all"
        return backward_segmentation(logits, source, self.lambda_seg, void_counts) | {"fd": loss.detach()}


def feature_distance(features: Tensor, initial: Tensor, where: Tensor) -> Tensor:
    """Return the mean of ‖initial - features‖ over the places of `where` (equations 9 and 12); 0 without any.

    Args:
        features: (N, C, h, w), as `initial`.
        initial: the same of the initial weights.
        where: 1 for places that count, else 0, (N, h, w).
    """
    distance: Tensor = torch.linalg.vector_norm(features.float() - initial.float(), dim=1)
    return (distance * where).sum() / mean_over_processes(where.sum()).clamp(min=1)


def mostly_of_a_class(labels: Tensor, classes: Tensor, size: tuple[int, int], share: float) -> Tensor:
    """Return 1 where at least `share` of a place's pixels are of one of the classes, else 0, float (N, h, w).

    Args:
        labels: int64 (N, H, W).
        classes: int64 (K,).
        size: (h, w), the places.
        share: 0 … 1.
    """
    one_hot = (labels.unsqueeze(1) == classes.view(1, -1, 1, 1)).float()
    return (functional.adaptive_avg_pool2d(one_hot, size) >= share).any(1).float()
