"""The label-free scores of a snapshot: a few target images in several views, and statistics of the source's labels.

The target's labels are read nowhere here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.files import UInt8Array, resize_image
from adaptseg.data.label_spaces import label_space
from adaptseg.data.sampling import random_generator
from adaptseg.distributed import is_main, rank, sum_over_processes, world_size
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import confusion_matrix
from adaptseg.evaluation.selection import (
    LAYOUT,
    Counts,
    agreement,
    class_frequency_distance,
    entropy,
    layout_counts,
    layout_distance,
    neighbourhood_density,
)
from adaptseg.segmenter.segmenter import Segmenter

TARGET_IMAGES = 32
SOURCE_LABELS = 128
PIXELS = 64
"""Pixels of each image whose neighbourhoods are looked at."""
SCALE = 0.75
VIEWS = ("flip_agreement", "scale_agreement", "teacher_agreement")


class SnapshotScorer:
    """Scores snapshots of one training on always the same images."""

    def __init__(self, images: Sequence[UInt8Array], source: Counts, seed: int) -> None:
        """Take what all snapshots are scored on.

        Args:
            images: (H, W, 3) of the target, at the size of the evaluation.
            source: pixels of each class in each cell of the source's labels.
            seed: of the choice of pixels.
        """
        self.images, self.source = images, source
        self.places = random_generator(seed, "selection", "pixels").random((len(images), PIXELS))

    @torch.no_grad()
    def __call__(
        self, segmenter: Segmenter, teacher: Segmenter, progress: Callable[[range], Iterable[int]] = iter
    ) -> dict[str, float]:
        """Return each criterion's score; both networks are left in the mode that they were in.

        All is compared at the network's own resolution (1/8). Of several processes each takes its share of the images.

        Args:
            segmenter: the snapshot.
            teacher: the average of its weights over the iterations before.
            progress: may stop the scoring between images.
        """
        device = next(segmenter.parameters()).device
        classes, count = len(segmenter.label_space), len(self.images)
        entropies = torch.zeros(count, dtype=torch.float64, device=device)
        pixels = torch.zeros(count, PIXELS, classes, device=device)
        confusion = torch.zeros(len(VIEWS), classes, classes, dtype=torch.int64, device=device)
        layout = torch.zeros(*LAYOUT, classes, dtype=torch.int64, device=device)
        modes = segmenter.training, teacher.training
        segmenter.eval(), teacher.eval()
        for i in progress(range(rank(), count, world_size())):
            logits, views = self._views(segmenter, teacher, self.images[i])
            probabilities = logits.softmax(1)
            entropies[i] = entropy(probabilities)
            places = torch.from_numpy(self.places[i] * logits[0, 0].numel()).long().to(device)
            pixels[i] = probabilities[0].flatten(1)[:, places].T
            train_ids = logits.argmax(1)
            for matrix, view in zip(confusion, views, strict=True):
                matrix += confusion_matrix(view.argmax(1), train_ids, classes)
            counts = layout_counts(train_ids[0].byte().cpu().numpy(), classes)
            layout += torch.from_numpy(counts).to(device)
        segmenter.train(modes[0]), teacher.train(modes[1])
        entropies, pixels, confusion, layout = map(sum_over_processes, (entropies, pixels, confusion, layout))
        target = layout.cpu().numpy()
        return {
            "entropy": float(entropies.mean()),
            "neighbourhood_density": neighbourhood_density(pixels.flatten(0, 1)),
            **dict(zip(VIEWS, map(agreement, confusion), strict=True)),
            "class_frequency_distance": class_frequency_distance(self.source, target),
            "layout_distance": layout_distance(self.source, target),
        }

    def _views(self, segmenter: Segmenter, teacher: Segmenter, image: UInt8Array) -> tuple[Tensor, list[Tensor]]:
        """Return the main level's logits (1, C, h, w) of an image, and those of each of `VIEWS` at the same places."""
        height, width = image.shape[:2]

        def logits(network: Segmenter, pixels: UInt8Array) -> Tensor:
            x = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).unsqueeze(0).to(next(network.parameters()).device)
            found: Tensor = network.network(network.preprocess(x))[-1]
            return found.float()

        seen = logits(segmenter, image)
        mirrored = logits(segmenter, image[:, ::-1]).flip(-1)
        scaled = resize_image(image, (max(8, round(SCALE * width)), max(8, round(SCALE * height))))
        resized = segmenter.upsample(logits(segmenter, scaled), (seen.shape[2], seen.shape[3]))
        return seen, [mirrored, resized, logits(teacher, image)]


def chosen_indices(seed: int, role: str, count: int, most: int) -> list[int]:
    """Return at most `most` of `count` indices: the same for a seed, in order."""
    return sorted(random_generator(seed, "selection", role).permutation(count)[:most].tolist())


def find_scorer(config: ExperimentConfig, source: Domain, uses_target: bool) -> SnapshotScorer | None:
    """Return what scores the snapshots of an experiment; none where that is not wanted, or there is no target.

    A method that does not use the target trains without it, too: what is wrong is said, and nothing is chosen.

    Raises:
        InputError: the method uses the target, and it is missing or broken.
    """
    if config.train.selection == "none" or config.target.layout is None:
        return None
    try:
        return open_scorer(config, source)
    except InputError as error:
        if uses_target:
            raise
        if is_main():
            print(f"adaptseg: no snapshot will be chosen: {error}", file=sys.stderr)
        return None


def open_scorer(config: ExperimentConfig, source: Domain) -> SnapshotScorer:
    """Read the target images and the source's labels that the snapshots of an experiment are scored on.

    Raises:
        InputError: the target is missing, or a file is broken.
    """
    seen = config.domain("evaluation")
    settings = replace(config.domain("target"), size=seen.size, resize=seen.resize)
    target = Domain(settings, label_space(config.label_space, config.colors))
    chosen = chosen_indices(config.seed, "target", len(target), TARGET_IMAGES)
    images = [target[index].image for index in chosen]
    labels = chosen_indices(config.seed, "source", len(source), SOURCE_LABELS)
    counts = np.sum([layout_counts(source.label(index), len(source.label_space)) for index in labels], axis=0)
    return SnapshotScorer(images, counts, config.seed)
