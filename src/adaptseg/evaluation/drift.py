"""Drift: whether photographs look like the target images that a network was adapted to, and in what they differ.

Each image is eight figures: how it looks, and how undecided the network is about it. Its distance is Mahalanobis', over
the root of the number of figures, from the reference's mean; the covariance is shrunk towards its diagonal. What lies
farther than 95 % of the reference's own images, each measured against images far from it in the listing, is outside.
The mean of many images may move although none is outside: that is a shift. How well both work is in docs/trust.md.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from adaptseg.atomic import write_bytes
from adaptseg.data.files import UInt8Array
from adaptseg.errors import InputError
from adaptseg.evaluation.target_images import FEWEST
from adaptseg.models.entropy import entropy
from adaptseg.segmenter.segmenter import Segmenter

TARGET_LOOK = "target_look.npz"
"""File of a run with the figures of its target images."""
VERSION = 1
FOLDS = 8
SHRINKAGE = 0.1
QUANTILE = 0.95
CHANCE = 0.10
"""Share outside that images of the same kind may have: twice what they have on average."""
SIGNIFICANCE = 0.01
SHIFT = 0.4
"""Distance of the images' mean from the reference's from which on they have shifted, unless chance explains it."""
CHANCE_SHIFT = 1.8
"""What chance explains, times the standard error of the two means: 1 in 1000 of a χ² of eight figures is beyond."""
NOTEWORTHY = 0.5
"""Standard deviations from which on a difference is named."""
MOST_NAMED = 3

FEATURES = {
    "brightness": ("darker", "brighter"),
    "contrast": ("flatter", "of more contrast"),
    "red against blue": ("bluer", "redder"),
    "green against red and blue": ("greener", "more magenta"),
    "saturation": ("greyer", "more colourful"),
    "fine detail": ("blurrier", "sharper or noisier"),
    "coarse detail": ("emptier", "busier"),
    "entropy": ("clearer to the network", "less clear to the network"),
}
"""What is measured of an image -> how an image is called that has less of it, and more."""

Table = npt.NDArray[np.float64]
"""(images, len(FEATURES))."""


@torch.no_grad()
def look(segmenter: Segmenter, image: UInt8Array) -> npt.NDArray[np.float64]:
    """Return the figures of an image (H, W, 3), scaled as the network sees it; the segmenter is in eval mode."""
    pixels = image.astype(np.float32) / 255
    red, green, blue = (pixels[..., channel] for channel in range(3))
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    half = cv2.resize(light, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    undecided = float(entropy(segmenter.main_logits([image]).float().softmax(1)).mean())
    return np.array(
        [
            light.mean(),
            light.std(),
            (red - blue).mean(),
            (red + blue - 2 * green).mean(),
            (pixels.max(2) - pixels.min(2)).mean(),
            _detail(light),
            _detail(half),
            math.log(undecided + 1e-3),
        ],
        np.float64,
    )


def _detail(light: npt.NDArray[Any]) -> float:
    return math.log(float(np.abs(cv2.Laplacian(light, cv2.CV_32F)).mean()) + 1e-3)


def looks(segmenter: Segmenter, images: Iterable[UInt8Array]) -> Table:
    """Return the figures of images, one row each; the segmenter is left in the mode that it was in."""
    with segmenter.evaluating():
        return np.array([look(segmenter, image) for image in images], np.float64).reshape(-1, len(FEATURES))


@dataclass(frozen=True)
class Reference:
    """The target images that a network was adapted to."""

    table: Table
    """In the order of their listing."""

    def distances(self, table: Table) -> npt.NDArray[np.float64]:
        """Return how far images are from the reference (n,): about 1 for its own."""
        return _distances(self.table, table)

    @cached_property
    def limit(self) -> float:
        """Distance beyond which an image is outside."""
        order = np.arange(len(self.table)) * FOLDS // len(self.table)
        own = [_distances(self.table[order != fold], self.table[order == fold]) for fold in range(FOLDS)]
        return max(1e-6, float(np.quantile(np.concatenate(own), QUANTILE)))  # Of one picture, many times, it is 0.


def _distances(reference: Table, table: Table) -> npt.NDArray[np.float64]:
    mean, spread = reference.mean(0), reference.std(0) + 1e-6
    correlation = np.cov((reference - mean).T / spread[:, None], bias=True)
    correlation = (1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(len(correlation))
    scaled = (table - mean) / spread
    squares = np.einsum("ij,jk,ik->i", scaled, np.linalg.inv(correlation), scaled)
    found: npt.NDArray[np.float64] = np.sqrt(squares / table.shape[1])
    return found


@dataclass(frozen=True)
class Drift:
    """What a comparison found."""

    distances: npt.NDArray[np.float64]
    """Of each image, over the limit: above 1 it is outside."""
    shift: float
    """Distance of the images' mean from the reference's."""
    reference_images: int
    """How many the reference has."""
    differences: dict[str, float]
    """Of each figure: how many standard deviations of the reference the images' mean is away."""

    @property
    def outside(self) -> int:
        """Number of images outside."""
        return int((self.distances > 1).sum())

    @property
    def kind(self) -> str:
        """`drift`: more are outside than chance explains; `shift`: their mean is elsewhere; or `none`."""
        count = len(self.distances)
        chance = sum(math.exp(_log_binomial(count, k, CHANCE)) for k in range(self.outside, count + 1))
        error = math.sqrt(1 / count + 1 / self.reference_images)
        shifted = count >= FEWEST and self.shift > max(SHIFT, CHANCE_SHIFT * error)
        return "drift" if chance < SIGNIFICANCE else "shift" if shifted else "none"

    @property
    def verdict(self) -> str:
        """One sentence."""
        count = len(self.distances)
        found = f"{self.outside} of {count} images ({100 * self.outside / count:.0f} %) are unlike"
        found += " those that the network was adapted to"
        named = sorted(self.differences.items(), key=lambda item: -abs(item[1]))[:MOST_NAMED]
        words = ", ".join(FEATURES[name][by > 0] for name, by in named if abs(by) >= NOTEWORTHY)
        if self.kind == "drift":
            how = f", mostly {words}" if words else ""
            return f"drift: {found}{how}; adapt to some of them, or check their masks"
        if self.kind == "shift":
            how = words or "of another mixture"
            return f"shift: {found}, but as a whole they are {how}; look at some of their masks"
        few = "; that few say little" if count < FEWEST else ""
        return f"no drift: {found}, as many as chance explains{few}"


