"""What every annotation program is given: photographs, masks of the classes in them, colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID, LabelSpace
from adaptseg.data.layouts.label_map import BACKGROUND

Color = tuple[int, int, int]
BLACK: Color = (0, 0, 0)
VOID_COLOR: Color = (224, 224, 192)


@dataclass(frozen=True)
class ToLabel:
    """A folder with `images/` and `labels/`, as `write_suggestion` writes it."""

    folder: Path
    images: Sequence[PurePosixPath]
    """Image files below the folder."""
    space: LabelSpace

    def name(self, image: PurePosixPath) -> str:
        """Return an image's path below `images/`, without suffix."""
        return str(image.relative_to("images").with_suffix(""))

    def labels(self) -> Iterator[tuple[PurePosixPath, UInt8Array]]:
        """Yield each image file and its train ids (H, W), 255 where there is no class."""
        for image in self.images:
            yield image, np.asarray(Image.open(self.folder / "labels" / f"{self.name(image)}.png"))

    @property
    def has_background(self) -> bool:
        """Whether what nobody draws is a class, so that `void` must be drawn."""
        return BACKGROUND in self.space.classes

    @property
    def names(self) -> list[str]:
        """Names of what can be drawn: the classes, and `void`."""
        return [*self.space.classes, VOID]

    def masks(self, label: UInt8Array) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """Yield name and mask of each class in a label; of `void` where leaving it out would mean another class."""
        for value in np.unique(label).tolist():
            if value != IGNORE_INDEX:
                yield self.space.classes[value], label == value
            elif self.has_background:
                yield VOID, label == value

    def colors(self) -> dict[str, Color]:
        """Return a colour for each name, all different; black is for what is not drawn, and `background`."""
        palette = self.space.palette
        found: dict[str, Color] = {BACKGROUND: BLACK}
        for number, name in enumerate(self.names):
            red, green, blue = VOID_COLOR if name == VOID else palette[number].tolist()
            color = (red, green, blue)
            if name not in found:
                found[name] = color if color not in found.values() else _other(number, set(found.values()))
        return found


def _other(number: int, taken: set[Color]) -> Color:
    """Return a colour that is not taken: a customary one may be another's, or black."""
    while True:
        number += 1
        color = (number * 67 % 256, number * 151 % 256, 40 + number * 29 % 200)
        if color not in taken:
            return color
