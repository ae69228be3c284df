"""Vocabulary of the street worlds: labels, coloured polygons in metres, and the camera that sees them.

World axes: `x` to the right, `y` up from the ground, `z` ahead, in metres, with the camera above the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Point: TypeAlias = tuple[float, float, float]
"""World coordinates (x, y, z) in metres."""
FloatArray: TypeAlias = npt.NDArray[np.float32]

NEAR = 1.2
"""Depth in metres to which everything closer is pushed back: it lies outside the picture anyway."""
BEND_END = 120.0
"""Depth in metres from which a curved street goes on straight."""


class Label(IntEnum):
    """Class of a pixel; the names are those of Cityscapes."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    FENCE = 3
    POLE = 4
    TRAFFIC_LIGHT = 5
    TRAFFIC_SIGN = 6
    VEGETATION = 7
    TERRAIN = 8
    SKY = 9
    PERSON = 10
    RIDER = 11
    CAR = 12
    BUS = 13


class Patch(NamedTuple):
    """A polygon of one class and one material; a style turns the material into a colour."""

    label: Label
    material: str
    points: list[Point]
    tone: float = 0.0
    """In [0, 1): which of the material's colours."""
    shade: float = 1.0
    """Factor on the colour: how the face stands to the light."""


@dataclass(frozen=True)
class View:
    """Ranges from which the camera of a scene is drawn; the fields are those of `Camera`."""

    focal: tuple[float, float] = (1.1, 1.3)
    height: tuple[float, float] = (1.3, 1.6)
    horizon: tuple[float, float] = (0.44, 0.52)
    roll: float = 0.012
    """Greatest slope to either side."""
    yaw: float = 0.07
    """Standard deviation."""


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of a car. Image coordinates are in image heights, from the top and from the middle."""

    focal: float
    height: float
    horizon: float
    """Row of the horizon for a level street, as a share of the image height."""
    roll: float
    """Slope of the horizon."""
    curvature: float
    """Of the street, in 1/m; positive bends right."""
    yaw: float
    """Column of the street's vanishing point, in image heights right of the middle."""
    keep: int
    """Side on which traffic keeps: 1 right; -1 left, where the world is mirrored."""

    def bend(self, z: FloatArray) -> FloatArray:
        """Sideways shift in metres of the street at depths `z`."""
        near = np.minimum(z, BEND_END)
        shift = np.float32(self.curvature) * near * (z - np.float32(0.5) * near)
        return shift.astype(np.float32, copy=False)

    def project(self, points: FloatArray) -> FloatArray:
        """Image coordinates (N, 2) of world points (N, 3): columns from the middle, rows from the top."""
        z = np.maximum(points[:, 2], NEAR)
        u = self.yaw + self.keep * self.focal * (points[:, 0] + self.bend(z)) / z
        v = self.horizon + self.focal * (self.height - points[:, 1]) / z + self.roll * u
        return np.stack([u, v], axis=1)


@dataclass
class Scene:
    """What stands where: patches of the ground in painting order, and things that hide each other by depth."""

    camera: Camera
    backdrop: list[Patch] = field(default_factory=list)
    things: list[tuple[float, list[Patch]]] = field(default_factory=list)
    """Depth in metres and patches of each thing, the patches in painting order."""
    shadows: list[list[Point]] = field(default_factory=list)
    """Polygons on the ground that direct sun does not reach."""
    walls: tuple[float, float] = (-8.0, 8.0)
    """`x` in metres of the house fronts on the left and on the right."""
    weather: float = 0.0
    """In [0, 1): which of a style's skies."""

    def add(self, depth: float, patches: list[Patch]) -> None:
        """Add a thing at a depth in metres."""
        self.things.append((depth, patches))

    def painting_order(self) -> list[Patch]:
        """All patches, the farthest first."""
        ordered = sorted(self.things, key=lambda thing: -thing[0])
        return self.backdrop + [patch for _, patches in ordered for patch in patches]


def facing(z: float, x0: float, x1: float, y0: float, y1: float) -> list[Point]:
    """Rectangle that faces the camera."""
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def along(x: float, z0: float, z1: float, y0: float, y1: float) -> list[Point]:
    """Upright rectangle along the street."""
    return [(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)]


def flat(x0: float, x1: float, z0: float, z1: float, y: float = 0.0) -> list[Point]:
    """Rectangle parallel to the ground."""
    return [(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)]


def circle(corners: int) -> list[tuple[float, float]]:
    """Corners of a regular polygon on the unit circle."""
    turns = [2 * math.pi * (k + 0.5) / corners for k in range(corners)]
    return [(math.cos(turn), math.sin(turn)) for turn in turns]


ROUND = circle(10)


def disc(x: float, y: float, z: float, rx: float, ry: float) -> list[Point]:
    """Ellipse that faces the camera."""
    return [(x + rx * c, y + ry * s, z) for c, s in ROUND]


def disc_along(x: float, y: float, z: float, radius: float) -> list[Point]:
    """Upright disc along the street, such as a wheel."""
    return [(x, y + radius * s, z + radius * c) for c, s in ROUND]


def ring(x: float, y: float, z: float, radius: float, inner: float) -> list[Point]:
    """Ring that faces the camera: the hole is left open by the even-odd rule."""
    outer = [(x + radius * c, y + radius * s, z) for c, s in ROUND]
    hole = [(x + inner * c, y + inner * s, z) for c, s in ROUND]
    return [*outer, outer[0], hole[0], *reversed(hole)]


def limb(x0: float, y0: float, x1: float, y1: float, z: float, width: float) -> list[Point]:
    """Straight bar between two points that faces the camera."""
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    dx, dy = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
    return [(x0 + dx, y0 + dy, z), (x1 + dx, y1 + dy, z), (x1 - dx, y1 - dy, z), (x0 - dx, y0 - dy, z)]
