"""The style `varied`: every image draws its own palette, surfaces, weather, streets, camera and sensor.

Ranges are wider than a photograph's, so that photographs lie among what is drawn: domain randomisation (Tobin et al.,
IROS 2017) of what `game` and `camera` hold fixed.
"""

from __future__ import annotations

import colorsys
import random
from functools import cache
from typing import NamedTuple

import numpy as np

from adaptseg.data.streets.photo import STRENGTHS, TILE, Film, Range, Scan, Surfaces, masonry, value_noise
from adaptseg.data.streets.plan import Proportions
from adaptseg.data.streets.shapes import FloatArray, View
from adaptseg.data.streets.styles import CAMERA, GAME, Rgb, Style


class Tint(NamedTuple):
    """A range of colours; hue in turns (above 1 goes on at red), saturation and value in [0, 1]."""

    hue: Range
    saturation: Range
    value: Range


_ANY = Tint((0, 1), (0.1, 0.9), (0.08, 0.9))
_GREY = Tint((0, 1), (0, 0.1), (0.15, 0.9))
_DARK = Tint((0, 1), (0, 0.3), (0.04, 0.3))
_STONE = Tint((0.03, 0.15), (0.03, 0.25), (0.3, 0.85))
_BRICK = Tint((-0.03, 0.09), (0.2, 0.6), (0.2, 0.65))
_PLASTER = Tint((0, 0.17), (0, 0.35), (0.55, 0.97))
_WHITE = Tint((0.05, 0.2), (0, 0.08), (0.7, 1))
_WOOD = Tint((0.03, 0.11), (0.2, 0.6), (0.15, 0.6))
_GLASS = Tint((0.5, 0.65), (0, 0.35), (0.08, 0.7))
_GREEN = Tint((0.17, 0.4), (0.15, 0.7), (0.1, 0.7))
_OLIVE = Tint((0.12, 0.25), (0.2, 0.6), (0.15, 0.55))
_AUTUMN = Tint((0.03, 0.14), (0.3, 0.8), (0.2, 0.65))
_METAL = Tint((0.2, 0.6), (0, 0.25), (0.12, 0.8))

# Materials by the tints that their colours come from. What is left out has the colours of `camera` or of `game`.
_TINTS: dict[str, tuple[Tint, ...]] = {
    "road": (Tint((0, 1), (0, 0.09), (0.18, 0.72)),),
    "repair": (Tint((0, 1), (0, 0.09), (0.15, 0.7)),),
    "contact shadow": (Tint((0, 1), (0, 0.2), (0.04, 0.22)),),
    "paint": (_WHITE,),
    "sidewalk": (_STONE, _GREY, _GREY, Tint((0, 0.1), (0.1, 0.4), (0.4, 0.8))),
    "kerb": (_GREY, _STONE),
    "terrain": (_GREEN, _OLIVE, Tint((0.06, 0.15), (0.15, 0.5), (0.25, 0.7))),
    "wall": (_BRICK, _BRICK, _PLASTER, _STONE, _STONE, _GREY, _GLASS, _ANY),
    "trim": (_WHITE, _STONE, _GREY, _DARK),
    "roof": (_BRICK, _DARK, _GREY),
    "chimney": (_BRICK, _STONE),
    "window": (_GLASS, _DARK, _DARK, _GREY),
    "door": (_ANY, _DARK, _WOOD, _WHITE),
    "shop": (_ANY, _DARK, _GREY),
    "shop sign": (_ANY, _ANY, _WHITE, _DARK),
    "shop window": (_GLASS, _DARK, _STONE),
    "skyline": (_GREY, _STONE, _BRICK),
    "fence": (_WOOD, _METAL, _DARK, _WHITE, _BRICK),
    "fence post": (_WOOD, _METAL, _DARK, _WHITE),
    "pole": (_METAL, _METAL, _DARK, _GREY, _GREEN),
    "lamp": (_WHITE, _GREY),
    "signal head": (_DARK,),
    "leaf": (_GREEN, _GREEN, _OLIVE),
    "twig": (Tint((0.03, 0.13), (0.05, 0.4), (0.2, 0.75)),),
    "trunk": (Tint((0.03, 0.13), (0.05, 0.4), (0.1, 0.5)),),
    "car": (_GREY, _GREY, _DARK, _METAL, _ANY, _WHITE),
    "glass": (_DARK, _GLASS),
    "windscreen": (_DARK, _GLASS),
    "tyre": (Tint((0, 1), (0, 0.1), (0.03, 0.16)),),
    "rim": (_GREY, _DARK),
    "bumper": (_DARK, _GREY),
    "bus": (_ANY, _ANY, _WHITE, _METAL),
    "coat": (_ANY, _DARK, _DARK, _GREY),
    "trousers": (_DARK, _DARK, _GREY, Tint((0.55, 0.68), (0.2, 0.6), (0.15, 0.5))),
    "skin": (Tint((0.03, 0.09), (0.2, 0.6), (0.3, 0.95)),),
    "hair": (_DARK, _WOOD),
    "bag": (_ANY, _DARK),
    "helmet": (_ANY, _WHITE),
    "bicycle": (_ANY, _DARK),
}
_COLORS = {"wall": 10, "car": 9, "coat": 8, "window": 4, "leaf": 4, "trousers": 4}
"""Colours of a material in one image; 3 of the others."""


