"""DACS: self-training on images that are mixed across the domains.

Tranheden et al., "DACS: Domain Adaptation via Cross-domain Mixed Sampling", WACV 2021. Per iteration

    teacher      follows the segmenter as an exponential moving average, and labels the target images
    mixed        half of the classes of a source image, cut out and pasted onto a target image, with labels likewise
                 (ClassMix, Olsson et al., WACV 2021), then jittered in colour and blurred
    segmenter    Σ λ_seg (CE(source) + λ_mix CE(mixed))                                            (equation 2)

In CE(mixed) the pasted pixels weigh 1, the target's pixels the share of the image of which the teacher is sure.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptseg.config import ExperimentConfig, MethodConfig, require_in
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods.base import Method, level_weights, segment_source
from adaptseg.methods.losses import cross_entropy
from adaptseg.methods.teacher import Teacher
from adaptseg.models.batch_norm import running_statistics_kept
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class DACSConfig(MethodConfig):
    """Options of `dacs`."""

    name: str = "dacs"
    lambda_seg: tuple[float, ...] = (0.1, 1.0)
    """Weight of the cross-entropy per level, main last."""
    lambda_mix: float = 1.0
    """Weight of the mixed images beside the source's."""
    teacher_momentum: float = 0.99
    """Share of its weights that the teacher keeps in an iteration."""
    threshold: float = 0.968
    """Probability above which the teacher is sure of a pixel."""
    jitter: float = 0.25
    """Strength of the colour jitter of mixed images: brightness, contrast, saturation, hue."""
    running_statistics: str = "both"
    """Batches that update batch norm's running statistics: both source and mixed, or target (only the mixed)."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        super().__post_init__()
        require_in("method.teacher_momentum", self.teacher_momentum, 0, 1, below=True)
        require_in("method.threshold", self.threshold, 0, 1)
        require_in("method.jitter", self.jitter, 0, 0.5)
        if self.running_statistics not in ("both", "target"):
            raise InputError(f"method.running_statistics is {self.running_statistics!r}; choose both or target")


class DACS(Method):
    """A teacher labels the target; the segmenter learns from mixtures of both domains."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: DACSConfig) -> None:
        """Build the teacher."""
        from kornia import augmentation  # Slow to import, and only self-training needs it.

        super().__init__(segmenter, config)
        self.options = options
        self.lambda_seg = level_weights("lambda_seg", options.lambda_seg, config.model.levels)
        self.teacher = Teacher(segmenter, options.teacher_momentum)
        strength = options.jitter
        self.augment = torch.nn.Sequential(
            augmentation.ColorJitter(strength, strength, strength, strength, p=0.8),
            augmentation.RandomGaussianBlur((13, 13), (0.15, 1.15), p=0.5),
        )

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of one iteration: source, then mixed images."""
        assert target is not None
        self.teacher.follow(self.segmenter)
        pseudo_labels, confidence = self.teacher.pseudo_labels(target["image"], self.options.threshold)
        target_only = self.options.running_statistics == "target"
        with running_statistics_kept(self.segmenter) if target_only else nullcontext():
            losses = self.learn_source(source)
        losses["mix"] = self.learn_mixed(source, target["image"], pseudo_labels, confidence)
        losses |= self.learn_target(target["image"], pseudo_labels, confidence)
        return losses | {"confidence": confidence.mean()}

    def learn_source(self, source: Batch) -> dict[str, Tensor]:
        """Add the gradients of the source's cross-entropy; return the losses by name."""
        return segment_source(self.segmenter, source, self.lambda_seg)[1]

    def learn_mixed(self, source: Batch, target: Tensor, pseudo_labels: Tensor, confidence: Tensor) -> Tensor:
        """Add the gradients of the mixed images' cross-entropy; return the main level's loss."""
        labels = source["label"]
        assert labels is not None
        if labels.shape != pseudo_labels.shape:
            raise InputError(
                f"method {self.options.name} mixes source and target, but their batches are {_sizes(labels)} and"
                f" {_sizes(pseudo_labels)}; set source.size and target.size, or train.crop, to one size"
            )
        pasted = class_mask(labels)
        images = torch.where(pasted.unsqueeze(1), source["image"].float(), target.float())
        mixed_labels = torch.where(pasted, labels, pseudo_labels)
        weights = torch.where(pasted, 1.0, confidence.view(-1, 1, 1))
        return self.learn_weighted(self.augmented(images), mixed_labels, weights, self.options.lambda_mix)

    def learn_target(self, target: Tensor, pseudo_labels: Tensor, confidence: Tensor) -> dict[str, Tensor]:
        """Add the gradients of what is learned from the target alone; here nothing. Return the losses by name."""
        return {}

    def learn_weighted(self, images: Tensor, labels: Tensor, weights: Tensor, factor: float) -> Tensor:
        """Add `factor` times the gradients of the weighted cross-entropy; return the main level's loss."""
        losses = [cross_entropy(logits, labels, weights) for logits in self.segmenter(images)]
        sum(factor * weight * loss for weight, loss in zip(self.lambda_seg, losses, strict=True)).backward()  # type: ignore[union-attr]
        return losses[-1].detach()

    def augmented(self, images: Tensor) -> Tensor:
        """Return images (N, 3, H, W), values 0 … 255, jittered in colour and blurred, each in its own way."""
        changed: Tensor = self.augment((images / 255).clamp(0, 1))
        return changed * 255


def class_mask(labels: Tensor) -> Tensor:
    """Return where the pixels of a random half of each image's classes are, bool (N, H, W) (ClassMix).

    Args:
        labels: int64 (N, H, W); 255 is never chosen.
    """
    pixels = labels.flatten(1)
    present = torch.zeros(len(labels), 256, dtype=torch.bool, device=labels.device).scatter_(1, pixels, True)
    present[:, IGNORE_INDEX] = False
    # Ranks of random numbers, not a shuffled list of classes: no reading of how many there are, for which the
    # processor would wait.
    rank = torch.rand(present.shape, device=labels.device).masked_fill(~present, 2).argsort(1).argsort(1)
    chosen = present & (rank < (present.sum(1, keepdim=True) + 1) // 2)
    return chosen.gather(1, pixels).view_as(labels)


def _sizes(labels: Tensor) -> str:
    return f"{len(labels)} of {labels.shape[2]}x{labels.shape[1]}"
