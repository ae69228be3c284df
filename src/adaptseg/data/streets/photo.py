"""What makes a street scene look photographed: textures, cast shadows, uneven light, lens and sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from adaptseg.data.streets.shapes import Camera, FloatArray, Label, Scene

Range: TypeAlias = tuple[float, float]
TILE = 256
"""Width and height in pixels of the repeating textures."""


@dataclass(frozen=True)
class Surfaces:
    """Repeating textures, and how strongly they modulate the light of each label."""

    ground: FloatArray
    """(any height, any width), in perspective on everything that lies."""
    wall: FloatArray
    """(TILE, any width), in the perspective of the house fronts; its width runs along the street."""
    fine: float
    """Factor on the number of grains and stones a metre."""
    shift: float
    """Pixels by which the right wall's texture is ahead of the left's."""
    strengths: FloatArray
    """(4, 256): of ground, wall, foliage and gloss, by label."""
    tint: float
    """Strength of slow changes of the hue within surfaces."""
    sky: float
    """Factor on the light of the sky: above 1, what stands before it is seen against the light."""


@dataclass(frozen=True)
class Film:
    """Ranges from which light, lens and sensor of a photograph are drawn."""

    sun: Range = (0.1, 0.55)
    """Share of the light that cast shadows take."""
    slope: float = 0.12
    """Greatest change of light across one image height."""
    vignette: Range = (0.1, 0.22)
    """Fall of light with the squared distance from the middle in image heights."""
    dusk: float = 0.15
    """Probability of a dim picture."""
    dim: Range = (0.75, 0.92)
    """Exposure of a dim picture."""
    exposure: Range = (1.12, 1.42)
    warmth: Range = (-0.07, 0.05)
    """Gain of red, and loss of blue."""
    green: float = 0.015
    blur: Range = (0.0035, 0.0055)
    """Standard deviation in image heights."""
    gamma: Range = (0.9, 1.2)
    noise: Range = (0.008, 0.018)
    surfaces: Surfaces | None = None
    """None: those of the style `camera`."""
    scan: Scan | None = None
    """What happens to the image in the camera's processor; none: nothing."""


@dataclass(frozen=True)
class Scan:
    """A camera's processor: values of one picture."""

    saturation: float
    veil: float
    """Share of stray light, a grey over the whole picture."""
    sharpening: float
    """Weight of the difference to the blurred picture."""
    jpeg: int | None
    """Quality of JPEG's compression, 1 to 100; none: no compression."""


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


STRENGTHS = np.stack([_by_label(strength) for strength in (_ASPHALT, _MASONRY, _FOLIAGE, _GLOSS)])
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


