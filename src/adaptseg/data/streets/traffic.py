"""Road users of the street worlds: cars, buses, persons, and riders on bicycles."""

from __future__ import annotations

import random

from adaptseg.data.streets.shapes import Label, Patch, Point, along, disc, disc_along, facing, flat, limb, ring

# (length, width, height, height of the bonnet, from the tail to the rear window's foot and head,
#  from the nose to the windscreen's head and foot), in metres.
CAR_BODIES = (
    (3.9, 1.70, 1.48, 0.90, 0.05, 0.45, 1.75, 0.95),  # hatchback
    (4.5, 1.78, 1.42, 0.88, 0.75, 1.35, 2.05, 1.15),  # saloon
    (4.6, 1.88, 1.72, 1.02, 0.05, 0.35, 1.70, 1.05),  # off-roader
    (4.9, 1.92, 2.05, 1.10, 0.02, 0.10, 1.20, 0.55),  # van
)
FAR_CAR = 40.0
"""Depth in metres beyond which a car's details are below a pixel."""


def car(rng: random.Random, x: float, z: float, oncoming: bool) -> list[Patch]:
    """Car along the street whose near end is at depth `z`, seen from behind or, if `oncoming`, from the front."""
    length, width, top, deck, foot, head, nose_head, nose_foot = rng.choice(CAR_BODIES)
    near_foot, near_head, far_head, far_foot = foot, head, nose_head, nose_foot
    if oncoming:
        near_foot, near_head, far_head, far_foot = nose_foot, nose_head, head, foot
    tone, half, end = rng.random(), width / 2, z + length
    side = x - half if x > 0 else x + half
    inset = 0.16 if x > 0 else -0.16
    cab0, cab1 = z + near_foot, end - far_foot
    roof0, roof1 = z + near_head, end - far_head
    body: list[Patch] = [
        Patch(Label.ROAD, "contact shadow", flat(x - half - 0.12, x + half + 0.12, z - 0.15, end)),
        Patch(Label.CAR, "tyre", facing(z + 0.3, x - half + 0.06, x + half - 0.06, 0.0, 0.5)),
        Patch(Label.CAR, "car", flat(x - half, x + half, z, end, deck), tone, 1.12),
    ]
    body.append(Patch(Label.CAR, "car", along(side, z, end, 0.22, deck), tone, 0.8))
    for wheel in (z + 0.75, end - 0.8):
        if abs(x) > 1.2 and z < FAR_CAR:
            body.append(Patch(Label.CAR, "tyre", disc_along(side, 0.33, wheel, 0.34)))
            body.append(Patch(Label.CAR, "rim", disc_along(side, 0.33, wheel, 0.19)))
    cabin: list[Point] = [
        (side, deck, cab0), (side, deck, cab1), (side + inset, top, roof1), (side + inset, top, roof0),
    ]  # fmt: skip
    body.append(Patch(Label.CAR, "car", flat(x - half + 0.16, x + half - 0.16, roof0, roof1, top), tone, 1.15))
    body.append(Patch(Label.CAR, "car", cabin, tone, 0.85))
    if z < FAR_CAR:
        low, high = deck + 0.05, top - 0.1
        glass: list[Point] = [
            (side, low, cab0 + 0.2), (side, low, cab1 - 0.25),
            (side + inset, high, roof1 - 0.1), (side + inset, high, roof0 + 0.15),
        ]  # fmt: skip
        body.append(Patch(Label.CAR, "glass", glass, 0.0, 0.85))
        middle = (cab0 + cab1) / 2
        body.append(Patch(Label.CAR, "car", along(side + inset / 2, middle, middle + 0.12, low, high), tone, 0.8))
    return body + _car_end(x, z, half, deck, top, (cab0, roof0), tone, oncoming)


def _car_end(
    x: float, z: float, half: float, deck: float, top: float, cabin: tuple[float, float], tone: float, oncoming: bool
) -> list[Patch]:
    """Near end of a car: bumper, lamps, plate, and the window above them."""
    foot, head = cabin
    low, high = half, half - 0.16
    screen: list[Point] = [(x - low, deck, foot), (x + low, deck, foot), (x + high, top, head), (x - high, top, head)]
    end = facing(z, x - half, x + half, 0.28, deck)
    patches = [Patch(Label.CAR, "car", screen, tone, 0.95), Patch(Label.CAR, "car", end, tone, 0.95)]
    if z > 2.2 * FAR_CAR:
        return patches
    pane: list[Point] = [
        (x - low + 0.13, deck + 0.06, foot), (x + low - 0.13, deck + 0.06, foot),
        (x + high - 0.06, top - 0.12, head), (x - high + 0.06, top - 0.12, head),
    ]  # fmt: skip
    patches.append(Patch(Label.CAR, "windscreen" if oncoming else "glass", pane))
    lamp = "headlamp" if oncoming else "tail lamp"
    for sign in (-1, 1):
        inner, outer = x + sign * (half - 0.36), x + sign * (half - 0.04)
        patches.append(Patch(Label.CAR, lamp, facing(z, inner, outer, deck - 0.28, deck - 0.1)))
    patches.append(Patch(Label.CAR, "bumper", facing(z, x - half, x + half, 0.28, 0.46)))
    patches.append(Patch(Label.CAR, "plate", facing(z, x - 0.26, x + 0.26, 0.46, 0.58)))
    return patches


