"""The embedded street worlds: pure, labelled, and different where domains differ."""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from adaptseg.config import DomainConfig
from adaptseg.data.layouts.embedded import Streets
from adaptseg.data.streets.worlds import STREETS_CLASSES, STYLES, render
from adaptseg.errors import InputError

SIZE = (128, 64)
SPLIT = 60


@pytest.fixture(scope="module", params=STYLES)
def counts(request: pytest.FixtureRequest) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Pixels of each class in each image of a small split, (image, class)."""
    labels = [render(request.param, "train", index, (256, 128))[1] for index in range(SPLIT)]
    return np.stack([np.bincount(label.ravel(), minlength=len(STREETS_CLASSES)) for label in labels])


def test_class_names_are_those_of_cityscapes() -> None:
    assert STREETS_CLASSES == (
        "road", "sidewalk", "building", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
        "sky", "person", "rider", "car", "bus",
    )  # fmt: skip
    assert STYLES == ("game", "camera", "varied")


@pytest.mark.parametrize("style", STYLES)
def test_image_is_a_pure_function(style: str) -> None:
    image, label = render(style, "train", 3, SIZE)
    state = repr(np.random.get_state()), random.getstate()
    render(style, "train", 4, SIZE)
    again, label_again = render(style, "train", 3, SIZE)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)
    assert state == (repr(np.random.get_state()), random.getstate())


@pytest.mark.parametrize(
    "other", [("game", "train", 1), ("game", "val", 0), ("camera", "train", 0)], ids=["index", "split", "style"]
)
def test_other_index_split_or_style_is_another_picture(other: tuple[str, str, int]) -> None:
    image, label = render("game", "train", 0, SIZE)
    other_image, other_label = render(*other, SIZE)
    assert (image != other_image).any()
    assert (label != other_label).any()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(256, 128), (240, 180), (97, 65), (64, 128), (33, 17)])
def test_any_size(style: str, size: tuple[int, int]) -> None:
    for index in range(3):
        image, label = render(style, "train", index, size)
        assert image.shape == (size[1], size[0], 3)
        assert label.shape == (size[1], size[0])
        assert image.dtype == label.dtype == np.uint8
        assert image.flags.c_contiguous
        assert label.flags.c_contiguous
        assert label.max() < len(STREETS_CLASSES)


@pytest.mark.parametrize("style", STYLES)
def test_scene_is_the_same_at_every_size(style: str) -> None:
    for index in range(5):
        small = render(style, "train", index, (128, 64))[1]
        large = render(style, "train", index, (512, 256))[1][2::4, 2::4]
        assert (small == large).mean() > 0.85


@pytest.mark.parametrize("style", STYLES)
def test_wider_picture_shows_more_of_the_sides(style: str) -> None:
    narrow = render(style, "train", 0, (120, 90))[1]
    wide = render(style, "train", 0, (180, 90))[1]
    assert (narrow == wide[:, 30:150]).mean() > 0.99


def test_every_class_occurs(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    missing = [name for name, total in zip(STREETS_CLASSES, counts.sum(0), strict=True) if not total]
    assert not missing
    assert ((counts > 0).sum(0) >= 5).all(), "each class is in several images"


def test_classes_are_as_frequent_as_in_a_street(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    share = dict(zip(STREETS_CLASSES, counts.sum(0) / counts.sum(), strict=True))
    assert 0.2 < share["road"] < 0.45
    assert 0.1 < share["building"] < 0.4
    assert 0.06 < share["sky"] < 0.3
    assert 0.04 < share["vegetation"] < 0.25
    assert 0.02 < share["car"] < 0.15
    for rare in ("person", "rider", "traffic sign", "traffic light", "pole", "bus", "fence", "terrain"):
        assert 0.0005 < share[rare] < 0.04, rare


def test_domains_differ_in_colour_and_agree_in_layout() -> None:
    layout, color = [], []
    for style in ("game", "camera"):
        pictures = [render(style, "train", index, SIZE) for index in range(40)]
        label = np.stack([label for _, label in pictures])
        layout.append(np.stack([(label == k).mean((0, 2)) for k in range(len(STREETS_CLASSES))]))
        image = np.stack([image for image, _ in pictures]).astype(float)
        color.append((image.max(-1) - image.min(-1)).mean())
    assert np.abs(layout[0] - layout[1]).sum(0).mean() < 0.35, "classes take the same share of each row"
    assert color[0] > 1.8 * color[1], "the game is more saturated"


def test_game_is_flat_and_camera_is_noisy() -> None:
    colors = [len(np.unique(render(style, "train", 0, SIZE)[0].reshape(-1, 3), axis=0)) for style in STYLES]
    assert colors[1] > 4 * colors[0]
    assert colors[2] > 4 * colors[0]


def test_every_image_of_varied_has_its_own_look() -> None:
    """The brightness of a class differs more between images than in the other styles."""
    labels = [STREETS_CLASSES.index(name) for name in ("road", "sidewalk", "building", "vegetation", "sky")]
    spread = {}
    for style in STYLES:
        pictures = [render(style, "train", index, SIZE) for index in range(40)]
        means = [[image[label == k].mean() for image, label in pictures if (label == k).sum() > 20] for k in labels]
        spread[style] = np.mean([np.std(one) for one in means])
    assert spread["varied"] > 1.2 * spread["camera"] > 1.2 * spread["game"]


@pytest.mark.parametrize("style", STYLES)
def test_rendering_is_fast(style: str) -> None:
    render(style, "train", 0, (256, 128))
    spent = []
    for index in range(9):
        start = time.process_time()
        render(style, "train", index, (256, 128))
        spent.append(time.process_time() - start)
    assert np.median(spent) < 0.1


@pytest.mark.parametrize(
    ("style", "digest", "colors"),
    [
        ("game", "b841e4abcfd35474", [[131.22, 125.76, 134.15], [124.5, 135.73, 121.7], [129.46, 136.79, 128.57]]),
        ("camera", "3c7f6b60e590b6d9", [[135.54, 134.39, 124.27], [119.1, 122.01, 117.4], [100.77, 106.48, 105.09]]),
    ],
)
def test_pictures_of_published_figures_stay_as_they_are(style: str, digest: str, colors: list[list[float]]) -> None:
    """Labels to the byte; of images the mean colours, as processors round differently."""
    pictures = [render(style, "train", index, (128, 64)) for index in range(3)]
    assert hashlib.sha256(b"".join(label.tobytes() for _, label in pictures)).hexdigest()[:16] == digest
    np.testing.assert_allclose([image.mean((0, 1)) for image, _ in pictures], colors, atol=0.1)


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown style 'photo'; choose one of game, camera, varied"):
        render("photo", "train", 0, SIZE)


def test_a_label_map_gives_rendered_classes_the_names_of_another_label_space() -> None:
    config = DomainConfig(layout="streets", root="game", label_map={"traffic light": "traffic sign", 13: "car"})
    names = [Streets(config).raw_classes[value] for value in range(len(STREETS_CLASSES))]
    expected = {"traffic light": "traffic sign", "bus": "car"}
    assert names == [expected.get(name, name) for name in STREETS_CLASSES]


@pytest.mark.parametrize("key", ["lamp post", 14, "#ff0000"])
def test_a_label_map_of_something_else_is_refused(key: str | int) -> None:
    with pytest.raises(InputError, match="which streets do not render; choose of road, "):
        Streets(DomainConfig(layout="streets", root="game", label_map={key: "car"}))


def test_some_images_by_their_names() -> None:
    config = DomainConfig(layout="streets", root="game", split=["val"], count=12, size=SIZE, include=["*-0000[37]"])
    some = Streets(config)
    assert some.names == ["game-val-00003", "game-val-00007"]
    for index, number in enumerate((3, 7)):
        image, label = render("game", "val", number, SIZE)
        np.testing.assert_array_equal(some.image(index), image)
        np.testing.assert_array_equal(some.label(index), label)
    with pytest.raises(InputError, match=r"none of 12 images match include .* they are like game-val-00000"):
        Streets(replace(config, include=["camera-*"]))
