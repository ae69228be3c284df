"""What stands beside the road in the street worlds: houses, fences, trees, posts, signs and lights."""

from __future__ import annotations

import math
import random

from adaptseg.data.streets.shapes import (
    NEAR,
    Label,
    Patch,
    Point,
    along,
    circle,
    disc,
    facing,
    flat,
    limb,
)

FLOOR = 3.0
"""Height of a storey in metres."""
FAR_FACADE = 55.0
"""Depth in metres beyond which the windows of a storey merge into a band."""
_CROWN = circle(22)
_LEAVES = circle(9)


def house(
    rng: random.Random, x: float, side: int, z0: float, z1: float, storeys: int, sunny: bool
) -> tuple[float, list[Patch]]:
    """House whose front stands at `x`, from depth `z0` to `z1`, on the left (-1) or right (+1).

    Returns its height to the eaves in metres and its patches.
    """
    tone, light = rng.random(), 1.0 if sunny else 0.8
    ground = rng.uniform(3.2, 4.2)
    eaves = ground + FLOOR * (storeys - 1) + 0.5
    deep = x + side * rng.uniform(8.0, 13.0)
    label, start = Label.BUILDING, max(z0, NEAR)
    patches: list[Patch] = []
    roof = rng.random()
    if rng.random() < 0.55:
        rise, ridge = rng.uniform(2.0, 3.6), (x + deep) / 2
        slope: list[Point] = [
            (x, eaves, start),
            (x, eaves, z1),
            (ridge, eaves + rise, z1),
            (ridge, eaves + rise, start),
        ]
        gable: list[Point] = [(x, eaves, start), (deep, eaves, start), (ridge, eaves + rise, start)]
        patches += [Patch(label, "roof", slope, roof, light), Patch(label, "wall", gable, tone, 0.9)]
        chimney = rng.uniform(start, z1)
        patches.append(
            Patch(
                label,
                "chimney",
                facing(chimney, ridge - 0.5, ridge + 0.5, eaves + rise - 0.6, eaves + rise + 1.1),
                roof,
            )
        )
    patches.append(Patch(label, "wall", facing(start, min(x, deep), max(x, deep), 0.0, eaves), tone, 0.9))
    patches.append(Patch(label, "wall", along(x, start, z1, 0.0, eaves), tone, light))
    patches.append(Patch(label, "trim", along(x, start, z1, eaves - 0.4, eaves), tone, light))
    patches += _side_windows(rng, start, min(x, deep), max(x, deep), ground, storeys)
    patches += _windows(rng, x, z0, z1, ground, storeys, light)
    patches += _ground_floor(rng, x, z0, z1, ground, light)
    return eaves, patches


def _windows(
    rng: random.Random, x: float, z0: float, z1: float, ground: float, storeys: int, light: float
) -> list[Patch]:
    """Windows of the upper storeys."""
    pitch, wide = rng.uniform(2.2, 3.4), rng.uniform(1.0, 1.6)
    sill, tall = rng.uniform(0.5, 0.9), rng.uniform(1.3, 1.8)
    framed = rng.random() < 0.45
    patches: list[Patch] = []
    columns = max(1, int((z1 - z0 - 0.8) / pitch))
    margin = (z1 - z0 - columns * pitch + pitch - wide) / 2
    for storey in range(storeys - 1):
        y = ground + FLOOR * storey + sill
        if z0 > FAR_FACADE:
            patches.append(Patch(Label.BUILDING, "window", along(x, z0 + 0.6, z1 - 0.6, y, y + tall), 0.2, light))
            continue
        for column in range(columns):
            z = z0 + margin + column * pitch
            if z < NEAR + 0.2:
                continue
            if framed and z < 30:
                frame = along(x, z - 0.16, z + wide + 0.16, y - 0.16, y + tall + 0.16)
                patches.append(Patch(Label.BUILDING, "trim", frame, 0.3, light))
            patches.append(Patch(Label.BUILDING, "window", along(x, z, z + wide, y, y + tall), rng.random(), light))
    return patches