def crossing_car(rng: random.Random, x: float, z: float) -> list[Patch]:
    """Car seen from the side, on a crossing street at depth `z`, with its tail at `x`."""
    length, _, top, deck, foot, head, nose_head, nose_foot = rng.choice(CAR_BODIES)
    heading, tone = rng.choice((-1.0, 1.0)), rng.random()

    def at(forward: float, y: float) -> Point:
        return (x + heading * forward, y, z)

    outline = [
        at(0, 0.28), at(length, 0.28), at(length, deck - 0.2), at(length - nose_foot, deck),
        at(length - nose_head, top), at(head, top), at(foot, deck), at(0, deck - 0.05),
    ]  # fmt: skip
    pane = [
        at(foot + 0.3, deck + 0.03), at(length - nose_foot - 0.25, deck + 0.03),
        at(length - nose_head - 0.1, top - 0.12), at(head + 0.15, top - 0.12),
    ]  # fmt: skip
    middle = (foot + length - nose_foot) / 2
    post = [at(middle, deck), at(middle + 0.12, deck), at(middle + 0.12, top), at(middle, top)]
    patches = [
        Patch(
            Label.ROAD,
            "contact shadow",
            flat(min(x, x + heading * length), max(x, x + heading * length), z - 0.3, z + 1.7),
        ),
        Patch(Label.CAR, "car", outline, tone),
        Patch(Label.CAR, "glass", pane),
        Patch(Label.CAR, "car", post, tone),
        Patch(Label.CAR, "tail lamp", [at(0, 0.6), at(0.2, 0.6), at(0.2, 0.8), at(0, 0.8)]),
    ]
    for wheel in (0.8, length - 0.85):
        patches.append(Patch(Label.CAR, "tyre", disc(at(wheel, 0)[0], 0.34, z, 0.35, 0.35)))
        patches.append(Patch(Label.CAR, "rim", disc(at(wheel, 0)[0], 0.34, z, 0.19, 0.19)))
    return patches


def bus(rng: random.Random, x: float, z: float, oncoming: bool) -> list[Patch]:
    """Bus along the street whose near end is at depth `z`; one in four has two decks."""
    tone, half, end = rng.random(), 1.27, z + 11.5
    top = 4.3 if rng.random() < 0.25 else 3.1
    side = x - half if x > 0 else x + half
    patches = [
        Patch(Label.ROAD, "contact shadow", flat(x - half - 0.15, x + half + 0.15, z - 0.2, end)),
        Patch(Label.BUS, "bus", along(side, z, end, 0.3, top), tone, 0.8),
        Patch(Label.BUS, "bus trim", along(side, z, end, 0.3, 0.75), tone, 0.85),
        Patch(Label.BUS, "bus", facing(z, x - half, x + half, 0.3, top), tone),
        Patch(Label.BUS, "bus trim", facing(z, x - half, x + half, 0.3, 0.8), tone),
        Patch(Label.BUS, "tyre", facing(z, x - half + 0.1, x - half + 0.4, 0.0, 0.32)),
        Patch(Label.BUS, "tyre", facing(z, x + half - 0.4, x + half - 0.1, 0.0, 0.32)),
    ]
    rows = [(1.4, 2.45)] + ([(2.95, 3.85)] if top > 4 else [])
    for low, high in rows:
        for k in range(6):
            start = z + 0.5 + 1.82 * k
            patches.append(Patch(Label.BUS, "glass", along(side, start, start + 1.55, low, high), 0.0, 0.85))
        patches.append(Patch(Label.BUS, "windscreen", facing(z, x - half + 0.15, x + half - 0.15, low, high)))
    for wheel in (z + 2.6, end - 2.6):
        patches.append(Patch(Label.BUS, "tyre", disc_along(side, 0.48, wheel, 0.5)))
        patches.append(Patch(Label.BUS, "rim", disc_along(side, 0.48, wheel, 0.25)))
    patches.append(Patch(Label.BUS, "bus sign", facing(z, x - 0.7, x + 0.7, top - 0.45, top - 0.15)))
    for sign in (-1, 1):
        lamp = facing(z, x + sign * (half - 0.4), x + sign * (half - 0.08), 0.85, 1.1)
        patches.append(Patch(Label.BUS, "headlamp" if oncoming else "tail lamp", lamp))
    return patches


