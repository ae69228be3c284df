"""What makes a street scene look photographed: textures, cast shadows, uneven light, lens and sensor."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from adaptseg.data.streets.shapes import Camera, FloatArray, Label, Scene

TILE = 256
"""Width and height in pixels of the repeating textures."""
_GROUND = (Label.ROAD, Label.SIDEWALK, Label.TERRAIN)
# Strength of each texture by label.
_ASPHALT = {Label.ROAD: 0.12, Label.SIDEWALK: 0.12, Label.TERRAIN: 0.2}
_MASONRY = {Label.BUILDING: 0.26, Label.FENCE: 0.15}
_FOLIAGE = {Label.VEGETATION: 0.55, Label.TERRAIN: 0.2, Label.FENCE: 0.1}
_GLOSS = {Label.CAR: 0.22, Label.BUS: 0.16, Label.PERSON: 0.2, Label.RIDER: 0.2}


def _by_label(strength: dict[Label, float]) -> FloatArray:
    table = np.zeros(256, np.float32)
    for label, value in strength.items():
        table[label] = value
    return table


_ASPHALT_TABLE, _MASONRY_TABLE = _by_label(_ASPHALT), _by_label(_MASONRY)
_FOLIAGE_TABLE, _GLOSS_TABLE = _by_label(_FOLIAGE), _by_label(_GLOSS)
_GROUND_TABLE = _by_label(dict.fromkeys(_GROUND, 1.0))


def value_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, ...]) -> FloatArray:
    """Sum of smoothly upscaled random grids, (height, width), about -1 to 1; `cells` across the height of each."""
    total = np.zeros((height, width), np.float32)
    for rows in cells:
        columns = max(2, round(rows * width / height))
        grid = rng.random((rows, columns), np.float32) * 2 - 1
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    return total / np.float32(len(cells) ** 0.5)


@cache
def _asphalt() -> FloatArray:
    """Repeating texture of grains and stains, (TILE, TILE)."""
    rng = np.random.default_rng(1)
    return value_noise(rng, TILE, TILE, (8, 32, 128, 256))


@cache
def _masonry() -> FloatArray:
    """Repeating texture of weathered stone courses, (TILE, TILE)."""
    rng = np.random.default_rng(2)
    wall = value_noise(rng, TILE, TILE, (4, 16, 64)) * 0.7
    course, stone = 16, 32
    for row in range(TILE // course):
        shift = stone // 2 * (row % 2)
        tones = np.repeat(rng.random(TILE // stone, np.float32) - 0.5, stone)
        wall[row * course : (row + 1) * course] += np.roll(tones, shift)[None] * 0.9
        wall[row * course : row * course + 2] -= 0.6
        wall[row * course : (row + 1) * course, shift::stone] -= 0.5
    return wall


def _sample(tile: FloatArray, across: FloatArray, down: FloatArray) -> FloatArray:
    """Values of a repeating texture at coordinates in pixels."""
    across, down = np.mod(across, TILE - 1), np.mod(down, TILE - 1)
    return cv2.remap(tile, across, down, cv2.INTER_LINEAR).astype(np.float32, copy=False)


def _ground_texture(camera: Camera, u: FloatArray, v: FloatArray) -> FloatArray:
    """Asphalt in perspective, (H, W); it fades with depth, where a pixel averages over many grains."""
    drop = np.maximum(v - np.float32(camera.horizon), 0.004)[:, None]
    z = np.float32(camera.focal * camera.height) / drop
    x = (u[None] - np.float32(camera.yaw)) * z / np.float32(camera.focal)
    texture = _sample(_asphalt(), x * np.float32(28), np.broadcast_to(z * 20, x.shape).astype(np.float32))
    faded: FloatArray = (texture * (0.35 + 0.65 * np.exp(-z / 18))).astype(np.float32, copy=False)
    return faded


def _wall_texture(scene: Scene, u: FloatArray, v: FloatArray) -> FloatArray:
    """Masonry in the perspective of the house fronts on both sides, (H, W)."""
    camera = scene.camera
    depths = np.geomspace(2.0, 160.0, 48).astype(np.float32)
    z = np.empty_like(u)
    sides = (u < camera.yaw, u >= camera.yaw)
    for wall, mask in zip(scene.walls, sides[:: camera.keep], strict=True):
        columns = camera.yaw + camera.keep * camera.focal * (np.float32(wall) + camera.bend(depths)) / depths
        order = np.argsort(columns)
        z[mask] = np.interp(u[mask], columns[order], depths[order])
    y = (v[:, None] - np.float32(camera.horizon)) * z[None] / np.float32(camera.focal)
    texture = _sample(_masonry(), np.broadcast_to(z * 26, y.shape).astype(np.float32), y * 26 + 64 * TILE)
    faded: FloatArray = (texture * (0.3 + 0.7 * np.exp(-z / 30))).astype(np.float32, copy=False)
    return faded


def _shadow_mask(scene: Scene, shape: tuple[int, int]) -> FloatArray:
    """Share of the sun that cast shadows take, (H, W), 0 to 1."""
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    if not scene.shadows:
        return mask.astype(np.float32)
    counts = [len(polygon) for polygon in scene.shadows]
    points = np.array([point for polygon in scene.shadows for point in polygon], np.float32)
    pixels = scene.camera.project(points) * np.float32(height) + np.array([width / 2, 0], np.float32)
    corners = np.clip(pixels * 16, -4e5, 4e5).astype(np.int32)
    start = 0
    for count in counts:
        cv2.fillPoly(mask, [corners[start : start + count]], 255, cv2.LINE_8, 4)
        start += count
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.4, height / 220))
    return soft.astype(np.float32) / np.float32(255)


def photograph(
    image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], scene: Scene, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Turn a flat-coloured drawing (H, W, 3) with its labels (H, W) into an imitated photograph."""
    height, width = label.shape
    u = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height).astype(np.float32)
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height).astype(np.float32)
    fine = value_noise(rng, height, width, (20, 50, 100))
    coarse = value_noise(rng, height, width, (3, 7))
    light = 1 + _ASPHALT_TABLE[label] * _ground_texture(scene.camera, u, v)
    light += _MASONRY_TABLE[label] * _wall_texture(scene, u, v)
    light += _FOLIAGE_TABLE[label] * fine
    light += _GLOSS_TABLE[label] * coarse
    light += (label == Label.SKY) * (0.07 * coarse)
    sun = rng.uniform(0.1, 0.55)
    light *= 1 - _GROUND_TABLE[label] * _shadow_mask(scene, label.shape) * np.float32(sun)
    light *= _uneven_light(rng, u, v)
    photo = image.astype(np.float32) * (1 / 255)
    photo *= np.maximum(light, 0.15)[..., None]
    return _expose(photo, rng)


