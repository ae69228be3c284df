"""A street of five classes, its photograph, and ways to save both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

CLASSES = ("sky", "building", "road", "car", "vegetation")
COUNT, WIDTH, HEIGHT = 6, 48, 36
OWN = {
    "sky": (10, 20, 200),
    "building": (9, 200, 30),
    "road": (77, 1, 2),
    "car": (250, 3, 99),
    "vegetation": (1, 99, 44),
}
"""Colours that no published palette has."""
Array = npt.NDArray[Any]


def scene(index: int) -> Array:
    """Return a street: positions in `CLASSES`, (H, W)."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[10:22] = 1
    label[10:22, 2 * index : 2 * index + 10] = 4
    label[22:] = 2
    label[20:27, 30 - 3 * index : 40 - 3 * index] = 3
    return label


def photograph(index: int, shift: int = 0) -> Array:
    colors = np.array([(130, 160, 220), (140, 120, 110), (90, 90, 95), (180, 40, 40), (60, 110, 50)], np.int16)
    noise = np.random.default_rng(index + 100 * shift).integers(-25, 25, (HEIGHT, WIDTH, 3))
    pixels: Array = np.clip(colors[scene(index)] + noise + shift, 0, 255).astype(np.uint8)
    return pixels


def save(path: Path, pixels: Array, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def each(folder: Path, image: str, label: str, draw: Callable[[Array], Array] | None = None, start: int = 0) -> None:
    """Write images and labels to templates with a number in them."""
    for index in range(COUNT):
        save(folder / image.format(index + start), photograph(index))
        if label:
            save(folder / label.format(index + start), (draw or (lambda ids: ids))(scene(index)))


def photographs(folder: Path) -> None:
    for index in range(COUNT):
        save(folder / f"IMG_{index}.jpg", photograph(index, 9), quality=95)


def colored(colors: Mapping[str, tuple[int, int, int]], alpha: bool = False) -> Callable[[Array], Array]:
    table = np.array([(*colors[name], 255) for name in CLASSES], np.uint8)
    return lambda ids: np.ascontiguousarray(table[ids] if alpha else table[ids][:, :, :3])


def valued(values: Mapping[str, int], kind: Any = np.uint8) -> Callable[[Array], Array]:
    return lambda ids: np.array([values[name] for name in CLASSES], kind)[ids]


def palette_picture(path: Path, ids: Array, colors: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids).convert("P")
    picture.putpalette(colors.ravel().tolist())
    picture.save(path)


def outlines(ids: Array, code: int) -> list[Array]:
    found, _ = cv2.findContours((ids == code).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0] for contour in found]


def corners(ids: Array, code: int) -> list[Array]:
    """Return the rings around the pixels of a class, on their borders."""
    doubled = np.kron(ids == code, np.ones((2, 2), np.uint8))
    return [(ring + 1) // 2 for ring in outlines(doubled, 1)]
