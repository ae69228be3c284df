from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adaptseg.config import ModelConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.models.build import build_network
from adaptseg.models.network import SegmentationNetwork
from adaptseg.segmenter.images import overlay
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter

SPACE = LabelSpace("three", ("road", "car", "sky"))


def tiny(input_size: tuple[int, int] | None = None, levels: int = 1, align_corners: bool = True) -> Segmenter:
    network = build_network(ModelConfig(backbone="resnet18", width=8, levels=levels), 3, seed=0)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # Weights of 0.01 would leave nothing but the biases.
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    return Segmenter(network, SPACE, input_size=input_size, align_corners=align_corners).eval()


def photograph(height: int = 40, width: int = 56) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ("caffe", [200 - 104.00698793, 100 - 116.66876762, 10 - 122.67891434]),
        ("imagenet", [(10 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (200 / 255 - 0.406) / 0.225]),
        ("none", [10, 100, 200]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_preprocessing_by_hand(preprocessing: str, expected: list[float], dtype: torch.dtype) -> None:
    segmenter = Segmenter(tiny().network, SPACE, preprocessing=preprocessing)
    rgb = torch.tensor([10, 100, 200], dtype=dtype).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    x = segmenter.preprocess(rgb)
    assert x.shape == (2, 3, 4, 5)
    assert x[1, :, 2, 3].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_after_an_error(training: bool) -> None:
    segmenter = tiny().train(training)
    with pytest.raises(ZeroDivisionError), segmenter.evaluating():
        1 / segmenter.network.training  # False: an error
    assert segmenter.training == segmenter.network.training == training


@pytest.mark.parametrize("align_corners", [True, False])
@torch.no_grad()
def test_logits_have_the_size_of_the_image(align_corners: bool) -> None:
    segmenter = tiny(levels=2, align_corners=align_corners)
    images = torch.randint(0, 256, (2, 3, 41, 50), dtype=torch.uint8)
    raw = segmenter.network(segmenter.preprocess(images))
    logits = segmenter(images)
    assert len(logits) == 2
    for level, small in zip(logits, raw, strict=True):
        expected = torch.nn.functional.interpolate(small, (41, 50), mode="bilinear", align_corners=align_corners)
        torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("input_size", [None, (64, 24)])
def test_a_path_a_pil_image_and_an_array_agree(input_size: tuple[int, int] | None, tmp_path: Path) -> None:
    segmenter, array = tiny(input_size), photograph()
    Image.fromarray(array).save(tmp_path / "photo.png")
    train_ids = segmenter.predict(array)
    assert train_ids.shape == (40, 56)
    assert train_ids.dtype == np.uint8
    assert len(np.unique(train_ids)) > 1  # else the comparison says nothing
    for image in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(array)):
        np.testing.assert_array_equal(segmenter.predict(image), train_ids)
    with torch.no_grad():
        images = torch.from_numpy(array.transpose(2, 0, 1).copy())[None]
        expected = segmenter(images)[-1].argmax(1)[0].numpy()
    assert np.array_equal(expected, train_ids) == (input_size is None)


class Recorder(SegmentationNetwork):
    """Answers with zeros and keeps the sizes that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(tuple(x.shape[-2:]))
        return (x.new_zeros(len(x), 3, 2, 3),)


@pytest.mark.parametrize(
    ("resize", "seen"),
    [
        # (height, width): proportions are kept, and the box that was trained is covered.
        ("keep", [(32, 64), (32, 64), (102, 64), (42, 64), (32, 80)]),
        ("squeeze", [(32, 64)] * 5),
        # Models from before the key.
        ("height", [(32, 64), (32, 64), (32, 20), (32, 48), (32, 80)]),
    ],
)
def test_images_are_scaled_as_was_trained(resize: str, seen: list[tuple[int, int]]) -> None:
    network = Recorder()
    segmenter = Segmenter(network, SPACE, input_size=(64, 32), resize=resize)
    for size in ((32, 64), (16, 32), (64, 40), (33, 50), (16, 40)):
        assert segmenter.predict(photograph(*size)).shape == size
    assert network.seen == seen


def test_each_form_of_an_image_gives_the_same(tmp_path: Path) -> None:
    segmenter, rgb = tiny(), photograph()
    expected = segmenter.predict(rgb)
    alpha = np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)])
    planes = torch.from_numpy(rgb.transpose(2, 0, 1).copy())
    for form in (rgb, alpha, Image.fromarray(alpha), torch.from_numpy(rgb), planes):
        np.testing.assert_array_equal(segmenter.predict(form), expected)
    for forms in ([rgb, planes], (rgb, rgb), np.stack([rgb, rgb]), torch.stack([planes, planes])):
        found = segmenter.predict(forms)
        assert isinstance(found, list)
        assert len(found) == 2
        np.testing.assert_array_equal(found, [expected, expected])
    grey = rgb[..., 0]
    expected = segmenter.predict(grey[..., None].repeat(3, 2))
    for form in (grey, grey[..., None], Image.fromarray(grey), torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(segmenter.predict(form), expected)
    assert segmenter.predict([]) == []


def test_pictures_of_other_modes_are_predicted() -> None:
    for mode in ("L", "RGBA", "P", "1"):
        assert tiny().predict(Image.new(mode, (32, 24))).shape == (24, 32)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"an array must be uint8 \(H, W, C\) .* this is uint8 \(3, 8, 8\)"),
        (np.zeros((8, 8, 3), np.float32), r"an array must be uint8 .* this is float32 \(8, 8, 3\); convert it"),
        (torch.zeros(3, 8, 8), r"a tensor must be uint8 \(C, H, W\) .* this is torch\.float32 \(3, 8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"an array must be uint8"),
        (Image.new("I;16", (8, 8)), r"a PIL image of mode I;16 has no known range"),
        (b"photo.jpg", "give an image as a file's path, .*; this is bytes"),
        (iter(["photo.jpg"]), "several as a list of them; this is list_iterator"),
        (None, "this is NoneType"),
    ],
)
def test_wrong_images_are_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny().predict(image)


@pytest.mark.parametrize(
    "views", [{"scales": 1.5}, {"scales": "1"}, {"tiles": 64}, {"tiles": (64,)}, {"tiles": ("a", 9)}]
)
def test_wrong_views_are_refused(views: Any) -> None:
    for function in (tiny().predict, tiny().probabilities):
        with pytest.raises(InputError, match=r"give such as scales=\(0\.75, 1, 1\.25\)"):
            function(photograph(), **views)


def test_the_overlay_has_the_colours_of_the_classes() -> None:
    segmenter, rgb = tiny(), photograph()
    expected = overlay(rgb, segmenter.label_space.palette[segmenter.predict(rgb)])
    np.testing.assert_array_equal(segmenter.overlay(rgb), expected)
    assert not np.array_equal(expected, rgb)


def test_it_says_in_three_lines_what_it_is(tmp_path: Path) -> None:
    config = ModelConfig(backbone="resnet18", width=4, levels=1, preprocessing="imagenet")
    space = LabelSpace("own2", ("road", "sky"), (("sky", (1, 2, 3)),))
    segmenter = Segmenter(build_network(config, 2, seed=0), space, "imagenet", input_size=(64, 32), values={"sky": 9})
    save_segmenter(tmp_path, segmenter)
    loaded = load_model(tmp_path, device="cpu")
    assert repr(loaded).splitlines() == [
        "Segmenter of 2 classes: road, sky",
        "  resnet18, images at 64x32 (keep), imagenet preprocessing",
        f"  from {tmp_path}, on cpu",
    ]
    own = ModelConfig(factory="tests.own_networks:unet", levels=1)
    assert "\n  tests.own_networks:unet, images at" in repr(Segmenter(build_network(own, 2), space))
    assert (loaded.values, loaded.label_space.colors) == ({"sky": 9}, space.colors)
    assert loaded.label_space.palette[1].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="device 'gpu' is unknown"):
        load_model(tmp_path, device="gpu")


def test_cards_of_older_versions_see_images_as_before(tmp_path: Path) -> None:
    config = ModelConfig(backbone="resnet18", width=4, levels=1, preprocessing="imagenet")
    segmenter = Segmenter(build_network(config, len(SPACE), seed=0), SPACE, "imagenet", input_size=(64, 32))
    save_segmenter(tmp_path, segmenter)
    card = json.loads((tmp_path / "segmenter.json").read_text())
    for key in ("resize", "values", "colors"):
        del card[key]
    (tmp_path / "segmenter.json").write_text(json.dumps(card))
    assert load_model(tmp_path).resize == "height"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    with pytest.raises(InputError, match=r"photo\.png: cannot be read .* check the path"):
        tiny().predict(path)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"photo\.png: not a readable image"):
        tiny().predict(path)
