"""Layout `streets`: the embedded renderings. Nothing is read from disk."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from adaptseg.config import DomainConfig
from adaptseg.data.files import UInt8Array
from adaptseg.data.layouts.label_map import parse_label_map
from adaptseg.data.layouts.paired_files import included
from adaptseg.data.streets import worlds as streets
from adaptseg.errors import InputError


class Streets:
    """The embedded renderings: `root` names the style, `game`, `camera` or `varied`."""

    notes = ()
    value_range = None

    def __init__(self, config: DomainConfig) -> None:
        """Take style, split, count and size from the configuration."""
        style = str(config.root or "")
        if style not in streets.STYLES:
            raise InputError(f"root {style!r} of layout streets is unknown; choose one of {', '.join(streets.STYLES)}")
        self.style = style
        self.split = (config.split or ["train"])[0]
        self.size = config.size or (256, 128)
        names = [f"{style}-{self.split}-{index:05d}" for index in range(config.count or 400)]
        self.numbers = included(names, config.include)
        if not self.numbers:
            raise InputError(
                f"layout streets: none of {len(names)} images match include {config.include}; they are like {names[0]}"
            )
        self.names = [names[number] for number in self.numbers]
        self.raw_classes = _named(config)
        self._kept: dict[int, tuple[UInt8Array, UInt8Array]] = {}

    def _rendered(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        # Rendering takes longer than a training step's share of the loader: each image is made once and kept.
        if index not in self._kept:
            self._kept[index] = streets.render(self.style, self.split, self.numbers[index], self.size)
        return self._kept[index]

    def image(self, index: int) -> UInt8Array:
        """Return the rendered image, uint8 (H, W, 3) RGB."""
        return self._rendered(index)[0]

    def label(self, index: int) -> npt.NDArray[Any]:
        """Return the rendered label, (H, W), index into `STREETS_CLASSES`."""
        return self._rendered(index)[1]

    def where(self, index: int) -> str:
        """Return the sample's name."""
        return self.names[index]


def _named(config: DomainConfig) -> dict[int, str]:
    """Return the class of every label value; `label_map` gives rendered classes the names of the label space's."""
    names = dict(enumerate(streets.STREETS_CLASSES))
    own = parse_label_map(config.label_map or {})
    unknown = [*(own.names.keys() - set(names.values())), *(own.values.keys() - names.keys()), *own.colors]
    if unknown:
        raise InputError(
            f"label_map has {unknown[0]!r}, which streets do not render; choose of {', '.join(names.values())}"
        )
    return {value: own.values.get(value) or own.names.get(name) or own.default or name for value, name in names.items()}
