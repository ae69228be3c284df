"""Speed of what evaluation does after the network: from logits at 1/8 size to the confusion matrix."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.evaluation.evaluate import confusion_matrix
from adaptseg.models.upsampling import upsampled_classes

CLASSES = 19


def plain_confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """Score the plain way: logits at the label's size, argmax, numpy's bincount.

    Args:
        logits: (1, C, h, w).
        labels: uint8 (H, W), 255 ignored.

    Returns:
        int64 (C, C), rows ground truth.
    """
    size = (labels.shape[0], labels.shape[1])
    upsampled = functional.interpolate(logits, size, mode="bilinear", align_corners=True)
    predicted, truth = upsampled.argmax(1)[0].cpu().numpy(), labels.cpu().numpy()
    labelled = truth < CLASSES
    index = CLASSES * truth[labelled].astype(np.int64) + predicted[labelled]
    return torch.from_numpy(np.bincount(index, minlength=CLASSES**2).reshape(CLASSES, CLASSES))


def fast_confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """Score as `adaptseg evaluate` does; arguments and result as of `plain_confusion`."""
    predicted = upsampled_classes(logits, (labels.shape[0], labels.shape[1]), align_corners=True)
    return confusion_matrix(predicted[0], labels, CLASSES).cpu()


def evaluation_speed(
    size: tuple[int, int] = (2048, 1024), iterations: int = 15, threads: int = 1, device: str = "cpu"
) -> dict[str, float]:
    """Measure both ways in turns, on logits of an image of half the label's size.

    Args:
        size: width and height of the label.
        iterations: times that each is measured.
        threads: of the CPU.
        device: cpu, cuda or cuda:N.

    Returns:
        `plain` and `adaptseg` in milliseconds (medians), their `ratio`, and `equal`: the share of pixels that are
        counted alike, from the two matrices.
    """
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    width, height = size
    rows, columns = height // 16 + 1, width // 16 + 1
    coarse = torch.randn(1, CLASSES, rows // 8 + 1, columns // 8 + 1, generator=generator)
    regions = functional.interpolate(coarse, (rows, columns), mode="bicubic")
    logits = (4 * regions + torch.randn(1, CLASSES, rows, columns, generator=generator)).to(device)
    labels = torch.randint(0, CLASSES + 1, (height, width), generator=generator, dtype=torch.uint8)
    labels[labels == CLASSES] = IGNORE_INDEX
    labels = labels.to(device)
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"plain": plain_confusion, "adaptseg": fast_confusion}
    matrices = {name: way(logits, labels) for name, way in ways.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(iterations):
        for name, way in ways.items():
            began = time.perf_counter()
            way(logits, labels)  # Ends on the CPU: nothing of it is pending.
            milliseconds[name].append((time.perf_counter() - began) * 1e3)
    plain, adaptseg = (median(milliseconds[name]) for name in ways)
    moved = (matrices["plain"] - matrices["adaptseg"]).abs().sum().item() / 2
    equal = 1 - moved / matrices["plain"].sum().item()
    return {"plain": plain, "adaptseg": adaptseg, "ratio": plain / adaptseg, "equal": equal}
