"""Predictions as files: train ids, colours, and an overlay on the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from adaptseg.data.files import UInt8Array, decode_image, is_image
from adaptseg.errors import InputError
from adaptseg.models.segmenter import Segmenter

OVERLAY_OPACITY = 0.55


def find_images(inputs: Sequence[str]) -> list[tuple[Path, Path]]:
    """Return (image, name for outputs without suffix) of files and folders; folders are searched to the bottom.

    Raises:
        InputError: an input does not exist, or a folder holds no image.
    """
    found: list[tuple[Path, Path]] = []
    for text in inputs:
        path = Path(text)
        if path.is_file():
            found.append((path, Path(path.stem)))
        elif path.is_dir():
            images = sorted(p for p in path.rglob("*") if is_image(p.name) and p.is_file())
            if not images:
                raise InputError(f"{path}: no images in it; give a folder with photographs")
            found += [(image, image.relative_to(path).with_suffix("")) for image in images]
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
    names = [name for _, name in found]
    repeated = sorted({str(name) for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise InputError(f"two images would both be written as {repeated[0]}; predict them into separate --out folders")
    return found


def overlay(image: UInt8Array, colors: UInt8Array) -> UInt8Array:
    """Blend an image (H, W, 3) with class colours (H, W, 3)."""
    blended = image * (1 - OVERLAY_OPACITY) + colors * OVERLAY_OPACITY
    return blended.round().astype(np.uint8)


def predict_files(segmenter: Segmenter, images: Iterable[tuple[Path, Path]], out: Path) -> int:
    """Write `labels/NAME.png` (train ids), `colors/NAME.png` and `overlays/NAME.jpg` for every image.

    Returns:
        The number of images.
    """
    palette = segmenter.label_space.palette
    count = 0
    for path, name in images:
        image = decode_image(path.read_bytes(), str(path))
        train_ids = segmenter.predict(image)
        colors = palette[train_ids]
        paletted = Image.fromarray(train_ids)
        for folder, suffix, picture in (
            ("labels", ".png", paletted),
            ("colors", ".png", Image.fromarray(colors)),
            ("overlays", ".jpg", Image.fromarray(overlay(image, colors))),
        ):
            target = out / folder / name.with_name(name.name + suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".partial-{target.name}")
            picture.save(partial)
            partial.replace(target)
        count += 1
    return count
