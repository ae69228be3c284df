"""Criteria for choosing a snapshot without labels of the target: computed from predictions on its images alone.

Each criterion is one function; `HIGHER_IS_BETTER` says which way it points. How well each of them chooses is in
docs/model-selection.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.config import CRITERIA
from adaptseg.data.files import UInt8Array
from adaptseg.segmenter import inference

PREFIX = "selection/"
"""Of the criteria's names in the log."""
HIGHER_IS_BETTER = {
    name: name in ("neighbourhood_density", "flip_agreement", "scale_agreement", "teacher_agreement")
    for name in CRITERIA
}
TEMPERATURE = 0.05
"""Of neighbourhood density (Saito et al. 2021, section 4)."""
LAYOUT = (4, 8)
"""Rows and columns of the cells of an image whose class frequencies are compared."""

Counts = npt.NDArray[np.int64]
"""Pixels of each class in each cell of the image, (rows, columns, C)."""


def entropy(probabilities: Tensor) -> float:
    """Return the mean entropy of the pixels over log C, 0 … 1; lower is better.

    Morerio et al., "Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain Adaptation", ICLR 2018, choose
    by it.

    Args:
        probabilities: (N, C, H, W), summing to 1 over classes.
    """
    return float(inference.entropy(probabilities).mean())


def neighbourhood_density(probabilities: Tensor) -> float:
    """Return the soft neighbourhood density, 0 … log(M - 1); higher is better.

    Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood Density",
    ICCV 2021, equations 1 to 3: the entropy of each sample's distribution over all others, a softmax of the cosine
    similarities of their class probabilities; averaged over samples. Samples with many near neighbours make it high.

    Args:
        probabilities: (M, C) of M pixels.
    """
    features = functional.normalize(probabilities.double())  # float32 would be rounded within autocast.
    similarities = (features @ features.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return float(torch.special.entr(similarities.softmax(1)).sum(1).mean())


def agreement(confusion: Tensor) -> float:
    """Return how far two predictions of the same pixels agree, 0 … 1; higher is better.

    It is the mean IoU of one as scored by the other: rare classes count as much as frequent ones. A class that neither
    has counts as 0, for a network that predicts but a few classes easily agrees with itself.

    Args:
        confusion: (C, C), pixels by the class in one and in the other prediction.
    """
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return float((confusion.diag() / union.clamp(min=1)).double().mean())


def class_frequency_distance(source: Counts, target: Counts) -> float:
    """Return how far the frequencies of predicted classes are from the source labels', 0 … 1; lower is better.

    The Jensen-Shannon divergence of the frequencies over the whole image, in bits.
    """
    return float(jensen_shannon(source.sum((0, 1)), target.sum((0, 1))))


def layout_distance(source: Counts, target: Counts) -> float:
    """Return how far the layout of predictions is from that of the source's labels, 0 … 1; lower is better.

    The Jensen-Shannon divergence of the class frequencies in a cell of the image, in bits, averaged over the cells.
    It asks of a single snapshot what AdaptSegNet's discriminator asks in training: whether label maps look like the
    source's (Tsai et al. 2018, section 1).
    """
    known = (source.sum(2) > 0) & (target.sum(2) > 0)
    return float(jensen_shannon(source[known], target[known]).mean())


def jensen_shannon(p: Counts, q: Counts) -> npt.NDArray[np.float64]:
    """Return the Jensen-Shannon divergence of distributions that are given by counts (…, C), 0 … 1, (…)."""
    p, q = (x / x.sum(-1, keepdims=True) for x in (p, q))
    middle = (p + q) / 2
    return _bits(middle) - (_bits(p) + _bits(q)) / 2


def _bits(p: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The entropy of distributions (…, C)."""
    bits: npt.NDArray[np.float64] = -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)
    return bits


def layout_counts(train_ids: UInt8Array, classes: int) -> Counts:
    """Return how many pixels (H, W) of each class are in each cell of `LAYOUT`; ignored ones are left out."""
    height, width = train_ids.shape
    rows, columns = LAYOUT
    cells = (np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width
    labelled = train_ids < classes
    counts = np.bincount((cells * classes + train_ids)[labelled], minlength=rows * columns * classes)
    return counts.reshape(rows, columns, classes)


def best_snapshot(lines: Iterable[Mapping[str, Any]], criterion: str) -> int | None:
    """Return the step of the log's best line by a criterion, the first of equal ones; none where no line has it.

    A broken network's line, with scores that are not finite, is left out.
    """
    sign = 1 if HIGHER_IS_BETTER[criterion] else -1
    scored = [line for line in lines if PREFIX + criterion in line]
    sound = [line for line in scored if all(math.isfinite(v) for k, v in line.items() if k.startswith(PREFIX))]
    best = max(sound, key=lambda line: (sign * line[PREFIX + criterion], -line["step"]), default=None)
    return None if best is None else int(best["step"])


def selection_result(lines: Sequence[Mapping[str, Any]], criterion: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `result.json` says of the choice: mIoU of the last snapshot, the chosen one, and the labels' choice.

    Args:
        lines: of the log, by step; the last is that of the last snapshot.
        criterion: that chose.
        chosen: its `step` and `miou`, none without labels.
    """
    snapshots = [line for line in lines if PREFIX + criterion in line]
    # Of snapshots that were not all evaluated, the labels' best is not known.
    evaluated = all("miou" in line for line in snapshots)
    best = max(snapshots, key=lambda line: line["miou"]) if evaluated else None
    return {
        "criterion": criterion,
        "last": _step_and_miou(snapshots[-1]),
        "chosen": dict(chosen),
        "best_by_labels": best and _step_and_miou(best),
    }


def _step_and_miou(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"step": line["step"], "miou": line.get("miou")}
