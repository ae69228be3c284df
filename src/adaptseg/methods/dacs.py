"""DACS: self-training on images that are mixed across the domains.

Tranheden et al., "DACS: Domain Adaptation via Cross-domain Mixed Sampling", WACV 2021. Per iteration

    teacher      follows the segmenter as an exponential moving average, and labels the target images
    mixed        half of the classes of a source image, cut out and pasted onto a target image, with labels likewise
                 (ClassMix, Olsson et al., WACV 2021), then jittered in colour and blurred
    segmenter    Σ λ_seg (CE(source) + λ_mix CE(mixed))                                            (equation 2)
                 + λ_labelled Σ λ_seg CE(labelled target), of which a share of the cut-outs is too

In CE(mixed) the pasted pixels weigh 1, the target's pixels the share of the image of which the teacher is sure
(`confidence`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptseg.config import ExperimentConfig, MethodConfig, require_in
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods.base import Method, level_weights, segment_source
from adaptseg.methods.color_jitter import ColorJitter, GaussianBlur
from adaptseg.methods.losses import cross_entropy
from adaptseg.methods.teacher import Teacher, confidence_weights
from adaptseg.models.batch_norm import running_statistics_kept
from adaptseg.segmenter.segmenter import Segmenter

CHOICES = {
    "confidence": ("image", "batch", "pixel"),
    "void_in_mean": ("none", "mixed", "all"),
    "running_statistics": ("both", "target"),
}


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
    """Probability from which on the teacher is sure of a pixel."""
    confidence: str = "image"
    """Pseudo-labels weigh the share of sure pixels of each `image`, or of the `batch` (as released); or `pixel`: 1
    where the teacher is sure, and 0 elsewhere, so that classes it doubts are not unlearned."""
    ignore_top: float = 0.0
    """Share of the target's rows, from the top, whose pseudo-labels weigh nothing (rectification; DAFormer 15/512)."""
    ignore_bottom: float = 0.0
    """Share of the target's rows, from the bottom, whose pseudo-labels weigh nothing (bonnet; DAFormer 120/512)."""
    jitter: float = 0.25
    """Strength of the colour jitter of mixed images: brightness (added), contrast, saturation, hue."""
    mix_void: bool = False
    """Released code's quirk: what has no label is one more class that may be pasted."""
    void_in_mean: str = "none"
    """Released code's quirk: losses of the `mixed` images (DACS), or `all` (DAFormer), are means over void too."""
    running_statistics: str = "both"
    """Batches that update batch norm's running statistics: both source and mixed, or target (only the mixed)."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        super().__post_init__()
        require_in("method.teacher_momentum", self.teacher_momentum, 0, 1, below=True)
        for key in ("threshold", "ignore_top", "ignore_bottom"):
            require_in(f"method.{key}", getattr(self, key), 0, 1)
        require_in("method.jitter", self.jitter, 0, 0.5)
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise InputError(f"method.{key} is {getattr(self, key)!r}; choose one of {', '.join(choices)}")


class DACS(Method):
    """A teacher labels the target; the segmenter learns from mixtures of both domains."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: DACSConfig) -> None:
        """Build the teacher."""
        super().__init__(segmenter, config)
        self.options = options
        self.lambda_seg = level_weights("lambda_seg", options.lambda_seg, config.model.levels)
        self.teacher = Teacher(segmenter, options.teacher_momentum)
        strength = options.jitter
        self.jitter = ColorJitter(
            brightness=strength, contrast=strength, saturation=strength, hue=strength, probability=0.8, additive=True
        )
        self.blur = GaussianBlur(size=13, sigma=(0.15, 1.15), probability=0.5)

    def iteration(self, source: Batch, target: Batch | None, labelled: Batch | None = None) -> dict[str, Tensor]:
        """Take `step`, in which labelled target images are cut out too, then learn from these themselves."""
        losses = self.step(self.in_target_style(source, target), target, labelled)
        return losses if labelled is None else losses | self.learn_labelled(labelled)

    def step(self, source: Batch, target: Batch | None, labelled: Batch | None = None) -> dict[str, Tensor]:
        """Add the gradients of one iteration: source, then mixed images."""
        assert target is not None
        self.teacher.follow(self.segmenter)
        pseudo_labels, sure = self.label_target(target["image"])
        target_only = self.options.running_statistics == "target"
        with running_statistics_kept(self.segmenter) if target_only else nullcontext():
            losses = self.learn_source(source)
        weights = self.pseudo_weights(sure, target)
        cut_from = source if labelled is None else self.with_labelled(source, labelled)
        losses["mix"] = self.learn_mixed(cut_from, target["image"], pseudo_labels, weights)
        losses |= self.learn_target(target["image"], pseudo_labels, weights)
        return losses | {"confidence": sure.mean((1, 2)).mean()}

    def with_labelled(self, source: Batch, labelled: Batch) -> Batch:
        """Return what is cut out of: each source image gives way to a labelled target image by `train.labelled_share`.

        Raises:
            InputError: the two are of different sizes.
        """
        labels, others = source["label"], labelled["label"]
        assert labels is not None
        assert others is not None
        if labels.shape[1:] != others.shape[1:]:
            raise InputError(
                f"method {self.options.name} mixes images of one size, but the source's batch is {_sizes(labels)}, that"
                f" of the labelled target {_sizes(others)}; set target_labelled.size, or train.crop, to one size"
            )
        taken = torch.rand(len(labels), device=labels.device) < self.config.train.labelled_share
        place = torch.arange(len(labels), device=labels.device) % len(others)
        return Batch(
            image=torch.where(taken.view(-1, 1, 1, 1), labelled["image"][place], source["image"]),
            label=torch.where(taken.view(-1, 1, 1), others[place], labels),
            names=source["names"],
        )

    def learn_source(self, source: Batch) -> dict[str, Tensor]:
        """Add the gradients of the source's cross-entropy; return the losses by name."""
        return segment_source(self.segmenter, source, self.lambda_seg, self.options.void_in_mean == "all")[1]

    def label_target(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return pseudo-labels (N, H, W) and which pixels are sure (N, H, W) of target images (N, 3, H, W)."""
        return self.teacher.pseudo_labels(images, self.options.threshold)

    def pseudo_weights(self, sure: Tensor, target: Batch) -> Tensor:
        """Return how much each pseudo-label weighs, (N, H, W): the confidence, 0 in the ignored rows."""
        weights = confidence_weights(sure, self.options.confidence).clone()
        height = weights.shape[1]
        weights[:, : round(self.options.ignore_top * height)] = 0
        weights[:, height - round(self.options.ignore_bottom * height) :] = 0
        return weights

    def learn_mixed(self, source: Batch, target: Tensor, pseudo_labels: Tensor, pseudo_weights: Tensor) -> Tensor:
        """Add the gradients of the mixed images' cross-entropy; return the main level's loss."""
        labels = source["label"]
        assert labels is not None
        if labels.shape != pseudo_labels.shape:
            raise InputError(
                f"method {self.options.name} mixes source and target, but their batches are {_sizes(labels)} and"
                f" {_sizes(pseudo_labels)}; set source.size and target.size, or train.crop, to one size"
            )
        pasted = class_mask(labels, self.options.mix_void)
        images, mixed_labels, weights = class_mix(pasted, source, target, pseudo_labels, pseudo_weights)
        return self.learn_weighted(self.augmented(images), mixed_labels, weights, self.options.lambda_mix)

    def learn_target(self, target: Tensor, pseudo_labels: Tensor, pseudo_weights: Tensor) -> dict[str, Tensor]:
        """Add the gradients of what is learned from the target alone; here nothing. Return the losses by name."""
        return {}

    def learn_weighted(self, images: Tensor, labels: Tensor, weights: Tensor, factor: float) -> Tensor:
        """Add `factor` times the gradients of the weighted cross-entropy; return the main level's loss."""
        void_counts = self.options.void_in_mean != "none"
        losses = [cross_entropy(logits, labels, weights, void_counts) for logits in self.segmenter(images)]
        sum(factor * weight * loss for weight, loss in zip(self.lambda_seg, losses, strict=True)).backward()  # type: ignore[union-attr]
        return losses[-1].detach()

    def augmented(self, images: Tensor) -> Tensor:
        """Return images (N, 3, H, W), values 0 … 255, jittered in colour and blurred, each in its own way."""
        return self.blur(transformed(self.jitter, images))


def transformed(transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return images (N, 3, H, W), values 0 … 255, after a transform of values 0 … 1."""
    return transform((images / 255).clamp(0, 1)) * 255


def class_mix(
    pasted: Tensor, source: Batch, target: Tensor, pseudo_labels: Tensor, pseudo_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, 3, H, W), labels (N, H, W) and weights (N, H, W): the source's where `pasted`, of weight 1."""
    labels = source["label"]
    assert labels is not None
    images = torch.where(pasted.unsqueeze(1), source["image"].float(), target.float())
    return images, torch.where(pasted, labels, pseudo_labels), torch.where(pasted, 1.0, pseudo_weights)


def class_mask(labels: Tensor, with_void: bool = False) -> Tensor:
    """Return where the pixels of a random half of each image's classes are, bool (N, H, W) (ClassMix).

    Args:
        labels: int64 (N, H, W).
        with_void: 255 counts as a class; otherwise it is never chosen.
    """
    pixels = labels.flatten(1)
    present = torch.zeros(len(labels), 256, dtype=torch.bool, device=labels.device).scatter_(1, pixels, True)
    present[:, IGNORE_INDEX] &= with_void
    # Ranks of random numbers, not a shuffled list of classes: no reading of how many there are, for which the
    # processor would wait.
    rank = torch.rand(present.shape, device=labels.device).masked_fill(~present, 2).argsort(1).argsort(1)
    chosen = present & (rank < (present.sum(1, keepdim=True) + 1) // 2)
    return chosen.gather(1, pixels).view_as(labels)


def _sizes(labels: Tensor) -> str:
    return f"{len(labels)} of {labels.shape[2]}x{labels.shape[1]}"
