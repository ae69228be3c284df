"""Label spaces and the maps between them, against cityscapesscripts and the released code."""

import numpy as np
import pytest

from adaptseg.data import cityscapes
from adaptseg.data.label_spaces import IGNORE_INDEX, LabelSpace, label_space
from adaptseg.data.layouts import published_labels as tables
from adaptseg.data.layouts.published import PUBLISHED
from adaptseg.errors import InputError

# Released code, dataset of GTA5 and Cityscapes: label id -> train id, all others 255.
RELEASED_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
RELEASED_IDS |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
# As the released code maps SYNTHIA (16 classes).
SYNTHIA_16 = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 9, 10: 10, 17: 11, 8: 12, 19: 13}
SYNTHIA_16 |= {12: 14, 11: 15}
SYNTHIA_19 = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13}
SYNTHIA_19 |= {18: 14, 19: 15, 20: 16, 12: 17, 11: 18}
MAPILLARY_19 = {13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6, 50: 7, 30: 8, 29: 9}
MAPILLARY_19 |= {27: 10, 19: 11, 20: 12, 21: 12, 22: 12, 55: 13, 61: 14, 54: 15, 58: 16, 57: 17, 52: 18}
CROSSCITY = {7: 0, 8: 1, 11: 2, 19: 3, 20: 4, 21: 5, 23: 6, 24: 7, 25: 8, 26: 9, 28: 10, 32: 11, 33: 12}


def test_the_table_is_that_of_cityscapesscripts() -> None:
    module = pytest.importorskip("cityscapesscripts.helpers.labels", reason="cityscapesscripts is not installed")
    published = [
        (label.id, label.name, label.color, None if label.ignoreInEval else label.trainId, label.hasInstances)
        for label in module.labels
    ]
    assert [tuple(row) for row in cityscapes.TABLE] == published


def test_the_19_classes_are_in_the_order_of_their_train_ids() -> None:
    by_train_id = {row.train_id: row.name for row in cityscapes.TABLE}
    assert label_space("cityscapes19").classes == tuple(by_train_id[index] for index in range(19))


def test_smaller_label_spaces_leave_out_what_the_paper_leaves_out() -> None:
    nineteen, sixteen, thirteen = (set(label_space(f"cityscapes{n}").classes) for n in (19, 16, 13))
    assert nineteen - sixteen == {"terrain", "truck", "train"}
    assert sixteen - thirteen == {"wall", "fence", "pole"}
    assert label_space("crosscity13").classes == label_space("cityscapes13").classes


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes16", "cityscapes13", "crosscity13", "camvid11"])
def test_names_and_colors_are_cityscapes(name: str) -> None:
    space = label_space(name)
    assert len(space) == int(name[-2:])
    for index, class_name in enumerate(space.classes):
        assert tuple(space.palette[index]) == cityscapes.BY_NAME[class_name].color
    assert not space.palette[IGNORE_INDEX].any()


@pytest.mark.parametrize(
    ("layout", "space", "expected"),
    [
        ("gta5", "cityscapes19", RELEASED_IDS),
        ("synscapes", "cityscapes19", RELEASED_IDS),
        ("cityscapes", "cityscapes19", RELEASED_IDS),
        ("foggy_cityscapes", "cityscapes19", RELEASED_IDS),
        ("acdc", "cityscapes19", RELEASED_IDS),
        ("dark_zurich", "cityscapes19", RELEASED_IDS),
        ("cross_city", "crosscity13", CROSSCITY),
        ("synthia", "cityscapes16", SYNTHIA_16),
        ("synthia", "cityscapes19", SYNTHIA_19),
        ("mapillary", "cityscapes19", MAPILLARY_19),
        ("bdd100k", "cityscapes19", {value: value for value in range(19)}),
        ("camvid", "camvid11", {value: value for value in range(11)}),
    ],
)
def test_every_layout_maps_its_values_to_the_train_ids(layout: str, space: str, expected: dict[int, int]) -> None:
    raw_classes = PUBLISHED[layout].raw_classes
    table = label_space(space).lookup_table(raw_classes)
    assert {value: int(table[value]) for value in raw_classes if table[value] != IGNORE_INDEX} == expected
    outside = np.ones(65536, bool)
    outside[list(raw_classes)] = False
    assert (table[outside] == -1).all()


def test_mapillary_has_66_values_and_synthia_23() -> None:
    assert sorted(tables.MAPILLARY_IDS) == list(range(66))
    assert tables.MAPILLARY_IDS[65] == "void--unlabeled"
    assert sorted(tables.SYNTHIA_IDS) == list(range(23))


def test_label_spaces_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="'road' is named twice"):
        LabelSpace("own", ("road", "car", "road"))
    with pytest.raises(InputError, match="has 1 classes"):
        LabelSpace("own", ("road",))
    with pytest.raises(InputError, match=r"label space 'cityscapes20' is unknown; choose one of cityscapes19"):
        label_space("cityscapes20")
