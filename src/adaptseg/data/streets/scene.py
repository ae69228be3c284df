"""Arrangement of the street worlds: one street seen from a car, the same kind of scene for every style.

The styles share the structure and differ in the `Proportions` of what fills it.
"""

from __future__ import annotations

import random

from adaptseg.data.streets.plan import END, Proportions, Street, cross_section
from adaptseg.data.streets.roadside import lots, roadside
from adaptseg.data.streets.shapes import NEAR, Camera, Label, Patch, Point, Scene, View, facing, flat
from adaptseg.data.streets.traffic import bus, car, crossing_car, person, rider

_STATIONS = (NEAR, 2.5, 4.0, 5.5, 7.0, 9.0, 12.0, 16.0, 21.0, 28.0, 38.0, 52.0, 72.0, 98.0, END, 240.0)
_CLOUD = [
    (1.0, 0.0),
    (0.8, 0.5),
    (0.4, 0.9),
    (0.0, 1.0),
    (-0.4, 0.8),
    (-0.85, 0.45),
    (-1.0, 0.0),
    (-0.5, -0.2),
    (0.5, -0.2),
]


def arrange(rng: random.Random, proportions: Proportions, view: View) -> Scene:
    """Draw a scene."""
    curvature = rng.choice((0.0, 0.0, 1.0, -1.0)) * rng.uniform(0.001, 0.005)
    camera = Camera(
        focal=rng.uniform(*view.focal),
        height=rng.uniform(*view.height),
        horizon=rng.uniform(*view.horizon),
        roll=rng.uniform(-view.roll, view.roll),
        curvature=curvature,
        yaw=rng.gauss(0.0, view.yaw),
        keep=rng.choice((-1, 1)),
    )
    street = cross_section(rng, proportions)
    scene = Scene(camera, walls=street.front, weather=rng.random())
    _distance(rng, scene)
    _ground(rng, scene, street)
    for side in (-1, 1):
        lots(rng, scene, street, proportions, side)
        roadside(rng, scene, street, proportions, side)
    _traffic(rng, scene, street, proportions)
    _people(rng, scene, street, proportions)
    return scene


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


def _ground(rng: random.Random, scene: Scene, street: Street) -> None:
    """Road, sidewalks, verges, kerbs and markings."""
    ground, (left, right) = scene.backdrop, street.kerb
    tone, asphalt = rng.random(), rng.random()
    for side, edge in ((0, left), (1, right)):
        out = 2 * side - 1
        inner = edge + out * street.verge[side]
        ground.append(Patch(Label.SIDEWALK, "sidewalk", _strip(inner, street.front[side] + out * 0.8), tone))
        if street.verge[side]:
            ground.append(Patch(Label.TERRAIN, "terrain", _strip(edge, inner), tone))
        ground.append(Patch(Label.SIDEWALK, "kerb", _strip(edge, edge + out * 0.18)))
    ground.append(Patch(Label.ROAD, "road", _strip(left, right), asphalt))
    if street.crossing:
        z0, z1 = street.crossing
        for a, b in ((-400.0, left), (right, 400.0)):
            ground.append(Patch(Label.SIDEWALK, "sidewalk", flat(a, b, z0 - 2.5, z1 + 2.5), tone))
            ground.append(Patch(Label.SIDEWALK, "kerb", flat(a, b, z0 - 0.2, z1 + 0.2)))
        ground.append(Patch(Label.ROAD, "road", flat(-400.0, 400.0, z0, z1), asphalt))
    for _ in range(rng.randint(1, 4)):  # repairs and manholes
        x, z = rng.uniform(left, right - 1.5), rng.uniform(4.0, 22.0)
        ground.append(
            Patch(Label.ROAD, "repair", flat(x, x + rng.uniform(0.6, 1.5), z, z + rng.uniform(0.8, 5.0)), rng.random())
        )
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
            scene.shadows.append(
                [(x - 0.15, 0, z), (x + 0.15, 0, z), (tip + 0.15, 0, z + 0.4), (tip - 0.15, 0, z + 0.4)]
            )
    if street.crossing and rng.random() < 0.5:
        z = street.crossing[0] - 1.8
        scene.add(z, person(rng, rng.uniform(*street.kerb), z))
    for _ in range(rng.randint(*p.riders)):
        right = rng.random() < 0.6
        x = street.lane / 2 - rng.uniform(0.3, 0.8) if right else -street.lane * (street.oncoming + 0.5) + 0.6
        z = 7.0 + 25.0 * rng.random() ** 1.5
        scene.add(z, rider(rng, x, z))
