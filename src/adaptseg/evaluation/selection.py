"""Choosing a snapshot without labels of the target: by its predictions on a few target images, and the source's labels.

The target's labels are read nowhere here. How well the criteria choose is in docs/model-selection.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import label_space
from adaptseg.data.sampling import random_generator
from adaptseg.distributed import rank, sum_over_processes, world_size
from adaptseg.models.entropy import entropy
from adaptseg.segmenter.segmenter import Segmenter

PREFIX = "selection/"
"""Of the criteria's names in the log."""
TARGET_IMAGES = 32
SOURCE_LABELS = 128

Counts = npt.NDArray[np.int64]
"""Pixels of each class, (C,)."""


class SnapshotScorer:
    """Scores snapshots of one training on always the same images."""

    def __init__(self, images: Sequence[UInt8Array], source: Counts) -> None:
        """Take what all snapshots are scored on.

        Args:
            images: (H, W, 3) of the target, at the size of the evaluation.
            source: pixels of each class in the source's labels.
        """
        self.images, self.source = images, source

    @torch.no_grad()
    def __call__(self, segmenter: Segmenter, progress: Callable[[range], Iterable[int]] = iter) -> dict[str, float]:
        """Return each criterion's score; the segmenter is left in the mode that it was in.

        The network's own resolution (1/8) is looked at. Of several processes each takes its share of the images.

        Args:
            segmenter: the snapshot.
            progress: may stop the scoring between images.

        Returns:
            `entropy`: the mean over pixels, 0 … 1 (Morerio et al., "Minimal-Entropy Correlation Alignment for
            Unsupervised Deep Domain Adaptation", ICLR 2018), and `class_frequency_distance`; of both low is good.
        """
        device = next(segmenter.parameters()).device
        count, classes = len(self.images), len(segmenter.label_space)
        entropies = torch.zeros(count, dtype=torch.float64, device=device)
        predicted = torch.zeros(classes, dtype=torch.int64, device=device)
        with segmenter.evaluating():
            for i in progress(range(rank(), count, world_size())):
                logits = segmenter.main_logits([self.images[i]]).float()
                entropies[i] = entropy(logits.softmax(1)).mean()
                predicted += logits.argmax(1).flatten().bincount(minlength=classes)
        target = sum_over_processes(predicted).cpu().numpy()
        return {
            "entropy": float(sum_over_processes(entropies).mean()),
            "class_frequency_distance": class_frequency_distance(self.source, target),
        }


def class_frequency_distance(source: Counts, target: Counts) -> float:
    """Return the Jensen-Shannon divergence of the classes' frequencies, in bits: 0 alike … 1 no class in common.

    Args:
        source: pixels of each class (C,) in labels of the source.
        target: the same in predictions on the target.
    """

    def bits(p: npt.NDArray[np.float64]) -> float:
        return -float((p * np.log2(np.where(p > 0, p, 1))).sum())

    p, q = source / source.sum(), target / target.sum()
    return bits((p + q) / 2) - (bits(p) + bits(q)) / 2


def open_scorer(config: ExperimentConfig, source: Domain) -> SnapshotScorer | None:
    """Read what the snapshots of an experiment are scored on; none where `train.selection` is.

    Raises:
        InputError: the target is missing, or a file is broken.
    """
    if config.train.selection == "none":
        return None
    seen = config.domain("evaluation")
    settings = replace(config.domain("target"), size=seen.size, resize=seen.resize)
    target = Domain(settings, label_space(config.label_space, config.colors))
    images = [target[index].image for index in _some(config.seed, "target", len(target), TARGET_IMAGES)]
    labels = (source.label(index) for index in _some(config.seed, "source", len(source), SOURCE_LABELS))
    classes = len(source.label_space)
    counts = np.sum([np.bincount(label.ravel(), minlength=256)[:classes] for label in labels], axis=0)
    return SnapshotScorer(images, counts)


def _some(seed: int, role: str, count: int, most: int) -> list[int]:
    """At most `most` of `count` indices: the same for a seed, in order."""
    return sorted(random_generator(seed, "selection", role).permutation(count)[:most].tolist())


def best_snapshot(lines: Iterable[Mapping[str, Any]], criterion: str) -> int | None:
    """Return the step of the log's line with the lowest score, the first of equal ones; none where no line has it.

    A broken network's line, with scores that are not finite, is left out.
    """
    scored = [line for line in lines if PREFIX + criterion in line]
    sound = [line for line in scored if all(math.isfinite(v) for k, v in line.items() if k.startswith(PREFIX))]
    best = min(sound, key=lambda line: (line[PREFIX + criterion], line["step"]), default=None)
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