def varied_style(rng: random.Random) -> Style:
    """Draw the look of one image."""
    overcast = rng.random()  # 0: clear sky, above 0.5: no sun
    return Style(
        palette=_palette(rng),
        skies=(_sky(rng, overcast),),
        haze=rng.choice((0.0005, 0.003, 0.006, 0.012)) * rng.uniform(0.5, 1.5),
        film=_film(rng, overcast),
        proportions=_proportions(rng),
        view=View(focal=(0.95, 1.6), height=(1.1, 2.2), horizon=(0.4, 0.58), roll=0.03, yaw=0.12),
    )


def _palette(rng: random.Random) -> dict[str, tuple[Rgb, ...]]:
    vivid, autumn = rng.uniform(0.15, 1.15), rng.random() < 0.15
    palette: dict[str, tuple[Rgb, ...]] = dict(rng.choice((CAMERA, GAME)).palette)
    for material, tints in _TINTS.items():
        choices = (_AUTUMN, _OLIVE) if autumn and material == "leaf" else tints
        # A street has few kinds of a thing: its houses are of two or three materials, its trees of one or two.
        kinds = [rng.choice(choices) for _ in range(rng.randint(1, 3))]
        palette[material] = tuple(_color(rng, rng.choice(kinds), vivid) for _ in range(_COLORS.get(material, 3)))
    palette["cloud"] = tuple(_color(rng, Tint((0.55, 0.7), (0, 0.1), (0.55, 1)), 1.0) for _ in range(2))
    return palette


def _color(rng: random.Random, tint: Tint, vivid: float) -> Rgb:
    saturation = min(1.0, rng.uniform(*tint.saturation) * vivid)
    r, g, b = colorsys.hsv_to_rgb(rng.uniform(*tint.hue) % 1.0, saturation, rng.uniform(*tint.value))
    return round(255 * r), round(255 * g), round(255 * b)


def _sky(rng: random.Random, overcast: float) -> tuple[Rgb, Rgb]:
    """Colours at the zenith and at the horizon."""
    kind = rng.random()
    if overcast > 0.5:  # white to dark grey
        zenith, low = Tint((0.5, 0.7), (0, 0.12), (0.45, 1)), Tint((0.1, 0.65), (0, 0.1), (0.7, 1))
    elif kind < 0.25:  # dusk
        zenith, low = Tint((0.55, 0.72), (0.1, 0.6), (0.25, 0.8)), Tint((0.02, 0.14), (0.05, 0.5), (0.6, 1))
    else:
        zenith, low = Tint((0.54, 0.64), (0.15, 0.75), (0.55, 1)), Tint((0.5, 0.62), (0, 0.35), (0.8, 1))
    return _color(rng, zenith, 1.0), _color(rng, low, 1.0)