def person(rng: random.Random, x: float, z: float) -> list[Patch]:
    """Person who stands, walks past, or walks along; 1.25 m (a child) to 1.9 m tall."""
    tall = rng.uniform(1.58, 1.9) if rng.random() > 0.12 else rng.uniform(1.1, 1.35)
    s = tall / 1.75
    stride = rng.choice((0.0, 0.1, 0.22, 0.34)) * s
    lean = rng.uniform(-0.03, 0.03)
    hip, shoulder = 0.86 * s, 1.46 * s
    coat, trousers, skin = rng.random(), rng.random(), rng.random()
    wide = (0.17 if stride > 0.2 else 0.22) * s
    label = Label.PERSON
    torso: list[Point] = [
        (x - wide * 0.85, hip - 0.1 * s, z), (x + wide * 0.85, hip - 0.1 * s, z),
        (x + lean + wide, shoulder - 0.06, z), (x + lean + 0.1 * s, shoulder + 0.02, z),
        (x + lean - 0.1 * s, shoulder + 0.02, z), (x + lean - wide, shoulder - 0.06, z),
    ]  # fmt: skip
    reach = stride * 0.9 + 0.08
    patches = [
        Patch(label, "trousers", limb(x - 0.08 * s, hip, x - 0.09 * s - stride, 0.02, z, 0.15 * s), trousers, 0.9),
        Patch(label, "trousers", limb(x + 0.08 * s, hip, x + 0.09 * s + stride, 0.02, z, 0.15 * s), trousers),
        Patch(label, "coat", limb(x - wide, shoulder - 0.08, x - wide - reach, 0.85 * s, z, 0.11 * s), coat, 0.85),
        Patch(label, "coat", limb(x + wide, shoulder - 0.08, x + wide + reach, 0.85 * s, z, 0.11 * s), coat, 0.85),
        Patch(label, "coat", torso, coat),
        Patch(label, "skin", disc(x + lean, shoulder + 0.16 * s, z, 0.1 * s, 0.13 * s), skin),
        Patch(label, "hair", disc(x + lean, shoulder + 0.22 * s, z, 0.11 * s, 0.09 * s), coat),
    ]
    if rng.random() < 0.3:
        patches.append(Patch(label, "bag", facing(z, x + wide, x + wide + 0.22 * s, 0.5 * s, 0.85 * s), skin))
    return patches


def rider(rng: random.Random, x: float, z: float) -> list[Patch]:
    """Cyclist together with the bicycle, seen from the side or from behind."""
    coat, trousers, tone = rng.random(), rng.random(), rng.random()
    label = Label.RIDER
    if rng.random() < 0.5:
        return [
            Patch(label, "tyre", disc(x, 0.36, z, 0.05, 0.36)),
            Patch(label, "bicycle", limb(x - 0.3, 0.98, x + 0.3, 0.98, z, 0.05), tone),
            Patch(label, "trousers", limb(x - 0.1, 0.95, x - 0.15, 0.3, z, 0.15), trousers, 0.9),
            Patch(label, "trousers", limb(x + 0.1, 0.95, x + 0.14, 0.5, z, 0.15), trousers),
            Patch(label, "coat", limb(x - 0.2, 1.4, x - 0.3, 1.0, z, 0.1), coat, 0.85),
            Patch(label, "coat", limb(x + 0.2, 1.4, x + 0.3, 1.0, z, 0.1), coat, 0.85),
            Patch(
                label,
                "coat",
                [(x - 0.16, 0.85, z), (x + 0.16, 0.85, z), (x + 0.23, 1.42, z), (x - 0.23, 1.42, z)],
                coat,
            ),
            Patch(label, "skin", disc(x, 1.58, z, 0.1, 0.13), tone),
            Patch(label, "helmet", disc(x, 1.65, z, 0.13, 0.1), tone),
        ]
    h = rng.choice((-1.0, 1.0))  # heading
    return [
        Patch(label, "tyre", ring(x - h * 0.52, 0.35, z, 0.36, 0.27)),
        Patch(label, "tyre", ring(x + h * 0.52, 0.35, z, 0.36, 0.27)),
        Patch(label, "bicycle", limb(x - h * 0.52, 0.35, x - h * 0.15, 0.85, z, 0.06), tone),
        Patch(label, "bicycle", limb(x - h * 0.15, 0.85, x + h * 0.4, 0.85, z, 0.06), tone),
        Patch(label, "bicycle", limb(x, 0.32, x + h * 0.4, 0.85, z, 0.06), tone),
        Patch(label, "bicycle", limb(x + h * 0.36, 1.02, x + h * 0.52, 0.35, z, 0.06), tone),
        Patch(label, "trousers", limb(x - h * 0.12, 0.95, x + h * 0.22, 0.7, z, 0.16), trousers),
        Patch(label, "trousers", limb(x + h * 0.22, 0.72, x + h * 0.06, 0.25, z, 0.13), trousers),
        Patch(label, "coat", limb(x - h * 0.14, 0.92, x + h * 0.14, 1.42, z, 0.34), coat),
        Patch(label, "coat", limb(x + h * 0.16, 1.38, x + h * 0.4, 1.02, z, 0.1), coat, 0.85),
        Patch(label, "skin", disc(x + h * 0.2, 1.56, z, 0.11, 0.13), tone),
        Patch(label, "helmet", disc(x + h * 0.19, 1.64, z, 0.14, 0.1), tone),
    ]
