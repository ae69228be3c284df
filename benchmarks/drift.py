"""`python -m benchmarks.drift RUN`: how many images count as unlike its target, of the same kind and of others."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from adaptseg.data.dataset import Domain, Sample
from adaptseg.data.files import UInt8Array
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.evaluation.drift import drift, looks
from adaptseg.evaluation.evaluate import evaluate
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.predict.drift import run_reference
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter

MOST = 60


def compressed(image: UInt8Array, quality: int) -> UInt8Array:
    """Return the image as JPEG gives it back."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.array(Image.open(content))


def darkened(image: UInt8Array, factor: float) -> UInt8Array:
    """Return the image with all values times a factor below 1."""
    return (image * factor).astype(np.uint8)


def blurred(image: UInt8Array, sigma: float) -> UInt8Array:
    """Return the image after a Gaussian of so many pixels."""
    return cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8, copy=False)


CHANGES: dict[str, Callable[[UInt8Array], UInt8Array]] = {
    "as they are": lambda image: image,
    "JPEG, quality 80": lambda image: compressed(image, 80),
    "JPEG, quality 50": lambda image: compressed(image, 50),
    "JPEG, quality 20": lambda image: compressed(image, 20),
    "0.8 times as bright": lambda image: darkened(image, 0.8),
    "0.6 times as bright": lambda image: darkened(image, 0.6),
    "0.4 times as bright": lambda image: darkened(image, 0.4),
    "blurred, σ 0.5 pixels": lambda image: blurred(image, 0.5),
    "blurred, σ 1 pixel": lambda image: blurred(image, 1),
    "blurred, σ 2 pixels": lambda image: blurred(image, 2),
    "red and blue swapped": lambda image: np.ascontiguousarray(image[..., ::-1]),
}


class Changed(Domain):
    """A domain whose images are changed as the network sees them."""

    def __init__(self, domain: Domain, indices: Sequence[int], change: Callable[[UInt8Array], UInt8Array]) -> None:
        """Take a domain, which of its samples, and the change."""
        self.domain, self.indices, self.change = domain, indices, change
        self.config, self.labelled = domain.config, domain.labelled

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def for_evaluation(self, index: int) -> Sample:
        """Return a sample, its image changed, its label at its own size."""
        sample = self.domain.for_evaluation(self.indices[index])
        return replace(sample, image=self.change(sample.image))


def rows(run: Path, segmenter: Segmenter, others: Iterable[str]) -> Iterable[str]:
    """Yield the table's lines, in Markdown."""
    config = build_config(read_experiment(str(run))[1])
    reference = run_reference(run, segmenter)
    settings = config.domain("evaluation")
    domain = Domain(settings, segmenter.label_space)
    sets = {name: Changed(domain, evenly(len(domain), MOST), change) for name, change in CHANGES.items()}
    for other in others:
        key, _, value = other.partition("=")
        changed = {key: value.split(",") if key in ("include", "split") else value}
        there = Domain(replace(settings, **changed), segmenter.label_space)  # type: ignore[arg-type]
        sets[f"{key} {value}"] = Changed(there, evenly(len(there), MOST), CHANGES["as they are"])
    yield "| images | number | outside | shift | verdict | mIoU |"
    yield "| --- | ---: | ---: | ---: | --- | ---: |"
    for name, images in sets.items():
        table = looks(segmenter, (images.for_evaluation(index).image for index in range(len(images))))
        found = drift(reference, table)
        score = evaluate(segmenter, images).miou
        outside = f"{100 * found.outside / len(images):.0f} %"
        cells = (name, len(images), outside, f"{found.shift:.2f}", found.kind, f"{100 * (score or 0):.1f}")
        yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print the table."""
    parser = ArgumentParser("python -m benchmarks.drift")
    parser.add_argument("run", type=Path)
    parser.add_argument("--other", action="append", default=[], metavar="KEY=VALUE", help="a key of the evaluation")
    options = parser.parse_args(sys.argv[1:])
    torch.set_num_threads(1)
    for line in rows(options.run, load_model(options.run), options.other):
        print(line, flush=True)


if __name__ == "__main__":
    main()
