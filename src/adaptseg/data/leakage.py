"""Labelled target images that are evaluated on too, in whatever file: refused, for their score would be no score."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from adaptseg.data.dataset import Domain
from adaptseg.data.files import open_image
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.layouts.pairing import few
from adaptseg.errors import InputError


def pixel_digest(image: npt.NDArray[Any]) -> bytes:
    """Return 16 bytes for size and pixels of an image (H, W, 3) or label (H, W), however a file has them without loss.

    Arrays of different types are different.
    """
    size = (image.shape[1], image.shape[0])
    hashed = hashlib.blake2b(repr(size).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(image).data)
    return hashed.digest()


def refuse_evaluated(labelled: Domain, evaluation: Domain, threads: int) -> None:
    """Refuse labelled target images whose very pixels are those of an image to evaluate on.

    Of the evaluation those are decoded whose size is that of a labelled image, by `threads` threads: 36 s of one
    processor for 500 PNG files of 2048x1024.

    Raises:
        InputError: there are such images, or one is broken.
    """
    with ThreadPoolExecutor(max(1, threads)) as pool:
        trained = set(pool.map(lambda index: pixel_digest(labelled.layout.image(index)), range(len(labelled))))
        sizes = {_side_lengths(labelled, index) for index in range(len(labelled))}
        alike = [index for index in range(len(evaluation)) if _side_lengths(evaluation, index) in sizes]
        digests = pool.map(lambda index: pixel_digest(evaluation.layout.image(index)), alike)
        both = [index for index, digest in zip(alike, digests, strict=True) if digest in trained]
    if both:
        raise InputError(
            f"target_labelled: {len(both)} of the {len(evaluation)} images to evaluate on are among its"
            f" {len(labelled)} images: {few([_place(evaluation, index) for index in both])}; tell them apart by include"
            " or part, such as target_labelled.part [0.0, 0.5] and evaluation.part [0.5, 1.0]"
        )


def _side_lengths(domain: Domain, index: int) -> tuple[int, ...]:
    """Sides of an image, the smaller first: a header does not know which way is up. A rendering's are its style's."""
    layout = domain.layout
    if not isinstance(layout, Files):
        height, width = layout.image(index).shape[:2]
        return tuple(sorted((width, height)))
    name = layout.image_files[index]
    return tuple(sorted(open_image(layout.images.read(name), layout.images.where(name), header_only=True).size))


def _place(domain: Domain, index: int) -> str:
    layout = domain.layout
    return layout.images.where(layout.image_files[index]) if isinstance(layout, Files) else layout.names[index]
