"""Which part of a sample a training step sees: a random crop, drawn anew where it shows too little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adaptseg.data.dataset import Sample
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import IGNORE_INDEX

RARE_CLASS_CROP_SHARE = 0.5 * 3000 / 512**2
"""A crop shows the class that its sample was drawn for where more of its pixels are of it (DAFormer)."""
LARGEST_CLASS_CROPS = 10
"""New crops that are drawn at most for the sake of the largest class alone."""


def crop(sample: Sample, size: tuple[int, int], place: tuple[float, float]) -> Sample:
    """Return the part of `size` (width, height) of a sample; `place` is down and right, in [0, 1)."""
    height, width = sample.image.shape[:2]
    top, left = int(place[0] * (height - size[1] + 1)), int(place[1] * (width - size[0] + 1))
    part = slice(top, top + size[1]), slice(left, left + size[0])
    frame = top / height, left / width, (top + size[1]) / height, (left + size[0]) / width
    return Sample(sample.name, sample.image[part], sample.label[part] if sample.label is not None else None, frame)


@dataclass(frozen=True)
class CropContents:
    """What a random part of a source sample has to show."""

    largest_class: float | None = None
    """No class may have this share of the labelled pixels; none: it may."""
    rare_class_crops: int = 10
    """New crops that are drawn at most until the class that the sample was drawn for is in one."""

    def choose(
        self,
        cut: Callable[[tuple[float, float]], Sample],
        first: tuple[float, float],
        again: np.random.Generator,
        rare_class: int | None,
    ) -> Sample:
        """Return the first part that shows what it has to; where none does, the one with the most of the rare class.

        Args:
            cut: the part at a place, down and right, in [0, 1).
            first: the place that is tried first.
            again: draws further places.
            rare_class: what the sample was drawn for, if for a class.
        """
        best = part = cut(first)
        new_crops = self.rare_class_crops if rare_class is not None else LARGEST_CLASS_CROPS
        for _ in range(new_crops):
            if part.label is None or self.are_in(part.label, rare_class):
                return part
            down, right = again.random(2).tolist()
            part = cut((down, right))
            best = max(best, part, key=lambda one: np.count_nonzero(one.label == rare_class))
        return part if part.label is not None and self.are_in(part.label, rare_class) else best

    def are_in(self, label: UInt8Array, rare_class: int | None) -> bool:
        """Whether a part's label (h, w) shows what it has to."""
        if rare_class is None and self.largest_class is None:
            return True
        pixels = np.bincount(label.ravel(), minlength=256)
        if rare_class is not None and pixels[rare_class] <= RARE_CLASS_CROP_SHARE * label.size:
            return False
        labelled = pixels[:IGNORE_INDEX]
        return self.largest_class is None or bool(labelled.max() < self.largest_class * labelled.sum())


ANYTHING = CropContents()
