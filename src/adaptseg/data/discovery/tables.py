"""Published tables of label values and colours. Their files have the source in the first line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from adaptseg.data import cityscapes
from adaptseg.data.label_spaces import CITYSCAPES_19, IGNORE_INDEX, VOID
from adaptseg.data.layouts.label_map import Color
from adaptseg.data.layouts.published_labels import CAMVID_IDS, CITYSCAPES_TRAIN_IDS, GTA5_IDS, MAPILLARY_IDS
from adaptseg.data.streets.worlds import STREETS_CLASSES

UNTRAINED = frozenset({"static", "dynamic", "other", "ground"})
"""Classes of tables that say nothing of what is there."""


@dataclass(frozen=True)
class Table:
    """What one data set or engine calls its values."""

    name: str
    source: str
    ids: Mapping[int, str]
    colors: Mapping[Color, str]
    street: bool = True
    """Whether images are street scenes, with the road below and the sky above."""
    hints: Sequence[str] = ()
    """Words in the names of label files or folders that tell that these are the values."""

    def is_trained(self, name: str) -> bool:
        """Tell whether a class is one to train."""
        row = cityscapes.BY_NAME.get(name)
        return name != VOID and name not in UNTRAINED and (row is None or row.name in CITYSCAPES_19)


@cache
def tables() -> tuple[Table, ...]:
    """Return all tables, those that others are made from first."""
    # Of classes of one colour the first is meant: pole, not polegroup.
    own = {row.color: row.name for row in reversed(cityscapes.TABLE) if row.id >= 0}
    own[0, 0, 0] = VOID
    site = "cityscapesscripts, the authors' tools"
    label_ids = {value: VOID if name == "unlabeled" else name for value, name in GTA5_IDS.items()}
    carla = _read("carla", "CARLA", ("tag",))
    camvid = _read("camvid11", "CamVid, 11 classes", ())
    return (
        Table("Cityscapes", site, {**label_ids, IGNORE_INDEX: VOID}, own, hints=("labelids", "gtfine", "gtcoarse")),
        Table("Cityscapes train ids", site, CITYSCAPES_TRAIN_IDS, {}, hints=("trainids", "labeltrainids")),
        carla,
        _read("carla_0.9.13", "CARLA before 0.9.14", ("tag",)),
        _read("camvid", "CamVid", ()),
        Table(camvid.name, camvid.source, CAMVID_IDS, camvid.colors, hints=("trainannot", "annot")),
        _read("voc", "PASCAL VOC", ("segmentationclass", "segmentationclassraw"), street=False),
        _read("ade20k", "ADE20K", ("ade20k", "adechallengedata"), street=False),
        Table("Mapillary Vistas", "config.json (v1.2)", MAPILLARY_IDS, {}, hints=("mapillary", "vistas")),
        Table("streets", "this package's renderings", dict(enumerate(STREETS_CLASSES)) | {IGNORE_INDEX: VOID}, {}),
    )


def _read(file: str, name: str, hints: Sequence[str], street: bool = True) -> Table:
    text = files("adaptseg.data.discovery").joinpath("tables", f"{file}.csv").read_text(encoding="utf-8")
    source, *lines = text.splitlines()
    rows = list(csv.DictReader(lines))
    ids = {int(row["id"]): row["name"] for row in rows if row["id"]}
    return Table(name, source.removeprefix("# "), ids, dict(_colors(rows)), street, hints)


def _colors(rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[Color, str]]:
    for row in rows:
        if row["red"]:
            yield (int(row["red"]), int(row["green"]), int(row["blue"])), row["name"]
