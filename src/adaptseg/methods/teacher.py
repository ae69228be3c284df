"""The teacher of self-training: an exponential moving average of the segmenter, and its pseudo-labels.

Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017. Shared by the self-training methods.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from adaptseg.models.own_network import OwnNetwork
from adaptseg.segmenter.segmenter import Segmenter


class Teacher(nn.Module):
    """A copy of the segmenter whose weights follow it slowly; it is saved with the method, and never trained.

    It predicts without dropout and drop path; batch norm normalises by the target batch's statistics, as in training.
    """

    updates: Tensor

    def __init__(self, segmenter: Segmenter, momentum: float) -> None:
        """Copy the segmenter.

        Args:
            segmenter: what will be followed.
            momentum: how much of the teacher each update keeps, in the long run.
        """
        super().__init__()
        self.segmenter = copy.deepcopy(segmenter).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._updates = 0  # The same, for the processor: reading a tensor would wait for the device.
        self.register_load_state_dict_post_hook(_count_updates)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def follow(self, segmenter: Segmenter) -> None:
        """Move the weights towards the segmenter's: by 1 / (n + 1) in update n, until that is below 1 - momentum."""
        momentum = min(1 - 1 / (self._updates + 1), self.momentum)
        self._updates += 1
        self.updates += 1
        torch._foreach_lerp_([*self.segmenter.parameters()], [*segmenter.parameters()], 1 - momentum)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, threshold: float, mirrored: bool = False) -> tuple[Tensor, Tensor]:
        """Label target images (N, 3, H, W), values 0 … 255; `mirrored`: by the mean with their mirror images.

        Returns:
            The most probable classes, int64 (N, H, W), and 1 where their probability reaches `threshold`, else 0,
            float32 (N, H, W).
        """
        without_noise(self.segmenter)
        probabilities = self.segmenter(images)[-1].float().softmax(1)
        if mirrored:
            probabilities = (probabilities + self.segmenter(images.flip(-1))[-1].float().softmax(1).flip(-1)) / 2
        return confident_labels(probabilities, threshold)


def _count_updates(teacher: Teacher, _: object) -> None:
    """Go on from a checkpoint's number of updates."""
    teacher._updates = int(teacher.updates)


def without_noise(network: nn.Module) -> None:
    """Switch off what makes two looks at one image differ (dropout, drop path); batch norm stays in its mode."""
    # What contains others keeps its mode, by which that of the whole is told; in a network of the user's it may draw.
    parts = [module for module in network.modules() if not any(module.children())]
    parts += [part for own in network.modules() if isinstance(own, OwnNetwork) for part in own.module.modules()]
    for part in parts:
        if not isinstance(part, _NormBase):  # Batch norm of any kind, and instance norm with running statistics.
            part.training = False


def confident_labels(probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the most probable classes, int64 (N, H, W), and 1 at sure pixels, 0 at others, float32 (N, H, W).

    Args:
        probabilities: (N, C, H, W).
        threshold: a pixel is sure from this probability on.
    """
    highest, labels = probabilities.max(1)
    return labels, (highest >= threshold).float()


def confidence_weights(sure: Tensor, of: str) -> Tensor:
    """Return how much each pseudo-label weighs, (N, H, W), from `confident_labels`' sure pixels.

    Args:
        sure: 1 at sure pixels, 0 at others, (N, H, W).
        of: the weight is the share of sure pixels of the `image`, or of the `batch`; or that of the `pixel`, 0 or 1.
    """
    if of == "pixel":
        return sure
    shares = sure.mean((1, 2))
    if of == "batch":
        shares = shares.mean().expand(len(shares))
    return shares.view(-1, 1, 1).expand_as(sure)