def _side_windows(rng: random.Random, z: float, x0: float, x1: float, ground: float, storeys: int) -> list[Patch]:
    """Windows of the end wall, which a gap between the houses leaves in view."""
    patches: list[Patch] = []
    if z > FAR_FACADE or z <= NEAR or rng.random() < 0.3:
        return patches
    columns = int((x1 - x0 - 1.0) / 2.6)
    for storey in range(storeys):
        y = 1.1 if storey == 0 else ground + FLOOR * (storey - 1) + 0.8
        for column in range(columns):
            x = x0 + 1.0 + 2.6 * column
            patches.append(Patch(Label.BUILDING, "window", facing(z, x, x + 1.1, y, y + 1.4), rng.random(), 0.9))
    return patches


def _ground_floor(rng: random.Random, x: float, z0: float, z1: float, ground: float, light: float) -> list[Patch]:
    """Shop front with a sign above, or a door and windows."""
    label = Label.BUILDING
    patches: list[Patch] = []
    if z1 - z0 < 3:
        return patches
    if rng.random() < 0.45:
        tone = rng.random()
        patches.append(Patch(label, "shop", along(x, z0 + 0.4, z1 - 0.4, 0.0, ground - 0.2), tone, light))
        patches.append(Patch(label, "shop sign", along(x, z0 + 0.4, z1 - 0.4, ground - 0.9, ground - 0.2), tone, light))
        panes = max(2, int((z1 - z0) / 3))
        step = (z1 - z0 - 1.0) / panes
        for k in range(panes):
            start = z0 + 0.65 + k * step
            if start > NEAR:
                pane = along(x, start, start + step - 0.35, 0.5 if k else 0.05, ground - 1.05)
                patches.append(Patch(label, "shop window", pane, rng.random(), light))
        return patches
    door = rng.uniform(z0 + 0.6, z1 - 1.8)
    if door > NEAR:
        patches.append(Patch(label, "door", along(x, door, door + 1.1, 0.0, 2.3), rng.random(), light))
    z = z0 + 0.8
    while z + 1.4 < z1 and z0 < FAR_FACADE:
        if abs(z + 0.7 - door - 0.55) > 1.4 and z > NEAR:
            patches.append(Patch(label, "window", along(x, z, z + 1.3, 1.0, 2.6), rng.random(), light))
        z += 2.7
    return patches


def fence(rng: random.Random, x: float, z0: float, z1: float) -> list[Patch]:
    """Fence along the street: boards or railings."""
    tone, tall = rng.random(), rng.uniform(1.0, 1.7)
    z0 = max(z0, NEAR)
    patches = [Patch(Label.FENCE, "fence", along(x, z0, z1, 0.0, tall), tone)]
    spacing = max(0.9, (z1 - z0) / 14)
    z = z0
    while z < min(z1, 45.0):
        patches.append(Patch(Label.FENCE, "fence post", along(x, z, z + 0.18, 0.0, tall + 0.08), tone))
        z += spacing
    for y in (0.25, tall - 0.15):
        patches.append(Patch(Label.FENCE, "fence post", along(x, z0, z1, y, y + 0.1), tone))
    return patches


def hedge(rng: random.Random, x: float, side: int, z0: float, z1: float) -> list[Patch]:
    """Clipped hedge along the street."""
    tone, tall = rng.random(), rng.uniform(0.9, 2.0)
    z0, back = max(z0, NEAR), x + side * 1.0
    return [
        Patch(Label.VEGETATION, "leaf", flat(x, back, z0, z1, tall), tone, 1.1),
        Patch(Label.VEGETATION, "leaf", facing(z0, min(x, back), max(x, back), 0.0, tall), tone, 0.9),
        Patch(Label.VEGETATION, "leaf", along(x, z0, z1, 0.0, tall), tone, 0.8),
    ]


