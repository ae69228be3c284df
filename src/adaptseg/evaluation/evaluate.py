"""Evaluation: confusion matrix on the device, IoU per class, mIoU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptseg.data.ahead import mapped_ahead
from adaptseg.data.dataset import Domain, Sample
from adaptseg.data.label_spaces import LabelSpace, check_protocol
from adaptseg.distributed import rank, sum_over_processes, world_size
from adaptseg.models.devices import reading_threads, sent
from adaptseg.models.upsampling import upsampled_classes
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.windows import window_probabilities


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says. Fractions, not per cent."""

    confusion: Tensor
    """int64 (C, C): rows ground truth, columns prediction, in pixels."""
    label_space: LabelSpace
    """Names of rows and columns."""
    protocol: LabelSpace
    """The classes that mIoU averages."""

    @property
    def iou(self) -> dict[str, float | None]:
        """IoU of each class; none for a class in neither ground truth nor prediction."""
        hits = self.confusion.diag().double()
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diag()
        return {
            name: None if union[i] == 0 else float(hits[i] / union[i])
            for i, name in enumerate(self.label_space.classes)
        }

    @property
    def miou(self) -> float | None:
        """Mean IoU over the protocol's classes that occur in ground truth or prediction; none without labels."""
        present = [value for name, value in self.iou.items() if name in self.protocol.classes and value is not None]
        return sum(present) / len(present) if present else None

    @property
    def pixel_accuracy(self) -> float | None:
        """Share of labelled pixels that are right; none without labels."""
        labelled = int(self.confusion.sum())
        return int(self.confusion.diag().sum()) / labelled if labelled else None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `result.json`."""
        return {
            "miou": self.miou,
            "iou": self.iou,
            "pixel_accuracy": self.pixel_accuracy,
            "protocol": {"name": self.protocol.name, "classes": list(self.protocol.classes)},
            "confusion": self.confusion.tolist(),
        }


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return int64 (C, C), rows ground truth; labels ≥ C (255) are left out. Both tensors integer, same shape."""
    index = (labels.int() * classes + predicted).flatten()
    if index.device.type == "cpu":
        counts = torch.bincount(index, minlength=classes**2)
    else:  # There bincount reads the largest value first, and the processor waits for it.
        counts = counted(index, 256 * classes)
    return counts[: classes**2].view(classes, classes)


def counted(index: Tensor, bins: int) -> Tensor:
    """Return how often each of 0 … `bins` - 1 is in `index`, int64 (bins,), without reading a value of it."""
    flat = index.flatten().long()
    return torch.zeros(bins, dtype=torch.int64, device=index.device).scatter_add_(0, flat, torch.ones_like(flat))


def samples_ahead(domain: Domain, indices: Iterable[int], device: torch.device) -> Iterator[Sample]:
    """Yield samples as `Domain.for_evaluation` gives them; threads read the next while one is used on the device."""
    threads = reading_threads(device)
    return mapped_ahead(domain.for_evaluation, indices, threads, waiting=threads)


@torch.no_grad()
def evaluate(
    segmenter: Segmenter,
    domain: Domain,
    protocol: LabelSpace | None = None,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Scores:
    """Predict every image of a domain at the domain's size, score at the label's own size; none without labels.

    Logits (of windows, probabilities) are up-sampled to the label's size before the argmax. The segmenter
    is left in the mode that it was in. Of several processes each takes its share of the images.

    Raises:
        InputError: the protocol has a class that the segmenter's label space does not have.
    """
    protocol = protocol or segmenter.label_space
    check_protocol(protocol, segmenter.label_space)
    classes = len(segmenter.label_space)
    device = next(segmenter.parameters()).device
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    labelled = len(domain) if domain.labelled else 0
    with segmenter.evaluating():
        for sample in samples_ahead(domain, progress(range(rank(), labelled, world_size())), device):
            assert sample.label is not None
            if domain.config.window is None:
                logits = segmenter.main_logits([sample.image])
            else:
                logits = window_probabilities(segmenter, sample.image, domain.config.window)
            labels = sent(sample.label, device)
            predicted = upsampled_classes(logits, (labels.shape[0], labels.shape[1]), segmenter.align_corners)
            confusion += confusion_matrix(predicted[0], labels, classes)
    return Scores(sum_over_processes(confusion).cpu(), segmenter.label_space, protocol)
