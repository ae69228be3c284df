"""Label spaces: ordered class names, with colours. Maps between data sets go by class *name*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from adaptseg.data import cityscapes
from adaptseg.data.streets.worlds import STREETS_CLASSES
from adaptseg.errors import InputError

IGNORE_INDEX = 255
"""Train id of pixels without a class: left out of losses and metrics."""
VOID = "void"
"""Class name that a label map gives to values that are ignored."""

CITYSCAPES_19 = tuple(row.name for row in cityscapes.TABLE if row.train_id is not None)
# Countable objects, with lights and signs (Hoyer et al., CVPR 2022, section 3.3).
THINGS = (
    "traffic light",
    "traffic sign",
    *(row.name for row in cityscapes.TABLE if row.countable and row.train_id is not None),
)
CITYSCAPES_COLORS = {row.name: row.color for row in cityscapes.TABLE}
# The classes that SYNTHIA has, and the 13 of them that the paper averages (Tsai et al. 2018, table 3).
CITYSCAPES_16 = tuple(name for name in CITYSCAPES_19 if name not in ("terrain", "truck", "train"))
CITYSCAPES_13 = tuple(name for name in CITYSCAPES_16 if name not in ("wall", "fence", "pole"))
# The classes that NTHU labels in Rome, Rio, Tokyo and Taipei (Chen et al. 2017, "No More Discrimination",
# section 4.1): the same 13.
CROSSCITY_13 = CITYSCAPES_13
# The 11 classes of the SegNet tutorial, in the order of its label values, with Cityscapes' names for
# pavement, tree, sign symbol, pedestrian and bicyclist.
CAMVID_11 = (
    "sky",
    "building",
    "pole",
    "road",
    "sidewalk",
    "vegetation",
    "traffic sign",
    "fence",
    "car",
    "person",
    "rider",
)


@dataclass(frozen=True)
class LabelSpace:
    """Ordered class names; the position of a name is its train id."""

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[str, tuple[int, int, int]], ...] = field(default=(), compare=False)
    """Colours of one's own: class name and RGB."""

    def __post_init__(self) -> None:
        """Refuse label spaces that 8-bit train ids or names cannot tell apart."""
        repeated = sorted({c for c in self.classes if self.classes.count(c) > 1})
        if repeated:
            raise InputError(f"label space {self.name}: class {repeated[0]!r} is named twice; name each class once")
        if not 2 <= len(self.classes) <= IGNORE_INDEX:
            raise InputError(f"label space {self.name} has {len(self.classes)} classes; give 2 to {IGNORE_INDEX}")
        for name, color in self.colors:
            if name not in self.classes:
                raise InputError(f"colors has {name!r}, which is no class; choose of {', '.join(self.classes)}")
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise InputError(f"colors has {name}: {list(color)}; give red, green and blue, each 0 … 255")

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.classes)

    @property
    def palette(self) -> npt.NDArray[np.uint8]:
        """Colours, (256, 3) RGB: one row per train id, Cityscapes' where it has one; ignored is black."""
        palette = np.zeros((256, 3), np.uint8)
        for index, name in enumerate(self.classes):
            palette[index] = dict(self.colors).get(name) or CITYSCAPES_COLORS.get(name, _spread_color(index))
        return palette

    def lookup_table(self, raw_classes: Mapping[int, str]) -> npt.NDArray[np.int16]:
        """Return the table from raw label value to train id, for values 0 to 65535.

        A raw value whose class this label space does not have becomes `IGNORE_INDEX`; a raw value that
        `raw_classes` does not name becomes -1, which a reader must refuse.
        """
        table = np.full(65536, -1, np.int16)
        train_ids = {name: index for index, name in enumerate(self.classes)}
        for value, name in raw_classes.items():
            table[value] = train_ids.get(name, IGNORE_INDEX)
        return table


def _spread_color(index: int) -> tuple[int, int, int]:
    """A colour for class `index` without a customary one: hues a golden ratio apart."""
    hue = (0.11 + index * 0.618034) % 1.0 * 6
    low, high = 60, 230
    ramp = int(low + (high - low) * (1 - abs(hue % 2 - 1)))
    sextants = ((high, ramp, low), (ramp, high, low), (low, high, ramp), (low, ramp, high), (ramp, low, high))
    return sextants[int(hue)] if hue < 5 else (high, low, ramp)


@cache
def _named() -> dict[str, LabelSpace]:
    spaces = {
        "cityscapes19": CITYSCAPES_19,
        "cityscapes16": CITYSCAPES_16,
        "cityscapes13": CITYSCAPES_13,
        "crosscity13": CROSSCITY_13,
        "camvid11": CAMVID_11,
        "streets14": STREETS_CLASSES,
    }
    return {name: LabelSpace(name, tuple(classes)) for name, classes in spaces.items()}


def label_space(spec: str | Sequence[str], colors: Mapping[str, tuple[int, int, int]] | None = None) -> LabelSpace:
    """Return the label space of that name, or a new one from a list of class names, with colours of one's own.

    Raises:
        InputError: no label space has the name, or it has no class of a colour.
    """
    if colors:
        return replace(label_space(spec), colors=tuple(colors.items()))
    if not isinstance(spec, str):
        return LabelSpace(f"own{len(spec)}", tuple(spec))
    if spec not in _named():
        raise InputError(f"label space {spec!r} is unknown; choose one of {', '.join(_named())}, or list class names")
    return _named()[spec]


def check_protocol(protocol: LabelSpace, label_space: LabelSpace) -> None:
    """Raise `InputError` where the protocol has a class that the label space does not have."""
    unknown = [name for name in protocol.classes if name not in label_space.classes]
    if unknown:
        raise InputError(f"protocol {protocol.name}: the model has no class {unknown[0]!r}; choose another protocol")