def _lump(
    rng: random.Random, x: float, y: float, z: float, rx: float, ry: float, corners: list[tuple[float, float]]
) -> list[Point]:
    """Uneven blob that faces the camera."""
    points: list[Point] = []
    for c, s in corners:
        r = 0.8 + 0.35 * rng.random()
        points.append((x + rx * r * c, y + ry * r * s, z))
    return points


def _leaves(rng: random.Random, x: float, y: float, z: float, rx: float, ry: float, tone: float) -> list[Patch]:
    """Crown in three tones: light falls from above."""
    patches = [Patch(Label.VEGETATION, "leaf", _lump(rng, x, y, z, rx, ry, _CROWN), tone, 0.66)]
    tufts = 7 if z < 40 else 3
    for k in range(tufts):
        turn = 2 * math.pi * (k + rng.random()) / tufts
        dx, dy = 0.55 * math.cos(turn), 0.5 * math.sin(turn)
        tuft = _lump(rng, x + rx * dx, y + ry * dy, z, 0.42 * rx, 0.36 * ry, _LEAVES)
        patches.append(Patch(Label.VEGETATION, "leaf", tuft, tone, 0.92 + 0.3 * dy))
    top = _lump(rng, x - 0.1 * rx, y + 0.4 * ry, z, 0.5 * rx, 0.4 * ry, _LEAVES)
    patches.append(Patch(Label.VEGETATION, "leaf", top, tone, 1.15))
    return patches


def tree(rng: random.Random, x: float, z: float, tall: float, bare: float) -> list[Patch]:
    """Tree of height `tall` in metres, without leaves at a probability of `bare`."""
    tone, fork = rng.random(), tall * rng.uniform(0.28, 0.4)
    wide = tall * rng.uniform(0.26, 0.4)
    trunk: list[Point] = [(x - 0.2, 0.0, z), (x + 0.2, 0.0, z), (x + 0.12, fork * 1.4, z), (x - 0.12, fork * 1.4, z)]
    crown_y, crown_ry = (tall + fork) / 2, (tall - fork) / 2
    if bare and rng.random() < bare:
        return [*_branches(rng, (x, fork, z), (wide, crown_ry), tone), Patch(Label.VEGETATION, "trunk", trunk, tone)]
    return [Patch(Label.VEGETATION, "trunk", trunk, tone), *_leaves(rng, x, crown_y, z, wide, crown_ry, tone)]


def _branches(rng: random.Random, fork: Point, radii: tuple[float, float], tone: float) -> list[Patch]:
    """Branches from the fork to the rim of a crown, before a veil of twigs that belongs to the tree."""
    (x, y, z), (rx, ry) = fork, radii
    patches = [Patch(Label.VEGETATION, "twig", _lump(rng, x, y + ry, z, rx, ry, _CROWN), tone)]
    count = 14 if z < 40 else 5
    for k in range(count):
        turn = math.pi * (k + rng.random()) / count
        reach = rng.uniform(0.75, 1.05)
        tip = x + reach * rx * math.cos(turn), y + ry * (0.9 + reach * math.sin(turn))
        patches.append(Patch(Label.VEGETATION, "trunk", limb(x, y, *tip, z, rng.uniform(0.05, 0.16)), tone, 0.8))
    return patches


def bush(rng: random.Random, x: float, z: float) -> list[Patch]:
    """Bush of 1 to 2 m."""
    tall = rng.uniform(0.5, 1.0)
    return _leaves(rng, x, tall * 0.9, z, tall * rng.uniform(1.0, 1.5), tall, rng.random())


def _post(x: float, z: float, top: float, width: float) -> Patch:
    return Patch(Label.POLE, "pole", facing(z, x - width / 2, x + width / 2, 0.0, top))


