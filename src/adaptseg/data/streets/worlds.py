"""Procedurally rendered street worlds with one label space: embedded domains.

`game` is clean, bright and flat-shaded; `camera` imitates photographs; in `varied` every image draws its own colours,
materials, light, camera and sensor (domain randomisation, Tobin et al., IROS 2017). All see the same kind of street
from a car, so that their label maps share layout while the looks differ. Nothing is read from disk.
"""

from __future__ import annotations

import random
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from adaptseg.data.streets.photo import photograph
from adaptseg.data.streets.scene import arrange
from adaptseg.data.streets.shapes import Label, Patch, Scene
from adaptseg.data.streets.styles import CAMERA, GAME, Rgb, Style
from adaptseg.data.streets.varied import varied_style

__all__ = ["STREETS_CLASSES", "STYLES", "render"]

STREETS_CLASSES: tuple[str, ...] = tuple(label.name.lower().replace("_", " ") for label in Label)
"""Class names; the position of a name is its label value. A rider includes the bicycle."""
STYLES = ("game", "camera", "varied")
"""Names of the domains."""
_SUBPIXEL_BITS = 4


def render(
    style: str, split: str, index: int, size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Render one image and its labels.

    Args:
        style: One of `STYLES`.
        split: Any name; splits with different names have different scenes.
        index: Number of the image in the split, from 0.
        size: Width and height in pixels. The scene does not depend on it: a wider picture shows more of the sides.

    Returns:
        The image (H, W, 3), uint8 RGB, and the labels (H, W), uint8 positions in `STREETS_CLASSES`.

    Raises:
        ValueError: If the style is unknown.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; choose one of {', '.join(STYLES)}")
    name = f"{style}/{split}/{index}"
    look = varied_style(random.Random(f"{name}/look")) if style == "varied" else {"game": GAME, "camera": CAMERA}[style]
    scene = arrange(random.Random(name), look.proportions, look.view)
    canvas = _paint(scene, look, size)
    image, label = canvas[..., :3].copy(), canvas[..., 3].copy()
    if look.film is not None:
        image = photograph(image, label, scene, look.film, np.random.default_rng(zlib.crc32(name.encode())))
    return image, label


def _paint(scene: Scene, look: Style, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Paint a scene without anti-aliasing, (H, W, 4): RGB and, as fourth channel, the label."""
    width, height = size
    patches = scene.painting_order()
    counts = np.array([len(patch.points) for patch in patches])
    starts = np.concatenate([[0], np.cumsum(counts)])
    points = np.array([point for patch in patches for point in patch.points], np.float32)
    pixels = scene.camera.project(points) * np.float32(height) + np.array([width / 2 - 0.5, -0.5], np.float32)
    corners = np.clip(pixels * (1 << _SUBPIXEL_BITS), -4e5, 4e5).astype(np.int32)
    depths = np.minimum.reduceat(points[:, 2], starts[:-1])
    sky = look.skies[int(scene.weather * len(look.skies))]
    colors = _colors(patches, depths, look, sky[1])
    bounds = starts.tolist()
    canvas = _sky(sky, size)
    for patch, color, start, end in zip(patches, colors, bounds, bounds[1:], strict=False):
        cv2.fillPoly(canvas, [corners[start:end]], (*color, int(patch.label)), cv2.LINE_8, _SUBPIXEL_BITS)
    return canvas


def _colors(patches: list[Patch], depths: npt.NDArray[np.float32], look: Style, horizon: Rgb) -> list[list[float]]:
    """RGB colour of each patch, shaded and seen through the haze; `depths` in metres of the nearest corners."""
    base = []
    for patch in patches:
        choices = look.palette[patch.material]
        base.append(choices[int(patch.tone * len(choices))])
    shaded = np.array(base, np.float32) * np.array([patch.shade for patch in patches], np.float32)[:, None]
    clear = np.exp(-look.haze * depths)[:, None]
    seen = clear * shaded + (1 - clear) * np.array(horizon, np.float32)
    colors: list[list[float]] = np.clip(seen, 0, 255).round().tolist()
    return colors


def _sky(colors: tuple[Rgb, Rgb], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Canvas filled with sky from the zenith's colour to the horizon's, (H, W, 4)."""
    width, height = size
    zenith, horizon = np.array(colors, np.float32)
    share = np.clip(np.arange(height, dtype=np.float32) / (0.5 * height), 0, 1)[:, None]
    canvas = np.empty((height, width, 4), np.uint8)
    canvas[..., :3] = (zenith + share * (horizon - zenith))[:, None]
    canvas[..., 3] = Label.SKY
    return canvas
