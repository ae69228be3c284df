"""Both sides of a street: houses and gardens, and what stands on the sidewalks."""

from __future__ import annotations

import random

from adaptseg.data.streets.furniture import (
    bollard,
    bush,
    fence,
    hedge,
    house,
    lamp_post,
    traffic_light,
    traffic_sign,
    tree,
)
from adaptseg.data.streets.plan import END, Proportions, Street
from adaptseg.data.streets.shapes import NEAR, Scene, circle

_SHADE = circle(9)


def lots(rng: random.Random, scene: Scene, street: Street, p: Proportions, side: int) -> None:
    """Houses and gardens along one side."""
    front = street.front[side > 0]
    z, storeys = rng.uniform(-9.0, 0.0), rng.randint(*p.storeys)
    while z < END:
        wide = rng.uniform(7.0, 16.0) if z < 60 else rng.uniform(14.0, 24.0)
        end = z + wide
        if street.crossing and z < street.crossing[1] + 3 and end > street.crossing[0] - 3:
            end = street.crossing[0] - 3
            if end - z < 4:
                z = street.crossing[1] + 3
                continue
        if end > NEAR + 1:
            if rng.random() < p.garden:
                _garden(rng, scene, street, p, side, (z, end))
            else:
                storeys = max(p.storeys[0], min(p.storeys[1], storeys + rng.choice((-1, 0, 0, 1))))
                sunny = side != street.sun
                x = front + side * rng.choice((0.0, 0.0, 0.5))
                eaves, patches = house(rng, x, side, z, end, storeys, sunny)
                scene.add(end, patches)
                if not sunny:
                    reach = -side * eaves * 0.75
                    near, far = max(z, NEAR), max(end, NEAR)
                    scene.shadows.append(
                        [(x, 0, near), (x, 0, far), (x + reach, 0, far + 1.5), (x + reach, 0, near + 1.5)]
                    )
        z = end if rng.random() < 0.8 else end + rng.uniform(1.0, 4.0)


def _garden(
    rng: random.Random, scene: Scene, street: Street, p: Proportions, side: int, depths: tuple[float, float]
) -> None:
    """Lot without a house at the street: grass, a fence or a hedge, trees, perhaps a house set back."""
    front, (z0, z1) = street.front[side > 0], depths
    start, inside = max(z0, NEAR), z1 + 0.1  # all of it lies behind the fence and what stands on the sidewalk
    if rng.random() < 0.5:
        _, patches = house(rng, front + side * rng.uniform(7.0, 12.0), side, z0, z1, rng.choice((1, 2, 2, 3)), True)
        scene.add(z1 + 0.9, patches)
    kind = rng.random()
    if kind < 0.5:
        scene.add(z1, fence(rng, front, z0 + 0.1, z1 - 0.1))
    elif kind < 0.7:
        scene.add(z1, hedge(rng, front, side, z0, z1))
    for _ in range(rng.randint(1, 3)):
        x, z = front + side * rng.uniform(1.5, 8.0), rng.uniform(start + 0.5, z1)
        if z > 5:
            scene.add(inside + 0.01 * (z - start), tree(rng, x, z, rng.uniform(4.0, 9.0), p.bare))
    for _ in range(rng.randint(0, 2)):
        z = rng.uniform(start + 1.0, z1)
        if z > 4:
            scene.add(inside + 0.01 * (z - start), bush(rng, front + side * rng.uniform(1.2, 3.0), z))


def roadside(rng: random.Random, scene: Scene, street: Street, p: Proportions, side: int) -> None:
    """What stands on the sidewalk of one side, near the kerb."""
    kerb = street.kerb[side > 0] + side * 0.55
    if rng.random() < p.trees:
        _avenue(rng, scene, street, p, kerb + side * 0.4)
    _lamps(rng, scene, street, kerb, side)
    for _ in range(rng.randint(1, 4)):
        z = rng.uniform(6.5, 40.0)
        if street.free(z, z):
            scene.add(z, traffic_sign(rng, kerb, z))
    _barriers(rng, scene, street, p, kerb - side * 0.2)
    if street.crossing:
        corners = [z for z in (street.crossing[0] - 1.2, street.crossing[1] + 1.0) if rng.random() < 0.7]
    else:  # signals at a zebra crossing
        corners = [rng.uniform(10.0, 30.0)] if rng.random() < 0.2 else []
    for z in corners:
        scene.add(z, traffic_light(rng, kerb, z, side))


def _avenue(rng: random.Random, scene: Scene, street: Street, p: Proportions, x: float) -> None:
    """Row of trees of about the same age."""
    z, step, tall = rng.uniform(5.0, 14.0), rng.uniform(8.0, 14.0), rng.uniform(*p.tree)
    while z < 110:
        if street.free(z - 3, z + 3) and rng.random() < 0.85:
            grown = tall * rng.uniform(0.8, 1.15)
            scene.add(z, tree(rng, x, z, grown, p.bare))
            _tree_shadow(rng, scene, street, x, z, grown)
        z += step


def _lamps(rng: random.Random, scene: Scene, street: Street, x: float, side: int) -> None:
    z, spacing = rng.uniform(6.0, 20.0), rng.uniform(18.0, 30.0)
    tip = x - street.sun * 5.0
    while z < 100:
        if street.free(z, z):
            scene.add(z, lamp_post(rng, x, z, side))
            scene.shadows.append([(x, 0, z), (x, 0, z + 0.2), (tip, 0, z + 1.2), (tip, 0, z + 1.0)])
        z += spacing


def _barriers(rng: random.Random, scene: Scene, street: Street, p: Proportions, x: float) -> None:
    """Bollards or railings between sidewalk and road, on some streets."""
    kind, start = rng.random(), rng.uniform(4.0, 28.0)
    if kind < 0.25:
        for z in (start + 2.2 * k for k in range(rng.randint(3, 7))):
            if street.free(z, z):
                scene.add(z, bollard(x, z))
    elif kind < 0.25 + p.railings and street.free(start, start + 10):
        for k in range(rng.randint(3, 5)):  # in panels, for what stands before or behind each
            scene.add(start + 2 * k, fence(rng, x, start + 2 * k, start + 2 * k + 2))


def _tree_shadow(rng: random.Random, scene: Scene, street: Street, x: float, z: float, tall: float) -> None:
    """Patches of shade beside a tree."""
    reach = -street.sun * tall * 0.6
    for _ in range(3):
        rx, rz = tall * rng.uniform(0.15, 0.3), tall * rng.uniform(0.12, 0.25)
        dx, dz = rng.uniform(-1.2, 1.2), rng.uniform(-1.0, 1.0)
        scene.shadows.append([(x + reach + dx + rx * c, 0.0, max(z + 1 + dz + rz * s, NEAR)) for c, s in _SHADE])
