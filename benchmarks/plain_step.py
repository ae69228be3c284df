"""AdaptSegNet's step as the paper's description reads: the yardstick of the speed measurements.

Tsai et al., "Learning to Adapt Structured Output Space for Semantic Segmentation", CVPR 2018, section 4. Every output
is up-sampled and every discriminator asked anew wherever the text needs it, one optimiser per network takes one
parameter after the other, and all losses are read in every step. It shares the layers with `adaptseg`, and nothing
of the methods and losses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam

from adaptseg.models.deeplab import AtrousSpatialPyramid
from adaptseg.models.network import SegmentationNetwork

SOURCE, TARGET = 0.0, 1.0
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)


class PlainStep:
    """Networks, one optimiser each, and the iteration: float32, planes of channels (NCHW), eager."""

    def __init__(
        self,
        network: SegmentationNetwork,
        discriminators: Sequence[nn.Module],
        lambda_seg: Sequence[float],
        lambda_adv: Sequence[float],
    ) -> None:
        """Take a network in training mode, a discriminator and two weights per level; learning rates are published."""
        self.network, self.discriminators = network, list(discriminators)
        self.lambda_seg, self.lambda_adv = lambda_seg, lambda_adv
        classifiers = {p for classifier in network.classifiers() for p in classifier.parameters()}
        backbone = [p for p in network.parameters() if p.requires_grad and p not in classifiers]
        groups = [{"params": backbone, "lr": 2.5e-4}, {"params": list(classifiers), "lr": 2.5e-3}]
        self.optimizer = SGD(groups, momentum=0.9, weight_decay=5e-4, foreach=False)
        self.discriminator_optimizers = [
            Adam(discriminator.parameters(), lr=1e-4, betas=(0.9, 0.99), foreach=False)
            for discriminator in self.discriminators
        ]

    def __call__(self, source: Tensor, labels: Tensor, target: Tensor) -> dict[str, float]:
        """Take one iteration.

        Args:
            source: RGB images (N, 3, H, W), 0 … 255.
            labels: int64 (N, H, W) of the source, 255 ignored.
            target: RGB images (N, 3, H, W), 0 … 255.

        Returns:
            The losses `seg1`, `adv1`, `d1`, …, unweighted.
        """
        losses: dict[str, float] = {}
        levels = range(len(self.discriminators))
        self.optimizer.zero_grad()

        # Segment the source.
        source_logits = self.segmented(source)
        total = torch.zeros((), device=source.device)
        for level in levels:
            loss = functional.cross_entropy(upsampled(source_logits[level], source), labels, ignore_index=255)
            losses[f"seg{level + 1}"] = loss.item()
            total = total + self.lambda_seg[level] * loss
        total.backward()  # type: ignore[no-untyped-call]

        # Fool the discriminators on the target.
        target_logits = self.segmented(target)
        total = torch.zeros((), device=source.device)
        for level in levels:
            loss = judged(self.discriminators[level], upsampled(target_logits[level], target), SOURCE)
            losses[f"adv{level + 1}"] = loss.item()
            total = total + self.lambda_adv[level] * loss
        total.backward()  # type: ignore[no-untyped-call]

        # Train the discriminators to tell the domains apart.
        for level, optimizer in enumerate(self.discriminator_optimizers):
            optimizer.zero_grad()
            discriminator = self.discriminators[level]
            on_source = judged(discriminator, upsampled(source_logits[level].detach(), source), SOURCE) / 2
            on_source.backward()  # type: ignore[no-untyped-call]
            on_target = judged(discriminator, upsampled(target_logits[level].detach(), target), TARGET) / 2
            on_target.backward()  # type: ignore[no-untyped-call]
            losses[f"d{level + 1}"] = on_source.item() + on_target.item()
            optimizer.step()
        self.optimizer.step()
        return losses

    def segmented(self, images: Tensor) -> list[Tensor]:
        """Return the logits of each level at 1/8 of the size of the images (N, 3, H, W)."""
        levels = zip(self.network.classifiers(), self.network.feature_maps(prepared(images)), strict=True)
        return [pyramid(classifier, x) for classifier, x in levels]


def prepared(images: Tensor) -> Tensor:
    """Return the network's input of RGB images (N, 3, H, W): float32, BGR, minus the mean."""
    return images.float().flip(1) - torch.tensor(MEAN_BGR, device=images.device).view(1, 3, 1, 1)


def pyramid(classifier: nn.Module, features: Tensor) -> Tensor:
    """Return logits (N, C, h, w) of features (N, channels, h, w): the sum of dilated convolutions."""
    assert isinstance(classifier, AtrousSpatialPyramid)
    logits = torch.zeros((), device=features.device)
    for conv in classifier.conv2d_list[: classifier.branches]:
        logits = logits + conv(features)
    return logits


def upsampled(logits: Tensor, images: Tensor) -> Tensor:
    """Return logits (N, C, h, w) at the size of the images (N, 3, H, W)."""
    return functional.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=True)


def judged(discriminator: nn.Module, logits: Tensor, domain: float) -> Tensor:
    """Return the binary cross-entropy of a discriminator on the softmax of logits (N, C, H, W)."""
    verdict: Tensor = discriminator(logits.softmax(1))
    return functional.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, domain))