def _uneven_light(rng: np.random.Generator, u: FloatArray, v: FloatArray) -> FloatArray:
    """Light that falls off across the picture and to its corners, (H, W)."""
    slope = rng.uniform(-0.12, 0.12)
    radius = u[None] ** 2 + (v[:, None] - 0.5) ** 2
    gradient = 1 + np.float32(slope) * u[None]
    return (gradient * (1 - np.float32(rng.uniform(0.1, 0.22)) * radius)).astype(np.float32)


def _expose(photo: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Lens and sensor: exposure, white balance, tone curve, blur and noise. `photo` is 0 to about 1."""
    height = photo.shape[0]
    dusk = rng.random() < 0.15
    exposure = rng.uniform(0.75, 0.92) if dusk else rng.uniform(1.12, 1.42)
    warm = rng.uniform(-0.07, 0.05)
    balance = np.array([1 + warm, 1 + rng.uniform(-0.015, 0.015), 1 - warm + 0.04 * dusk], np.float32)
    blurred = cv2.GaussianBlur(photo * (balance * np.float32(exposure)), (0, 0), height * rng.uniform(0.0035, 0.0055))
    toned = np.clip(blurred, 0, 1.1).astype(np.float32, copy=False) ** np.float32(rng.uniform(0.9, 1.2))
    grain = rng.standard_normal(toned.shape, np.float32)
    noisy = toned + grain * (np.float32(rng.uniform(0.008, 0.018)) * (np.float32(0.6) + np.sqrt(toned)))
    developed: npt.NDArray[np.uint8] = (np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return developed
