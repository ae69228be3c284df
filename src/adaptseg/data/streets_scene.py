"""Arrangement of the street worlds: one street seen from a car, the same kind of scene for every style.

The styles share the structure and differ in the `Proportions` of what fills it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from adaptseg.data.streets_furniture import (
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
from adaptseg.data.streets_shapes import NEAR, Camera, Label, Patch, Point, Scene, facing, flat
from adaptseg.data.streets_traffic import bus, car, crossing_car, person, rider

END = 130.0
"""Depth in metres at which the street ends."""
_STATIONS = (NEAR, 2.5, 4.0, 5.5, 7.0, 9.0, 12.0, 16.0, 21.0, 28.0, 38.0, 52.0, 72.0, 98.0, END, 240.0)


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


def arrange(rng: random.Random, proportions: Proportions) -> Scene:
    """Draw a scene."""
    curvature = rng.choice((0.0, 0.0, 1.0, -1.0)) * rng.uniform(0.001, 0.005)
    camera = Camera(
        focal=rng.uniform(1.1, 1.3),
        height=rng.uniform(1.3, 1.6),
        horizon=rng.uniform(0.44, 0.52),
        roll=rng.uniform(-0.012, 0.012),
        curvature=curvature,
        yaw=rng.gauss(0.0, 0.07),
        keep=rng.choice((-1, 1)),
    )
    street = _cross_section(rng, proportions)
    scene = Scene(camera, walls=street.front)
    _distance(rng, scene)
    _ground(rng, scene, street)
    for side in (-1, 1):
        _lots(rng, scene, street, proportions, side)
        _sidewalk_furniture(rng, scene, street, proportions, side)
    _traffic(rng, scene, street, proportions)
    _people(rng, scene, street, proportions)
    return scene


def _cross_section(rng: random.Random, p: Proportions) -> Street:
    lane = rng.uniform(*p.lane)
    oncoming = rng.choice((1, 1, 1, 2))
    parking = (rng.random() < 0.5, rng.random() < 0.5)
    right = lane / 2 + 2.1 * parking[1]
    left = -lane * (oncoming + 0.5) - 2.1 * parking[0]
    verge = tuple(rng.uniform(1.0, 2.2) if rng.random() < 0.3 else 0.0 for _ in range(2))
    left_front = left - verge[0] - rng.uniform(*p.sidewalk)
    right_front = right + verge[1] + rng.uniform(*p.sidewalk)
    crossing = None
    if rng.random() < 0.5:
        start = rng.uniform(11.0, 42.0)
        crossing = (start, start + rng.uniform(7.0, 11.0))
    sun = rng.choice((-1, 1))
    return Street(lane, oncoming, parking, (left, right), (verge[0], verge[1]), (left_front, right_front), crossing, sun)


def _strip(x0: float, x1: float, z0: float = NEAR, z1: float = 240.0) -> list[Point]:
    """Strip of ground along the street, with enough corners to follow its bend."""
    stations = [z0, *(z for z in _STATIONS if z0 < z < z1), z1]
    return [(x0, 0.0, z) for z in stations] + [(x1, 0.0, z) for z in reversed(stations)]


def _distance(rng: random.Random, scene: Scene) -> None:
    """Clouds, hills and a skyline, and the ground under everything."""
    ground, far = scene.backdrop, 240.0
    for _ in range(rng.randint(2, 5)):
        x, y = rng.uniform(-260.0, 260.0), rng.uniform(35.0, 95.0)
        for k in range(3):
            wide, tall = rng.uniform(12.0, 30.0), rng.uniform(3.5, 8.0)
            low = [(x + 18 * k + wide * c, y + tall * max(s, -0.2), far) for c, s in _CLOUD]
            ground.append(Patch(Label.SKY, "cloud", low, rng.random()))
    x = -420.0
    while x < 420:
        wide = rng.uniform(12.0, 30.0)
        tall = rng.uniform(8.0, 26.0)
        if rng.random() < 0.5:
            ground.append(Patch(Label.BUILDING, "skyline", facing(far, x, x + wide, -2.0, tall), rng.random()))
        else:
            hump: list[Point] = [(x - 4, -2, far), (x, tall * 0.5, far), (x + wide * 0.3, tall * 0.65, far)]
            hump += [(x + wide * 0.7, tall * 0.6, far), (x + wide, tall * 0.45, far), (x + wide + 4, -2, far)]
            ground.append(Patch(Label.VEGETATION, "leaf", hump, rng.random(), 0.8))
        x += wide * 0.9
    ground.append(Patch(Label.TERRAIN, "terrain", flat(-900.0, 900.0, NEAR, far), rng.random()))


_CLOUD = [(1.0, 0.0), (0.8, 0.5), (0.4, 0.9), (0.0, 1.0), (-0.4, 0.8), (-0.85, 0.45), (-1.0, 0.0), (-0.5, -0.2), (0.5, -0.2)]


def _ground(rng: random.Random, scene: Scene, street: Street) -> None:
    """Road, sidewalks, verges, kerbs and markings."""
    ground, (left, right) = scene.backdrop, street.kerb
    tone = rng.random()
    for side, edge in ((0, left), (1, right)):
        out = 2 * side - 1
        inner = edge + out * street.verge[side]
        ground.append(Patch(Label.SIDEWALK, "sidewalk", _strip(inner, street.front[side] + out * 0.8), tone))
        if street.verge[side]:
            ground.append(Patch(Label.TERRAIN, "terrain", _strip(edge, inner), tone))
        ground.append(Patch(Label.SIDEWALK, "kerb", _strip(edge, edge + out * 0.18)))
    ground.append(Patch(Label.ROAD, "road", _strip(left, right)))
    if street.crossing:
        z0, z1 = street.crossing
        for a, b in ((-400.0, left), (right, 400.0)):
            ground.append(Patch(Label.SIDEWALK, "sidewalk", flat(a, b, z0 - 2.5, z1 + 2.5), tone))
            ground.append(Patch(Label.SIDEWALK, "kerb", flat(a, b, z0 - 0.2, z1 + 0.2)))
        ground.append(Patch(Label.ROAD, "road", flat(-400.0, 400.0, z0, z1)))
    for _ in range(rng.randint(1, 4)):  # repairs and manholes
        x, z = rng.uniform(left, right - 1.5), rng.uniform(4.0, 22.0)
        ground.append(Patch(Label.ROAD, "repair", flat(x, x + rng.uniform(0.6, 1.5), z, z + rng.uniform(0.8, 5.0)), rng.random()))
    _markings(rng, ground, street)


def _markings(rng: random.Random, ground: list[Patch], street: Street) -> None:
    """Lane lines, edge lines, stop line and zebra crossing."""
    left, right = street.kerb
    lines = [-street.lane * (k + 0.5) for k in range(street.oncoming)]
    dash, gap = rng.choice(((3.0, 4.5), (2.0, 2.0), (4.0, 6.0)))
    solid, paint = rng.random() < 0.25, "yellow paint" if rng.random() < 0.15 else "paint"
    for x in lines:
        z = rng.uniform(NEAR, 4.0)
        while z < 90:
            if street.free(z, z + dash):
                ground.append(Patch(Label.ROAD, paint, _strip(x - 0.08, x + 0.08, z, z + dash)))
            z += dash if solid else dash + gap
    edges = [right - 2.15 if street.parking[1] else right - 0.3, left + 2.15 if street.parking[0] else left + 0.3]
    if rng.random() < 0.6:
        stop = street.crossing[0] - 3.5 if street.crossing else 90.0
        ground += [Patch(Label.ROAD, paint, _strip(x - 0.06, x + 0.06, NEAR, stop)) for x in edges]
    zebra = street.crossing[0] - 3.0 if street.crossing else rng.uniform(12.0, 60.0)
    if rng.random() < (0.6 if street.crossing else 0.2):
        x = left + 0.4
        while x < right - 0.5:
            ground.append(Patch(Label.ROAD, "paint", flat(x, x + 0.5, zebra, zebra + 2.4)))
            x += 1.0
    if street.crossing:
        ground.append(Patch(Label.ROAD, "paint", flat(lines[0], right, zebra - 1.2, zebra - 0.8)))


def _lots(rng: random.Random, scene: Scene, street: Street, p: Proportions, side: int) -> None:
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
                _garden(rng, scene, front, side, z, end)
            else:
                storeys = max(p.storeys[0], min(p.storeys[1], storeys + rng.choice((-1, 0, 0, 1))))
                sunny = side != street.sun
                x = front + side * rng.choice((0.0, 0.0, 0.5))
                eaves, patches = house(rng, x, side, z, end, storeys, sunny)
                scene.add(end, patches)
                if not sunny:
                    reach = -side * eaves * 0.75
                    near, far = max(z, NEAR), max(end, NEAR)
                    scene.shadows.append([(x, 0, near), (x, 0, far), (x + reach, 0, far + 1.5), (x + reach, 0, near + 1.5)])
        z = end if rng.random() < 0.8 else end + rng.uniform(1.0, 4.0)


def _garden(rng: random.Random, scene: Scene, front: float, side: int, z0: float, z1: float) -> None:
    """Lot without a house at the street: grass, a fence or a hedge, trees, perhaps a house set back."""
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
            scene.add(inside + 0.01 * (z - start), tree(rng, x, z, rng.uniform(4.0, 9.0)))
    for _ in range(rng.randint(0, 2)):
        z = rng.uniform(start + 1.0, z1)
        if z > 4:
            scene.add(inside + 0.01 * (z - start), bush(rng, front + side * rng.uniform(1.2, 3.0), z))


def _sidewalk_furniture(rng: random.Random, scene: Scene, street: Street, p: Proportions, side: int) -> None:
    """Trees, lamps, signs, bollards and signals at the kerb of one side."""
    kerb = street.kerb[side > 0] + side * 0.55
    if rng.random() < p.trees:
        z, step, tall = rng.uniform(5.0, 14.0), rng.uniform(8.0, 14.0), rng.uniform(5.5, 10.0)
        while z < 110:
            if street.free(z - 3, z + 3) and rng.random() < 0.85:
                x, grown = kerb + side * 0.4, tall * rng.uniform(0.8, 1.15)
                scene.add(z, tree(rng, x, z, grown))
                _tree_shadow(rng, scene, street, x, z, grown)
            z += step
    z = rng.uniform(6.0, 20.0)
    spacing = rng.uniform(18.0, 30.0)
    while z < 100:
        if street.free(z, z):
            scene.add(z, lamp_post(rng, kerb, z, side))
            reach = -street.sun * 5.0
            scene.shadows.append([(kerb, 0, z), (kerb, 0, z + 0.2), (kerb + reach, 0, z + 1.2), (kerb + reach, 0, z + 1.0)])
        z += spacing
    for _ in range(rng.randint(1, 4)):
        z = rng.uniform(6.5, 40.0)
        if street.free(z, z):
            scene.add(z, traffic_sign(rng, kerb, z))
    if rng.random() < 0.25:
        start = rng.uniform(4.0, 25.0)
        for k in range(rng.randint(3, 7)):
            scene.add(start + 2.2 * k, bollard(kerb - side * 0.2, start + 2.2 * k))
    elif rng.random() < 0.2:
        start = rng.uniform(4.0, 30.0)
        if street.free(start, start + 10):
            for k in range(rng.randint(3, 5)):  # in panels, for what stands before or behind each
                scene.add(start + 2 * k, fence(rng, kerb - side * 0.2, start + 2 * k, start + 2 * k + 2))
    if street.crossing:
        for z in (street.crossing[0] - 1.2, street.crossing[1] + 1.0):
            if rng.random() < 0.7:
                scene.add(z, traffic_light(rng, kerb, z, side))
    elif rng.random() < 0.2:
        z = rng.uniform(10.0, 30.0)
        scene.add(z, traffic_light(rng, kerb, z, side))


def _tree_shadow(rng: random.Random, scene: Scene, street: Street, x: float, z: float, tall: float) -> None:
    reach = -street.sun * tall * 0.6
    for _ in range(3):
        rx, rz = tall * rng.uniform(0.15, 0.3), tall * rng.uniform(0.12, 0.25)
        dx, dz = rng.uniform(-1.2, 1.2), rng.uniform(-1.0, 1.0)
        scene.shadows.append([(x + reach + dx + rx * c, 0.0, max(z + 1 + dz + rz * s, NEAR)) for c, s in _CLOUD])


def _car_shadow(scene: Scene, street: Street, x: float, z: float, length: float, tall: float) -> None:
    edge = x - street.sun * 0.85
    tip = edge - street.sun * tall * 0.8
    scene.shadows.append([(edge, 0, z), (edge, 0, z + length), (tip, 0, z + length + 0.6), (tip, 0, z + 0.6)])


def _traffic(rng: random.Random, scene: Scene, street: Street, p: Proportions) -> None:
    """Parked and moving cars, and a bus now and then."""
    for side, (parking, kerb) in enumerate(zip(street.parking, street.kerb, strict=True)):
        x = kerb + (1.1 if side == 0 else -1.1)
        z = rng.uniform(0.0, 5.0)
        while parking and z < 85:
            if street.free(z - 2, z + 7) and rng.random() < p.parked:
                scene.add(z, car(rng, x, z, side == 0))
                _car_shadow(scene, street, x, z, 4.3, 1.4)
            z += rng.uniform(5.6, 6.4)
    lanes = [(0.0, False)] + [(-street.lane * (k + 1), True) for k in range(street.oncoming)]
    with_bus = rng.choice(lanes) if rng.random() < p.bus else None
    for x, oncoming in lanes:
        z = rng.uniform(6.0, 26.0) if oncoming else rng.uniform(8.0, 30.0)
        if with_bus == (x, oncoming):
            z += rng.uniform(1.0, 10.0)
            scene.add(z, bus(rng, x, z, oncoming))
            _car_shadow(scene, street, x, z, 11.5, 3.2)
            z += 17.0
        while z < 100:
            if rng.random() < p.moving:
                shift = rng.uniform(-0.25, 0.25)
                scene.add(z, car(rng, x + shift, z, oncoming))
                _car_shadow(scene, street, x + shift, z, 4.3, 1.4)
            z += rng.uniform(9.0, 16.0)
    if street.crossing:
        for _ in range(rng.randint(0, 2)):
            z = rng.uniform(street.crossing[0] + 1.0, street.crossing[1] - 2.0)
            x = rng.choice((-1, 1)) * rng.uniform(4.0, 22.0)
            scene.add(z, crossing_car(rng, x, z))


def _people(rng: random.Random, scene: Scene, street: Street, p: Proportions) -> None:
    """Persons on the sidewalks and crossing, riders on the road."""
    for _ in range(rng.randint(*p.persons)):
        side = rng.choice((0, 1))
        inner = street.kerb[side] + (2 * side - 1) * (street.verge[side] + 0.8)
        x, z = rng.uniform(inner, street.front[side] - (2 * side - 1) * 0.4), 6.0 + 44.0 * rng.random() ** 1.6
        for k in range(rng.choice((1, 1, 2))):
            scene.add(z + 0.3 * k, person(rng, x + 0.6 * k, z + 0.3 * k))
            tip = x - street.sun * 1.4
            scene.shadows.append([(x - 0.15, 0, z), (x + 0.15, 0, z), (tip + 0.15, 0, z + 0.4), (tip - 0.15, 0, z + 0.4)])
    if street.crossing and rng.random() < 0.5:
        z = street.crossing[0] - 1.8
        scene.add(z, person(rng, rng.uniform(*street.kerb), z))
    for _ in range(rng.randint(*p.riders)):
        right = rng.random() < 0.6
        x = street.lane / 2 - rng.uniform(0.3, 0.8) if right else -street.lane * (street.oncoming + 0.5) + 0.6
        z = 7.0 + 25.0 * rng.random() ** 1.5
        scene.add(z, rider(rng, x, z))
