"""Which part of a sample a training step sees: a random crop, drawn anew where it shows too little."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adaptseg.data.dataset import Sample
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.data.sampling import random_generator

RARE_CLASS_CROP_SHARE = 0.5 * 3000 / 512**2
"""A crop shows the class that its sample was drawn for where more of its pixels are of it (DAFormer)."""
LARGEST_CLASS_CROPS = 10
"""New crops that are drawn at most for the sake of `train.crop_largest_class` alone."""


@dataclass(frozen=True)
class CropRule:
    """What a crop of the source has to show; without labels any crop will do."""

    size: tuple[int, int]
    """Width and height."""
    largest_class: float | None = None
    """No class may have this share of the labelled pixels; none: it may."""
    rare_class_crops: int = 10
    """New crops that are drawn at most until the sample's rare class is in one."""

    def accepts(self, label: UInt8Array, rare_class: int | None) -> bool:
        """Whether a crop's label (h, w) shows what it has to."""
        if rare_class is None and self.largest_class is None:
            return True
        pixels = np.bincount(label.ravel(), minlength=256)
        if rare_class is not None and pixels[rare_class] <= RARE_CLASS_CROP_SHARE * label.size:
            return False
        labelled = pixels[:IGNORE_INDEX]
        return self.largest_class is None or labelled.max() < self.largest_class * labelled.sum()

    def tries(self, rare_class: int | None) -> int:
        """Return how many crops may be drawn."""
        if rare_class is not None:
            return 1 + self.rare_class_crops
        return 1 + (LARGEST_CLASS_CROPS if self.largest_class is not None else 0)


def cropped(sample: Sample, rule: CropRule, places: Iterator[tuple[float, float]], rare_class: int | None) -> Sample:
    """Return a part of a sample; where no try shows what it has to, the one with the most of the rare class.

    Args:
        sample: at least of the crop's size.
        rule: size and contents.
        places: down and right, 0 … 1, a pair for each try.
        rare_class: what the sample was drawn for.
    """
    height, width = sample.image.shape[:2]
    best: tuple[int, Sample] | None = None
    for _, (down, right) in zip(range(rule.tries(rare_class)), places, strict=False):
        top, left = int(down * (height - rule.size[1] + 1)), int(right * (width - rule.size[0] + 1))
        part = slice(top, top + rule.size[1]), slice(left, left + rule.size[0])
        label = sample.label[part] if sample.label is not None else None
        found = Sample(sample.name, sample.image[part], label)
        if label is None or rule.accepts(label, rare_class):
            return found
        pixels = 0 if rare_class is None else int((label == rare_class).sum())
        if best is None or pixels > best[0]:
            best = pixels, found
    assert best is not None
    return best[1]


def crop_places(seed: int, role: str, step: int, batch: int, number: int) -> Iterator[tuple[float, float]]:
    """Yield places of crops of sample `number` of a step's batch, ever new ones."""
    # The first come from one generator for the whole batch: most steps need no others.
    yield tuple(random_generator(seed, role, "crop", step).random((batch, 2))[number].tolist())
    again = random_generator(seed, role, "crop", step, number)
    while True:
        yield tuple(again.random(2).tolist())
