"""Cityscapes' table of classes: ids, train ids, colours. What other data sets call by the same names is the same.

Cordts et al., "The Cityscapes Dataset", CVPR 2016; the values are those of `cityscapesscripts`, the authors' tools.
"""

from __future__ import annotations

from typing import NamedTuple


class CityscapesClass(NamedTuple):
    """A row of the table."""

    id: int
    """Value in `*_gtFine_labelIds.png`; -1 where an 8-bit file has none."""
    name: str
    color: tuple[int, int, int]
    """RGB."""
    train_id: int | None = None
    """Position among the 19 classes that are trained and evaluated; none: ignored."""
    countable: bool = False
    """Whether Cityscapes tells instances of it apart."""


TABLE = (
    CityscapesClass(0, "unlabeled", (0, 0, 0)),
    CityscapesClass(1, "ego vehicle", (0, 0, 0)),
    CityscapesClass(2, "rectification border", (0, 0, 0)),
    CityscapesClass(3, "out of roi", (0, 0, 0)),
    CityscapesClass(4, "static", (0, 0, 0)),
    CityscapesClass(5, "dynamic", (111, 74, 0)),
    CityscapesClass(6, "ground", (81, 0, 81)),
    CityscapesClass(7, "road", (128, 64, 128), 0),
    CityscapesClass(8, "sidewalk", (244, 35, 232), 1),
    CityscapesClass(9, "parking", (250, 170, 160)),
    CityscapesClass(10, "rail track", (230, 150, 140)),
    CityscapesClass(11, "building", (70, 70, 70), 2),
    CityscapesClass(12, "wall", (102, 102, 156), 3),
    CityscapesClass(13, "fence", (190, 153, 153), 4),
    CityscapesClass(14, "guard rail", (180, 165, 180)),
    CityscapesClass(15, "bridge", (150, 100, 100)),
    CityscapesClass(16, "tunnel", (150, 120, 90)),
    CityscapesClass(17, "pole", (153, 153, 153), 5),
    CityscapesClass(18, "polegroup", (153, 153, 153)),
    CityscapesClass(19, "traffic light", (250, 170, 30), 6),
    CityscapesClass(20, "traffic sign", (220, 220, 0), 7),
    CityscapesClass(21, "vegetation", (107, 142, 35), 8),
    CityscapesClass(22, "terrain", (152, 251, 152), 9),
    CityscapesClass(23, "sky", (70, 130, 180), 10),
    CityscapesClass(24, "person", (220, 20, 60), 11, True),
    CityscapesClass(25, "rider", (255, 0, 0), 12, True),
    CityscapesClass(26, "car", (0, 0, 142), 13, True),
    CityscapesClass(27, "truck", (0, 0, 70), 14, True),
    CityscapesClass(28, "bus", (0, 60, 100), 15, True),
    CityscapesClass(29, "caravan", (0, 0, 90), None, True),
    CityscapesClass(30, "trailer", (0, 0, 110), None, True),
    CityscapesClass(31, "train", (0, 80, 100), 16, True),
    CityscapesClass(32, "motorcycle", (0, 0, 230), 17, True),
    CityscapesClass(33, "bicycle", (119, 11, 32), 18, True),
    CityscapesClass(-1, "license plate", (0, 0, 142)),
)
"""In the order of ids, license plates last."""

BY_NAME = {row.name: row for row in TABLE}
