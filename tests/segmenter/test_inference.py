"""Views, tiles and maps, held against whole images and averages computed by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.config import ModelConfig
from adaptseg.data.files import UInt8Array, resize_image
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.models.network import SegmentationNetwork
from adaptseg.segmenter import inference
from adaptseg.segmenter.inference import Views, tile_starts
from adaptseg.segmenter.segmenter import Segmenter
from tests.segmenter.test_segmenter import photograph, tiny

SPACE = LabelSpace("three", ("road", "car", "sky"))


class Convolution(SegmentationNetwork):
    """One convolution of stride 1, so that only `reach` pixels at borders depend on what lies outside."""

    def __init__(self, reach: int, mean: bool = False) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 3, 2 * reach + 1, padding=reach)
        if mean:
            nn.init.zeros_(self.layer.weight)
            nn.init.zeros_(self.layer.bias if self.layer.bias is not None else torch.empty(0))
            self.layer.weight.data[0] = 1 / (3 * self.layer.weight[0, 0].numel())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(tuple(x.shape))
        return (self.layer(x),)


def convolution(reach: int, mean: bool = False) -> Segmenter:
    return Segmenter(Convolution(reach, mean), SPACE, preprocessing="imagenet").eval()


def undecided(input_size: tuple[int, int] | None = None, align_corners: bool = True) -> Segmenter:
    """A ResNet whose probabilities are neither 0 nor 1."""
    segmenter = tiny(input_size, align_corners=align_corners)
    segmenter.network.register_forward_hook(lambda _, __, logits: tuple(3 * x / 2000 for x in logits))
    return segmenter


def by_hand(segmenter: Segmenter, image: UInt8Array, size: tuple[int, int] | None = None, flip: bool = False) -> Tensor:
    """Probabilities (C, H, W) of one view: scaled to `size` (width, height), logits back at the image's size."""
    seen = resize_image(image, size) if size else image
    images = torch.from_numpy(seen.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        logits = segmenter.network(segmenter.preprocess(images.flip(-1) if flip else images))[-1]
    logits = logits.flip(-1) if flip else logits
    height, width = image.shape[:2]
    return functional.interpolate(logits, (height, width), mode="bilinear", align_corners=segmenter.align_corners)[
        0
    ].softmax(0)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("input_size", [None, (80, 40)])
def test_views_are_averaged(align_corners: bool, input_size: tuple[int, int] | None) -> None:
    segmenter, image = undecided(input_size, align_corners=align_corners), photograph(73, 101)
    width, height = (80, round(73 * 80 / 101)) if input_size else (101, 73)
    views = [
        by_hand(segmenter, image, (round(width * scale), round(height * scale)), flip)
        for scale in (0.75, 1, 1.25)
        for flip in (False, True)
    ]
    expected = torch.stack(views).mean(0).numpy()
    found = segmenter.probabilities(image, flip=True, scales=(0.75, 1, 1.25))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - views[2].numpy()).max() > 0.01  # the views differ, or their mean says nothing
    train_ids = segmenter.predict(image, flip=True, scales=(0.75, 1, 1.25))
    assert (train_ids == expected.argmax(0)).mean() > 0.999


@pytest.mark.parametrize("input_size", [None, (64, 24)])
def test_one_view_is_the_plain_prediction(input_size: tuple[int, int] | None) -> None:
    segmenter, image = tiny(input_size), photograph(150, 90)
    probabilities = segmenter.probabilities(image)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert (probabilities.argmax(0) == segmenter.predict(image)).mean() > 0.999


@pytest.mark.parametrize("tiles", [(64, 64), (96, 40), (500, 48), (500, 500)])
def test_tiles_give_what_the_whole_image_gives(tiles: tuple[int, int]) -> None:
    segmenter, image = convolution(2), photograph(131, 203)
    whole = segmenter.probabilities(image)
    tiled = segmenter.probabilities(image, tiles=tiles)
    np.testing.assert_allclose(tiled.sum(0), 1, atol=1e-5)
    assert np.abs(tiled - whole).max() < 0.05
    inside = np.ones((131, 203), bool)  # what no tile sees closer than 2 pixels to a border that the image has not
    for length, tile, axis in ((131, tiles[1], 0), (203, tiles[0], 1)):
        for start in tile_starts(length, tile):
            for border in {start, min(start + tile, length)} - {0, length}:
                np.moveaxis(inside, axis, 0)[border - 2 : border + 2] = False
    assert inside.mean() > 0.5
    np.testing.assert_allclose(tiled[:, inside], whole[:, inside], atol=1e-5)


def test_tiles_leave_no_seam() -> None:
    """Grey paper, and a network that takes the dark outside of its image for something: no step between neighbours."""
    segmenter = convolution(6, mean=True)
    image = np.full((128, 200, 3), 250, np.uint8)
    whole = segmenter.probabilities(image)[0]
    tiled = segmenter.probabilities(image, tiles=(96, 96))[0]
    dip = whole[64, 100] - whole[64, 0]
    assert dip > 0.1
    inner = tiled[20:-20, 20:-20]
    steps = max(np.abs(np.diff(inner, axis=axis)).max() for axis in (0, 1))
    assert steps < dip / 20
    assert whole[64, 100] - inner.min() < dip / 4


