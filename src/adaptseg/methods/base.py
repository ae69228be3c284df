"""What the training loop knows of a method: its networks, its optimisers, and its step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from adaptseg.config import ExperimentConfig
from adaptseg.data.geometry import KEEP
from adaptseg.data.label_spaces import label_space
from adaptseg.data.loader import Batch
from adaptseg.distributed import is_main, world_size
from adaptseg.errors import InputError
from adaptseg.methods.fourier import with_target_style
from adaptseg.methods.losses import cross_entropy
from adaptseg.methods.optimizers import segmenter_optimizer
from adaptseg.models.build import build_network
from adaptseg.segmenter.initial_settings import with_initial_settings
from adaptseg.segmenter.network_check import check_network
from adaptseg.segmenter.segmenter import Segmenter


class Method(nn.Module):
    """Owns its networks and says how a pair of batches becomes gradients.

    The loop owns optimiser steps, schedule, logging and checkpoints. Sub-modules other than the segmenter
    (discriminators, a teacher) are the method's own and are saved beside it.
    """

    lambda_seg: tuple[float, ...]
    """Weight of the labelled images' cross-entropy per level, main last; each method sets its own."""
    uses_target: ClassVar[bool] = True
    """Whether `step` wants a batch of the target."""
    guessing_loss: float | None = None
    """Loss `d1`, … of a discriminator that cannot tell the domains apart; none: there are no discriminators."""

    def __init__(self, segmenter: Segmenter, config: ExperimentConfig) -> None:
        """Take the segmenter to train and the complete configuration."""
        super().__init__()
        self.segmenter = segmenter
        self.config = config

    def optimizers(self) -> dict[str, Optimizer]:
        """Return the optimisers by name; the first is the segmenter's."""
        return {"segmenter": segmenter_optimizer(self.segmenter.network, self.config.optimizer)}

    def smallest_image(self) -> int:
        """Return a height and width, in pixels, that `step` accepts."""
        return 64

    def iteration(self, source: Batch, target: Batch | None, labelled: Batch | None = None) -> dict[str, Tensor]:
        """Take `step` on the source, in the target's style where wanted, then learn from labelled target images.

        Args:
            source: labelled batch.
            target: unlabelled batch; none where the method does not use the target.
            labelled: target images with labels; none where there are none beside the source.
        """
        losses = self.step(self.in_target_style(source, target), target)
        return losses if labelled is None else losses | self.learn_labelled(labelled)

    def in_target_style(self, source: Batch, target: Batch | None) -> Batch:
        """Return the source in the target's style where `method.fourier_beta` wants it, and it is not the target's."""
        if not self.config.method.fourier_beta or target is None or self.config.labels_alone:
            return source
        styled = self.styled(source["image"], target["image"])
        return Batch(image=styled, label=source["label"], names=source["names"])

    def learn_labelled(self, labelled: Batch) -> dict[str, Tensor]:
        """Add the gradients of λ_labelled Σ λ_seg CE(labelled target); return the losses `labelled1`, …."""
        weights = tuple(self.config.method.lambda_labelled * weight for weight in self.lambda_seg)
        losses = segment_source(self.segmenter, labelled, weights)[1]
        return {f"labelled{level}": loss for level, loss in enumerate(losses.values(), start=1)}

    def styled(self, source: Tensor, target: Tensor) -> Tensor:
        """Return source images in the style of target images, both (N, 3, H, W), values about 0 … 255."""
        return with_target_style(source, target, self.config.method.fourier_beta)

    def step(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Add the gradients of one iteration to the parameters.

        Args:
            source: labelled batch.
            target: unlabelled batch; none where the method does not use the target.

        Returns:
            Detached scalar losses by name, unweighted, on the device.
        """
        raise NotImplementedError


def build_segmenter(config: ExperimentConfig) -> Segmenter:
    """Return the segmenter of an experiment, with random weights that depend on the seed alone.

    What the configuration of the network leaves open is as its initial weights want it.

    Raises:
        InputError: those weights cannot be had, or want something else than the configuration says; or the network
            of `model.factory` cannot be trained.
    """
    classes = label_space(config.label_space, config.colors)
    model = with_initial_settings(config.model)
    network = build_network(model, len(classes), seed=config.seed)
    if config.train.gradient_checkpointing:
        network.recompute_activations()
    seen = config.domain("evaluation")
    segmenter = Segmenter(
        network,
        classes,
        preprocessing=network.config.preprocessing or "",
        align_corners=bool(network.config.align_corners),
        input_size=seen.size,
        resize=seen.resize or KEEP,
    )
    if config.model.factory is not None:
        takes_share = config.has_target_labelled and not config.labels_alone
        smallest = config.train.labelled_batch if takes_share else config.train.batch
        for note in check_network(segmenter, smallest // world_size()):
            if is_main():
                print(f"adaptseg: model.factory {config.model.factory}: {note}", file=sys.stderr, flush=True)
    return segmenter


def level_weights(key: str, weights: tuple[float, ...], levels: int) -> tuple[float, ...]:
    """Return one weight per level.

    Raises:
        InputError: their number is not that of the segmenter's levels.
    """
    if len(weights) != levels:
        raise InputError(
            f"method.{key} has {len(weights)} weights, but model.levels is {levels}; give one per level, main last"
        )
    return weights


def segment_source(
    segmenter: Segmenter, source: Batch, lambda_seg: tuple[float, ...], void_counts: bool = False
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Forward the source, add the gradients of Σ λ_seg CE, and free the graph.

    Returns:
        The detached logits (N, C, H, W) of each level, and the losses `seg1`, … (auxiliary first).
    """
    logits = segmenter(source["image"])
    return [x.detach() for x in logits], backward_segmentation(logits, source, lambda_seg, void_counts)


def backward_segmentation(
    logits: Sequence[Tensor], source: Batch, lambda_seg: tuple[float, ...], void_counts: bool = False
) -> dict[str, Tensor]:
    """Add the gradients of Σ λ_seg CE for logits (N, C, H, W) per level; return the losses by name.

    `void_counts` is that of `cross_entropy`.
    """
    labels = source["label"]
    assert labels is not None
    losses = {
        f"seg{level}": cross_entropy(x, labels, void_counts=void_counts) for level, x in enumerate(logits, start=1)
    }
    sum(weight * loss for weight, loss in zip(lambda_seg, losses.values(), strict=True)).backward()  # type: ignore[union-attr]
    return {name: loss.detach() for name, loss in losses.items()}