def lamp_post(rng: random.Random, x: float, z: float, side: int) -> list[Patch]:
    """Street lamp whose arm reaches over the road."""
    top, reach = rng.uniform(6.0, 8.5), rng.uniform(1.0, 2.0)
    tip = x - side * reach
    return [
        _post(x, z, top, 0.16),
        Patch(Label.POLE, "pole", limb(x, top - 0.05, tip, top + 0.35, z, 0.12)),
        Patch(
            Label.POLE,
            "lamp",
            facing(z, min(tip, tip - side * 0.7), max(tip, tip - side * 0.7), top + 0.25, top + 0.45),
        ),
    ]


def bollard(x: float, z: float) -> list[Patch]:
    """Knee-high post."""
    return [_post(x, z, 0.95, 0.2), Patch(Label.POLE, "bollard band", facing(z, x - 0.1, x + 0.1, 0.68, 0.82))]


def traffic_light(rng: random.Random, x: float, z: float, side: int) -> list[Patch]:
    """Signal head on a post, sometimes with a second one on an arm over the road."""
    lit = rng.choice((0, 2, 2))
    heads = [(x, 2.6)]
    patches = [_post(x, z, 3.8, 0.15)]
    if rng.random() < 0.35:
        tip = x - side * rng.uniform(2.5, 4.0)
        patches = [_post(x, z, 5.9, 0.18), Patch(Label.POLE, "pole", limb(x, 5.7, tip, 5.8, z, 0.14))]
        heads.append((tip, 4.9))
    for middle, low in heads:
        patches.append(
            Patch(Label.TRAFFIC_LIGHT, "signal head", facing(z, middle - 0.26, middle + 0.26, low, low + 1.2))
        )
        for k, material in enumerate(("red", "amber", "green")):
            lamp = disc(middle, low + 0.98 - 0.38 * k, z, 0.15, 0.15)
            patches.append(Patch(Label.TRAFFIC_LIGHT, material, lamp, 0.0, 1.0 if k == lit else 0.35))
    return patches


def traffic_sign(rng: random.Random, x: float, z: float) -> list[Patch]:
    """Round, triangular, square, or large signpost."""
    kind, label = rng.choice(("round",) * 4 + ("triangle",) * 3 + ("square",) * 2 + ("board",)), Label.TRAFFIC_SIGN
    y = rng.uniform(2.3, 2.8)
    patches = [_post(x, z, y + 0.3, 0.09)]
    if kind == "board":
        wide, tall = rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.6)
        patches.append(Patch(label, "sign white", facing(z, x - wide, x + wide, y - tall, y + tall)))
        patches.append(
            Patch(
                label,
                rng.choice(("sign blue", "sign green")),
                facing(z, x - wide + 0.08, x + wide - 0.08, y - tall + 0.08, y + tall - 0.08),
            )
        )
        patches.append(Patch(label, "sign white", facing(z, x - wide * 0.6, x + wide * 0.5, y, y + 0.16)))
        return patches
    if kind == "triangle":
        for material, r in (("sign red", 0.55), ("sign white", 0.34)):
            points: list[Point] = [(x - 0.95 * r, y - 0.5 * r, z), (x + 0.95 * r, y - 0.5 * r, z), (x, y + r, z)]
            patches.append(Patch(label, material, points))
        return patches
    if kind == "square":
        patches.append(Patch(label, "sign blue", facing(z, x - 0.4, x + 0.4, y - 0.4, y + 0.4)))
        patches.append(Patch(label, "sign white", facing(z, x - 0.15, x + 0.15, y - 0.25, y + 0.25)))
        return patches
    face = rng.choice(("sign white", "sign blue", "sign red"))
    patches.append(Patch(label, "sign blue" if face == "sign blue" else "sign red", disc(x, y, z, 0.44, 0.44)))
    patches.append(Patch(label, face, disc(x, y, z, 0.32, 0.32)))
    patches.append(Patch(label, "sign white", facing(z, x - 0.22, x + 0.22, y - 0.06, y + 0.06), 0.0, 0.9))
    return patches