def _proportions(rng: random.Random) -> Proportions:
    lane, sidewalk, most = rng.uniform(2.7, 4.0), rng.uniform(1.6, 6.0), rng.choice((2, 3, 4, 5, 8))
    return Proportions(
        lane=(lane, lane + 0.3),
        sidewalk=(sidewalk, sidewalk + 1.5),
        storeys=(rng.randint(2, min(most, 3)), most),
        garden=rng.choice((0.05, 0.05, 0.3, 0.6)),
        trees=rng.choice((0.1, 0.5, 0.9)),
        parked=rng.uniform(0.2, 0.95),
        moving=rng.uniform(0.05, 0.45),
        persons=(rng.randint(0, 4), rng.randint(5, 14)),
        riders=(0, rng.randint(1, 4)),
        bus=0.25,
        parking=rng.choice((0.1, 0.5, 0.9)),
        verge=rng.choice((0.05, 0.4)),
        railings=rng.choice((0.1, 0.6)),
        bare=rng.choice((0.0, 0.0, 0.5, 1.0)),
        tree=(rng.uniform(4.0, 9.0), rng.uniform(9.0, 15.0)),
    )


def _film(rng: random.Random, overcast: float) -> Film:
    return Film(
        sun=(0.0, 0.12) if overcast > 0.5 else (0.2, 0.75),
        slope=0.3,
        vignette=(0.0, 0.45),
        dusk=0.15,
        dim=(0.55, 0.85),
        exposure=(0.9, 1.45),
        warmth=(-0.12, 0.12),
        green=0.04,
        blur=(0.0008, 0.0065),
        gamma=(0.75, 1.35),
        noise=(0.0, 0.03),
        surfaces=_surfaces(rng),
        scan=Scan(
            saturation=rng.uniform(0.4, 1.3),
            veil=max(0.0, rng.uniform(-0.15, 0.25)),
            sharpening=max(0.0, rng.uniform(-0.8, 0.8)),
            jpeg=rng.randint(25, 90) if rng.random() < 0.4 else None,
        ),
    )


def _surfaces(rng: random.Random) -> Surfaces:
    factors = [rng.uniform(0.2, most) for most in (2.0, 2.0, 1.3, 1.5)]
    strengths = STRENGTHS * np.array(factors, np.float32)[:, None]
    return Surfaces(
        ground=rng.choice(_grounds()),
        wall=rng.choice(_walls()),
        fine=rng.uniform(0.6, 1.8),
        shift=rng.uniform(0.0, 8 * TILE),
        strengths=strengths.astype(np.float32, copy=False),
        tint=rng.uniform(0.0, 0.04),
        sky=rng.choice((1.0, rng.uniform(1.0, 2.0))),
    )


@cache
def _grounds() -> list[FloatArray]:
    """Textures of what lies: even, grained, stained, tarred in stripes, and paved; mirrored, so without a seam."""
    rng = np.random.default_rng(3)
    cells = ((64, 256), (8, 32, 128, 256), (3, 9), (5, 40, 256), (16, 64))
    grounds = [value_noise(rng, TILE, TILE, each) for each in cells]
    tracks = np.sin(np.arange(TILE, dtype=np.float32) * np.float32(2 * np.pi * 3 / TILE))[None]
    grounds.append((grounds[1] * 0.7 + 0.5 * tracks).astype(np.float32, copy=False))
    grounds.append(masonry(rng, 32, 32) * np.float32(0.7))
    return [np.block([[tile, tile[:, ::-1]], [tile[::-1], tile[::-1, ::-1]]]) for tile in grounds]


@cache
def _walls() -> list[FloatArray]:
    """Rows of eight fronts along a street, each of another material, (TILE, 8 * TILE)."""
    rng = np.random.default_rng(4)
    return [np.hstack([_front(rng) for _ in range(8)]) for _ in range(6)]


def _front(rng: np.random.Generator) -> FloatArray:
    """Stones or bricks, plaster, boards or panels, (TILE, TILE)."""
    kind = rng.integers(5)
    if kind < 2:
        course, stone = ((8, 16), (8, 32), (16, 32), (32, 64))[rng.integers(4)]
        return masonry(rng, course, stone)
    front = value_noise(rng, TILE, TILE, ((3, 8), (4, 16, 64), (32, 128))[rng.integers(3)])
    if kind > 2:
        period = int(rng.choice((8, 16, 32, 64)))
        line = (np.arange(TILE) % period < max(1, period // 8)) * np.float32(-0.8)
        front += line[:, None] if kind == 3 else line[None]
    return front
