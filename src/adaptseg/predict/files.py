"""Images and frames of files in, pictures out: read ahead of the network, and written whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL import Image

from adaptseg.data.ahead import ahead, mapped_ahead
from adaptseg.data.files import UInt8Array, decode_image
from adaptseg.data.films import VideoReader, is_video
from adaptseg.errors import InputError
from adaptseg.models.devices import reading_threads
from adaptseg.segmenter import inference
from adaptseg.segmenter.inference import Views
from adaptseg.segmenter.segmenter import Segmenter

MAX_SIDE = 65_500
"""Pixels that JPEG has room for."""

Input = tuple[Path, Path]
"""An image or video, and its name for outputs without suffix."""
Outputs = dict[str, npt.NDArray[Any]]
"""Path below the output folder -> picture, (H, W) or (H, W, 3)."""


def count_images(inputs: Sequence[Input]) -> int | None:
    """Return the number of images and frames; none where a video does not say it."""
    try:
        counts = [VideoReader(path).count if is_video(path.name) else 1 for path, _ in inputs]
    except InputError:  # A broken video: the prediction will say so.
        return None
    return sum(counts) if all(counts) else None


def images_of(
    inputs: Sequence[Input], segmenter: Segmenter, views: Views, batch: int, broken: list[InputError]
) -> Iterator[tuple[Path, UInt8Array]]:
    """Yield name and pixels of every image and of every video's frames; what is wrong with others goes to `broken`.

    Those that come next are decoded meanwhile: of images as many as threads and a `batch`, of frames a batch.
    """

    def read(pair: Input) -> UInt8Array | InputError:
        try:
            return read_image(pair[0], segmenter, views)
        except InputError as error:
            return error

    threads = reading_threads(next(segmenter.parameters()).device)
    for are_videos, found in groupby(inputs, lambda pair: is_video(pair[0].name)):
        group = list(found)
        if are_videos:
            yield from _frames(group, batch, broken)
            continue
        pictures = mapped_ahead(read, group, threads, threads + batch)
        for (_, name), picture in zip(group, pictures, strict=True):
            if isinstance(picture, InputError):
                broken.append(picture)
            else:
                yield name, picture


def _frames(inputs: Sequence[Input], batch: int, broken: list[InputError]) -> Iterator[tuple[Path, UInt8Array]]:
    for path, name in inputs:
        try:
            for index, frame in enumerate(ahead(VideoReader(path), batch + 1)):
                yield name / f"{index:06d}", frame.image
        except InputError as error:
            broken.append(error)


def read_image(path: Path, segmenter: Segmenter, views: Views) -> UInt8Array:
    """Return an image's pixels, (H, W, 3) RGB.

    Raises:
        InputError: it cannot be read, or is too large for an overlay or for the network.
    """
    try:
        image = decode_image(path.read_bytes(), str(path), segmenter.value_range)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise InputError(f"{path}: {width}x{height} pixels, but overlays have at most {MAX_SIDE} a side; cut the image")
    try:
        inference.check_size(segmenter, views, (width, height))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return image


def partial_path(target: Path) -> Path:
    """Return where a file is written before it has its name, which may have all the 255 bytes that a name can have."""
    digest = hashlib.blake2b(target.name.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return target.with_name(f".partial-{os.getpid()}-{digest}{target.suffix}")


def write_pictures(out: Path, pictures: Outputs) -> None:
    """Write all pictures of one image beside their places, then rename them: none is ever half written."""
    renames: list[tuple[Path, Path]] = []
    try:
        for name, picture in pictures.items():
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = partial_path(target)
            renames.append((partial, target))
            Image.fromarray(picture).save(partial)
        for partial, target in renames:
            partial.replace(target)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from error
    finally:
        for partial, _ in renames:
            partial.unlink(missing_ok=True)