def masonry(rng: np.random.Generator, course: int = 16, stone: int = 32) -> FloatArray:
    """Repeating texture of weathered stone courses, (TILE, TILE); sizes of a stone are in pixels."""
    wall = value_noise(rng, TILE, TILE, (4, 16, 64)) * 0.7
    for row in range(TILE // course):
        shift = stone // 2 * (row % 2)
        tones = np.repeat(rng.random(TILE // stone, np.float32) - 0.5, stone)
        wall[row * course : (row + 1) * course] += np.roll(tones, shift)[None] * 0.9
        wall[row * course : row * course + 2] -= 0.6
        wall[row * course : (row + 1) * course, shift::stone] -= 0.5
    return wall


@cache
def _camera_surfaces() -> Surfaces:
    """Surfaces of the style `camera`."""
    return Surfaces(_asphalt(), masonry(np.random.default_rng(2)), 1.0, 0.0, STRENGTHS, 0.0, 1.0)


def _sample(tile: FloatArray, across: FloatArray, down: FloatArray) -> FloatArray:
    """Values of a repeating texture at coordinates in pixels."""
    across, down = np.mod(across, tile.shape[1] - 1), np.mod(down, tile.shape[0] - 1)
    return cv2.remap(tile, across, down, cv2.INTER_LINEAR).astype(np.float32, copy=False)


def _ground_texture(camera: Camera, surfaces: Surfaces, u: FloatArray, v: FloatArray) -> FloatArray:
    """Asphalt in perspective, (H, W); it fades with depth, where a pixel averages over many grains."""
    drop = np.maximum(v - np.float32(camera.horizon), 0.004)[:, None]
    z = np.float32(camera.focal * camera.height) / drop
    x = (u[None] - np.float32(camera.yaw)) * z / np.float32(camera.focal)
    along = np.broadcast_to(z * np.float32(20 * surfaces.fine), x.shape).astype(np.float32)
    texture = _sample(surfaces.ground, x * np.float32(28 * surfaces.fine), along)
    faded: FloatArray = (texture * (0.35 + 0.65 * np.exp(-z / 18))).astype(np.float32, copy=False)
    return faded


def _wall_texture(scene: Scene, surfaces: Surfaces, u: FloatArray, v: FloatArray) -> FloatArray:
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
    density = np.float32(26 * surfaces.fine)
    along = z * density + np.float32(surfaces.shift) * (u >= camera.yaw)
    texture = _sample(surfaces.wall, np.broadcast_to(along, y.shape).astype(np.float32), y * density + 64 * TILE)
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
    image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], scene: Scene, film: Film, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Turn a flat-coloured drawing (H, W, 3) with its labels (H, W) into an imitated photograph."""
    height, width = label.shape
    u = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height).astype(np.float32)
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height).astype(np.float32)
    surfaces = film.surfaces or _camera_surfaces()
    on_ground, on_wall, on_leaves, on_gloss = surfaces.strengths
    fine = value_noise(rng, height, width, (20, 50, 100))
    coarse = value_noise(rng, height, width, (3, 7))
    light = 1 + on_ground[label] * _ground_texture(scene.camera, surfaces, u, v)
    light += on_wall[label] * _wall_texture(scene, surfaces, u, v)
    light += on_leaves[label] * fine
    light += on_gloss[label] * coarse
    light += (label == Label.SKY) * (0.07 * coarse)
    sun = rng.uniform(*film.sun)
    light *= 1 - _GROUND_TABLE[label] * _shadow_mask(scene, label.shape) * np.float32(sun)
    light *= _uneven_light(rng, film, u, v)
    photo = image.astype(np.float32) * (1 / 255)
    photo *= np.maximum(light, 0.15)[..., None]
    if surfaces.sky != 1:
        photo[label == Label.SKY] *= np.float32(surfaces.sky)
    if surfaces.tint:
        hues = rng.standard_normal((8, 10, 3), np.float32) * np.float32(surfaces.tint)
        photo *= cv2.resize(1 + hues, (width, height), interpolation=cv2.INTER_LINEAR)
    developed = _expose(photo, film, rng)
    return _scan(developed, film.scan) if film.scan else developed


def _uneven_light(rng: np.random.Generator, film: Film, u: FloatArray, v: FloatArray) -> FloatArray:
    """Light that falls off across the picture and to its corners, (H, W)."""
    slope = rng.uniform(-film.slope, film.slope)
    radius = u[None] ** 2 + (v[:, None] - 0.5) ** 2
    gradient = 1 + np.float32(slope) * u[None]
    return (gradient * (1 - np.float32(rng.uniform(*film.vignette)) * radius)).astype(np.float32)


def _expose(photo: FloatArray, film: Film, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Lens and sensor: exposure, white balance, tone curve, blur and noise. `photo` is 0 to about 1."""
    height = photo.shape[0]
    dusk = rng.random() < film.dusk
    exposure = rng.uniform(*film.dim) if dusk else rng.uniform(*film.exposure)
    warm = rng.uniform(*film.warmth)
    green = rng.uniform(-film.green, film.green)
    balance = np.array([1 + warm, 1 + green, 1 - warm + 0.04 * dusk], np.float32)
    blurred = cv2.GaussianBlur(photo * (balance * np.float32(exposure)), (0, 0), height * rng.uniform(*film.blur))
    toned = np.clip(blurred, 0, 1.1).astype(np.float32, copy=False) ** np.float32(rng.uniform(*film.gamma))
    grain = rng.standard_normal(toned.shape, np.float32)
    noisy = toned + grain * (np.float32(rng.uniform(*film.noise)) * (np.float32(0.6) + np.sqrt(toned)))
    developed: npt.NDArray[np.uint8] = (np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return developed


def _scan(image: npt.NDArray[np.uint8], scan: Scan) -> npt.NDArray[np.uint8]:
    """A camera's processor: saturation, stray light, sharpening and compression."""
    luminance = np.outer(np.ones(3), (0.299, 0.587, 0.114))
    colors = (1 - scan.veil) * (luminance + scan.saturation * (np.eye(3) - luminance))
    image = cv2.transform(image, np.column_stack([colors, np.full(3, 170 * scan.veil)])).astype(np.uint8, copy=False)
    if scan.sharpening:
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = cv2.addWeighted(image, 1 + scan.sharpening, soft, -scan.sharpening, 0).astype(np.uint8, copy=False)
    if scan.jpeg is not None:
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, scan.jpeg])[1]
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return image