def _log_binomial(count: int, hits: int, chance: float) -> float:
    """Return the logarithm of the probability of so many hits; whole numbers of 1100 images would be too large."""
    ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return ways + hits * math.log(chance) + (count - hits) * math.log(1 - chance)


def drift(reference: Reference, table: Table) -> Drift:
    """Compare images, at least one, with the reference."""
    mean = table.mean(0)
    differences = (mean - reference.table.mean(0)) / (reference.table.std(0) + 1e-6)
    return Drift(
        reference.distances(table) / reference.limit,
        float(reference.distances(mean[None])[0]),
        len(reference.table),
        dict(zip(FEATURES, differences.tolist(), strict=True)),
    )


def write_reference(path: Path, reference: Reference, checkpoint: str) -> None:
    """Write a reference, whole or not at all; `checkpoint` names the weights that saw the images."""
    content = io.BytesIO()
    np.savez(content, version=VERSION, checkpoint=checkpoint, features=list(FEATURES), table=reference.table)
    write_bytes(path, content.getvalue())


def read_reference(path: Path, checkpoint: str) -> Reference | None:
    """Return a run's reference; none where there is none, or it is broken, of another version, or other weights'."""
    try:
        with np.load(path) as content:
            known = (VERSION, checkpoint, list(FEATURES))
            if (int(content["version"]), str(content["checkpoint"]), content["features"].tolist()) != known:
                return None
            table = np.asarray(content["table"], np.float64)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    sound = table.ndim == 2 and table.shape[1] == len(FEATURES) and len(table) >= FEWEST and np.isfinite(table).all()
    return Reference(table) if sound else None


def reference_of(table: Table, where: str) -> Reference:
    """Return the reference of a table; raises `InputError` where there are too few images."""
    if len(table) < FEWEST:
        raise InputError(f"{where}: {len(table)} target images are too few to compare with; {FEWEST} are needed")
    return Reference(table)
