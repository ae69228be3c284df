"""What can be seen of a network without labels of the target: its predictions there, mirrored, and beside others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.data.dataset import Sample
from adaptseg.data.files import UInt8Array
from adaptseg.evaluation.evaluate import confusion_matrix
from adaptseg.models.entropy import entropy
from adaptseg.segmenter.segmenter import Segmenter

Matrix = npt.NDArray[np.int64]
"""(C, C) pixels."""


@dataclass(frozen=True)
class Signals:
    """What one network shows. Matrices count pixels at the network's own resolution (1/8)."""

    source: Matrix
    """Rows labels of source images, columns predictions there."""
    mirrored: Matrix
    """Rows predictions on target images, columns those on the mirrored images."""
    other: Matrix | None
    """Rows predictions on target images, columns another network's there; none without one."""
    entropy: float
    """Mean over the target's pixels, 0 … 1."""


@torch.no_grad()
def observe(
    segmenter: Segmenter, images: Sequence[UInt8Array], source: Sequence[Sample], other: Segmenter | None = None
) -> Signals:
    """Look at a network; it is left in the mode that it was in, and no random number is drawn.

    Args:
        segmenter: the network.
        images: (H, W, 3) of the target, as the network sees them.
        source: labelled images of the source, likewise.
        other: another network of the same classes in eval mode, such as the source-only one.
    """
    classes = len(segmenter.label_space)
    pairs = {name: np.zeros((classes, classes), np.int64) for name in ("source", "mirrored", "other")}
    entropies = []

    def count(name: str, rows: Tensor, columns: Tensor) -> None:
        pairs[name] += confusion_matrix(columns, rows, classes).cpu().numpy()

    with segmenter.evaluating():
        for image in images:
            probabilities = segmenter.main_logits([image]).float().softmax(1)
            predicted = probabilities.argmax(1)
            entropies.append(float(entropy(probabilities).mean()))
            count("mirrored", predicted, segmenter.main_logits([image[:, ::-1]]).argmax(1).flip(-1))
            if other is not None:
                theirs = other.main_logits([image]).argmax(1)
                count("other", predicted, _at_size(theirs, predicted))
        for sample in source:
            assert sample.label is not None
            predicted = segmenter.main_logits([sample.image]).argmax(1)
            count("source", _at_size(torch.from_numpy(sample.label)[None].to(predicted.device), predicted), predicted)
    return Signals(
        pairs["source"], pairs["mirrored"], None if other is None else pairs["other"], float(np.mean(entropies))
    )


def _at_size(classes: Tensor, like: Tensor) -> Tensor:
    """Return classes (1, H, W) at a prediction's resolution (1, h, w): the value in the middle of each cell."""
    size = (like.shape[-2], like.shape[-1])
    return functional.interpolate(classes[None].float(), size, mode="nearest-exact")[0].to(like.dtype)
