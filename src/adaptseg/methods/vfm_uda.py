"""VFM-UDA: self-training on top of a vision foundation model, with masked tokens of the target.

Englert et al., "Exploring the Benefits of Vision Foundation Models for Unsupervised Domain Adaptation", CVPR workshops
2024; what the paper leaves open is as in the released code (tue-mps/vfm-uda). Per iteration, each with its own pass

    source    CE of images in other colours
    mixed     weighted CE of ClassMix, of source images and target images in other colours, jittered and blurred
    masked    weighted CE of the jittered and blurred target, most of whose tokens are the backbone's mask token

The teacher labels the target by the mean of the image and its mirror image. The weight of its labels is the share of
the batch's pixels of which it is sure, and 0 at the borders of the whole image. Labelled target images enter as in
DACS; alone they keep their colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adaptseg.config import ExperimentConfig
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods.color_jitter import ColorJitter
from adaptseg.methods.dacs import transformed
from adaptseg.methods.losses import cross_entropy
from adaptseg.methods.mic import MIC, MICConfig
from adaptseg.methods.teacher import confidence_weights
from adaptseg.segmenter.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class VFMUDAConfig(MICConfig):
    """Options of `vfm_uda`."""

    name: str = "vfm_uda"
    lambda_seg: tuple[float, ...] = (1.0,)
    """Weight of the cross-entropy; transformers have one level."""
    confidence: str = "batch"
    """As in DACS: the share of sure pixels of each `image`, or of the `batch`; or `pixel`."""
    ignore_top: float = 0.03
    """Share of the whole target image's height, from the top, whose pseudo-labels weigh nothing."""
    ignore_bottom: float = 0.25
    """Share of the whole target image's height, from the bottom, whose pseudo-labels weigh nothing."""
    ignore_sides: float = 0.03
    """Share of the whole target image's width, at either side, whose pseudo-labels weigh nothing."""
    mask: str = "tokens"
    """What is masked: `tokens` of the backbone, or `blocks` of pixels (MIC's, of side `mask_patch`)."""
    mask_patch: int = 64
    """Side of a block in pixels, for images of 1024x1024."""

    def __post_init__(self) -> None:
        """Refuse unknown masks."""
        super().__post_init__()
        if self.mask not in ("tokens", "blocks"):
            raise InputError(f"method.mask is {self.mask!r}; choose tokens or blocks")
        if not 0 <= self.ignore_sides <= 0.5:
            raise InputError(f"method.ignore_sides is {self.ignore_sides}; give 0 … 0.5")


class VFMUDA(MIC):
    """MIC's self-training with masked tokens in place of masked pixels, and colours that change everywhere."""

    options: VFMUDAConfig

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig, options: VFMUDAConfig) -> None:
        """Build the teacher and the changes of colour.

        Raises:
            InputError: tokens are to be masked, and the backbone has no mask token.
        """
        super().__init__(segmenter, config, options)
        if options.mask == "tokens" and not config.model.backbone.startswith("dino"):
            raise InputError(
                f"method.mask is tokens, but {config.model.name} has no mask token; take a DINOv2 or DINOv3 as"
                " model.backbone, or set method.mask to blocks"
            )
        self.recolor = ColorJitter(
            brightness=32 / 255, contrast=0.5, saturation=0.5, hue=18 / 360, probability=0.9, additive=False
        )
        self.jitter = replace(self.jitter, additive=False)

    def label_target(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return pseudo-labels and which pixels are sure, (N, H, W), by target images and their mirror images."""
        return self.teacher.pseudo_labels(images, self.options.threshold, mirrored=True)

    def pseudo_weights(self, sure: Tensor, target: Batch) -> Tensor:
        """Return how much each pseudo-label weighs, (N, H, W): the confidence, 0 at the whole image's borders."""
        count, height, width = sure.shape
        # Of an image without a frame all is seen; a list made a tensor would be copied to the device, and waited for.
        whole = torch.arange(4, device=sure.device).ge(2).float().expand(count, 4)
        top, left, bottom, right = target.get("frame", whole).unbind(1)
        rows = _places(top, bottom, height)
        columns = _places(left, right, width)
        trusted = (rows >= self.options.ignore_top) & (rows <= 1 - self.options.ignore_bottom)
        inside = (columns >= self.options.ignore_sides) & (columns <= 1 - self.options.ignore_sides)
        return confidence_weights(sure, self.options.confidence) * (trusted.unsqueeze(2) & inside.unsqueeze(1))

    def learn_source(self, source: Batch) -> dict[str, Tensor]:
        """Add the gradients of the cross-entropy of source images in other colours; return the losses by name."""
        images = transformed(self.recolor, source["image"].float())
        return super().learn_source(Batch(image=images, label=source["label"], names=source["names"]))

    def learn_mixed(self, source: Batch, target: Tensor, pseudo_labels: Tensor, pseudo_weights: Tensor) -> Tensor:
        """Add the gradients of the mixed images' cross-entropy, the target's in other colours; return the loss."""
        return super().learn_mixed(source, transformed(self.recolor, target.float()), pseudo_labels, pseudo_weights)

    def learn_target(self, target: Tensor, pseudo_labels: Tensor, pseudo_weights: Tensor) -> dict[str, Tensor]:
        """Add the gradients of the masked target's cross-entropy; return the loss."""
        if self.options.mask == "blocks":
            return super().learn_target(target, pseudo_labels, pseudo_weights)
        network: Any = self.segmenter.network
        height, width = target.shape[-2:]
        rows, columns = network.patches(height, width)
        hidden = torch.rand(len(target), rows * columns, device=target.device) < self.options.mask_ratio
        prepared = self.segmenter.preprocess(self.augmented(target.float()))
        (logits,) = network.classify(network.feature_maps(prepared, hidden))
        loss = cross_entropy(self.segmenter.upsample(logits, (height, width)), pseudo_labels, pseudo_weights)
        torch.autograd.backward(self.options.lambda_mask * loss)
        return {"mask": loss.detach()}


def _places(first: Tensor, last: Tensor, count: int) -> Tensor:
    """Return the places (N, count) of pixels' centres between `first` and `last` (N,)."""
    steps = (torch.arange(count, device=first.device) + 0.5) / count
    return first.unsqueeze(1) + (last - first).unsqueeze(1) * steps