def test_tiles_bound_what_the_network_sees() -> None:
    network = Convolution(1)
    segmenter = Segmenter(network, SPACE, preprocessing="imagenet", input_size=(64, 32))
    segmenter.predict(photograph(150, 210), tiles=(64, 48), scales=(1, 0.5), flip=True)
    assert {shape[0] for shape in network.seen} == {1}
    # At the image's own resolution, whatever size was trained.
    assert max(shape[2] for shape in network.seen) == 48
    assert max(shape[3] for shape in network.seen) == 64
    assert min(shape[2] for shape in network.seen[1:]) < 48


@pytest.mark.parametrize(("length", "tile"), [(5, 64), (64, 64), (65, 64), (1000, 64), (333, 100), (40, 33)])
def test_tiles_cover_and_overlap(length: int, tile: int) -> None:
    starts = tile_starts(length, tile)
    assert starts[0] == 0
    assert starts[-1] + tile >= length > starts[-1]
    assert all(start % 8 == 0 for start in starts)
    assert all(0 < after - before <= tile - tile // 4 for before, after in pairwise(starts))


def test_images_of_a_batch_are_predicted_as_alone() -> None:
    segmenter = undecided((48, 32))
    images = [np.roll(photograph(60, 80), shift, 1) for shift in (0, 9, 30)]
    for views in (Views(), Views(flip=True), Views(tiles=(40, 40))):
        together = inference.predict(segmenter, images, views, maps=["entropy"])
        for image, prediction in zip(images, together, strict=True):
            (alone,) = inference.predict(segmenter, [image], views, maps=["entropy"])
            assert (alone.train_ids == prediction.train_ids).mean() > 0.999
            assert np.abs(alone.maps["entropy"].astype(int) - prediction.maps["entropy"]).max() <= 1


def test_maps() -> None:
    segmenter, image = undecided(), photograph(90, 70)
    p = segmenter.probabilities(image).astype(np.float64)
    (prediction,) = inference.predict(segmenter, [image], maps=["confidence", "entropy"])
    np.testing.assert_allclose(prediction.maps["confidence"], 255 * p.max(0), atol=0.51)
    np.testing.assert_allclose(prediction.maps["entropy"], 255 * -(p * np.log(p)).sum(0) / math.log(3), atol=0.51)
    assert np.ptp(prediction.maps["entropy"]) > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((False, "", None), "scales '' .* are no numbers"),
        ((False, "1,x", None), "scales '1,x'"),
        ((False, "0", None), r"scales are \(0.0,\); give factors"),
        ((False, "nan", None), "scales are"),
        ((False, "9", None), "factors of up to 8"),
        ((False, "1", "64x"), "tiles '64x' are no numbers"),
        ((False, "1", "1x2x3"), "tiles '1x2x3'"),
        ((False, "1", "64x16"), "at least 32 pixels"),
        ((False, "1", "99999x99999"), "at most 100000000 pixels"),
    ],
)
def test_impossible_views(options: tuple[bool, str, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Views.parse(*options)


def test_views_of_a_command_line() -> None:
    assert Views.parse(True, "0.75,1", "512x384") == Views(True, (0.75, 1.0), (512, 384))
    assert Views.parse(False, "1", "256") == Views(tiles=(256, 256))


def test_lack_of_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = tiny()

    def exhausted(*_: object) -> Tensor:
        return torch.empty(2**50)

    monkeypatch.setattr(segmenter.network, "forward", exhausted)
    for views in (Views(), Views(flip=True)):
        with pytest.raises(InputError, match="more memory than there is; take tiles"):
            inference.predict(segmenter, [photograph()], views)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (30, 7)])
def test_vgg_sees_images_of_any_size(size: tuple[int, int]) -> None:
    """And one pixel is mirrored as well."""
    model = ModelConfig(backbone="vgg16", width=4, levels=1)
    segmenter = Segmenter(build_network(model, 3), LabelSpace("abc", ("a", "b", "c"))).eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert segmenter.predict(image, flip=True, scales=(1, 2)).shape == size


@pytest.mark.parametrize("size", [(8, 8), (6, 200), (200, 6), (1, 1), (33, 30)])
def test_transformers_see_images_of_any_size(size: tuple[int, int]) -> None:
    pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
    model = ModelConfig(backbone="mit_b0", width=16, levels=1)
    segmenter = Segmenter(build_network(model, 3), LabelSpace("abc", ("a", "b", "c")), preprocessing="imagenet").eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert segmenter.predict(image).shape == size
    assert segmenter.main_logits([image]).shape[-2:] == (-(-size[0] // 4), -(-size[1] // 4))
    assert segmenter.predict(image, tiles=(32, 32)).shape == size
