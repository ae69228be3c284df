"""Plan of a street: its cross-section, and the proportions in which a style builds it."""

from __future__ import annotations

import random
from dataclasses import dataclass

END = 130.0
"""Depth in metres at which the street ends."""


@dataclass(frozen=True)
class Proportions:
    """Sizes and densities in which the styles differ."""

    lane: tuple[float, float]
    """Width of a lane in metres."""
    sidewalk: tuple[float, float]
    """Width of a sidewalk in metres."""
    storeys: tuple[int, int]
    garden: float
    """Share of the lots without a house at the street."""
    trees: float
    """Probability that a side of the street is planted with trees."""
    parked: float
    """Probability that a parking space is taken."""
    moving: float
    """Probability of a car for each 10 m of a lane."""
    persons: tuple[int, int]
    riders: tuple[int, int]
    bus: float
    """Probability that a bus is in view."""
    parking: float = 0.5
    """Probability that a side has parking spaces."""
    verge: float = 0.3
    """Probability that grass lies between kerb and sidewalk."""
    tree: tuple[float, float] = (5.5, 10.0)
    """Height in metres of the trees at the kerb."""
    railings: float = 0.17
    """Probability of railings between sidewalk and road."""
    bare: float = 0.0
    """Share of the trees without leaves; where above 0, the palette has the material `twig`."""


@dataclass(frozen=True)
class Street:
    """Cross-section of the street, in metres right of the camera; pairs are (left, right)."""

    lane: float
    oncoming: int
    """Number of oncoming lanes."""
    parking: tuple[bool, bool]
    kerb: tuple[float, float]
    verge: tuple[float, float]
    """Width of the grass between kerb and sidewalk, or 0."""
    front: tuple[float, float]
    """Line along which the houses stand."""
    crossing: tuple[float, float] | None
    """Depths between which another street crosses."""
    sun: int
    """Side from which the sun shines: -1 left, 1 right."""

    def free(self, z0: float, z1: float) -> bool:
        """Whether the depths lie outside the crossing street."""
        return self.crossing is None or z1 < self.crossing[0] or z0 > self.crossing[1]


def cross_section(rng: random.Random, p: Proportions) -> Street:
    """Draw a street."""
    lane = rng.uniform(*p.lane)
    oncoming = rng.choice((1, 1, 1, 2))
    parking = (rng.random() < p.parking, rng.random() < p.parking)
    right = lane / 2 + 2.1 * parking[1]
    left = -lane * (oncoming + 0.5) - 2.1 * parking[0]
    verge = tuple(rng.uniform(1.0, 2.2) if rng.random() < p.verge else 0.0 for _ in range(2))
    left_front = left - verge[0] - rng.uniform(*p.sidewalk)
    right_front = right + verge[1] + rng.uniform(*p.sidewalk)
    crossing = None
    if rng.random() < 0.5:
        start = rng.uniform(11.0, 42.0)
        crossing = (start, start + rng.uniform(7.0, 11.0))
    sun = rng.choice((-1, 1))
    return Street(
        lane, oncoming, parking, (left, right), (verge[0], verge[1]), (left_front, right_front), crossing, sun
    )
