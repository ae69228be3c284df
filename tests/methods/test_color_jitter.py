from __future__ import annotations

import colorsys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from adaptseg.methods.color_jitter import (
    ADDITIVE,
    BLENDING,
    ColorJitter,
    GaussianBlur,
    gaussian_blur,
    saturated,
    turned,
)

NONE = ColorJitter(brightness=0, contrast=0, saturation=0, hue=0, probability=1.0, additive=True)


def colors(count: int = 200) -> Tensor:
    """Return an image (1, 3, 1, count): random colours, and those where two or all channels are alike."""
    found = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    found[:9] = torch.tensor([[i // 3 / 2, i % 3 / 2, i % 2] for i in range(9)])
    found[9:12] = torch.tensor([0.0, 0.4, 1.0]).unsqueeze(1)
    return found.T.reshape(1, 3, 1, count)


@pytest.mark.parametrize("amount", [-0.5, -0.1, 0.0, 0.3, 0.5])
def test_saturation_and_hue_are_those_of_hsv(amount: float) -> None:
    images, change = colors(), torch.full((1, 1, 1, 1), amount)
    stronger, other = saturated(images, change), turned(images, change)
    for i, color in enumerate(images[0, :, 0].T.tolist()):
        hue, saturation, value = colorsys.rgb_to_hsv(*color)
        expected = colorsys.hsv_to_rgb(hue, min(1.0, saturation * (1 + amount)), value)
        assert stronger[0, :, 0, i].tolist() == pytest.approx(expected, abs=1e-5)
        expected = colorsys.hsv_to_rgb((hue + amount) % 1, saturation, value)
        assert other[0, :, 0, i].tolist() == pytest.approx(expected, abs=1e-5)


def test_contrast_and_saturation_that_blend_with_grey() -> None:
    images, luma = colors(), torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (images * luma).sum(1, keepdim=True)
    for change, expected in ((BLENDING[1], grey.mean()), (BLENDING[2], grey)):
        torch.testing.assert_close(change(images, torch.full((1, 1, 1, 1), 0.4)), expected + 1.4 * (images - expected))


def test_each_image_has_its_own_draw() -> None:
    torch.manual_seed(0)
    images = torch.full((400, 3, 2, 2), 0.5)
    jitter = replace(NONE, brightness=0.2, probability=0.8)
    amounts = (jitter(images) - 0.5)[:, 0, 0, 0]
    assert (amounts == 0).float().mean() == pytest.approx(0.2, abs=0.05)
    changed = amounts[amounts != 0]
    assert changed.abs().max() <= 0.2
    assert changed.mean() == pytest.approx(0, abs=0.03)
    assert changed.std() == pytest.approx(0.2 / 3**0.5, rel=0.1)  # Uniform.
    assert len(set(changed.tolist())) > 250
    assert torch.equal(NONE(images), images)


def test_the_order_is_drawn() -> None:
    """Black that is brightened before the contrast, and after it."""
    black = torch.zeros(1, 3, 1, 1)
    found = set()
    for seed in range(30):
        torch.manual_seed(seed)
        draws, order = torch.rand(5, 1, 1, 1, 1), torch.randperm(4).tolist()
        torch.manual_seed(seed)
        result = replace(NONE, brightness=0.5, contrast=0.5)(black).max().item()
        amount, factor = (0.5 * (2 * draws[i].item() - 1) for i in range(2))
        is_first = order.index(0) < order.index(1)
        assert result == pytest.approx(max(0, amount) * (1 + factor if is_first else 1), abs=1e-6)
        found.add(is_first)
    assert found == {True, False}
    assert len(ADDITIVE) == len(BLENDING) == 4


@pytest.mark.parametrize("size", [7, 13])
def test_blur_is_opencvs(size: int) -> None:
    images = torch.rand(3, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([[0.05], [0.6], [1.15]])
    with torch.autocast("cpu", torch.bfloat16):
        blurred = gaussian_blur(images, sigma, size)
    for image, deviation, result in zip(images, sigma, blurred, strict=True):
        pixels = image.permute(1, 2, 0).numpy()
        expected = cv2.GaussianBlur(pixels, (size, size), deviation.item(), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(result.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_half_of_the_images_are_blurred() -> None:
    torch.manual_seed(0)
    images = 255 * torch.rand(200, 3, 16, 16)
    blurred = GaussianBlur(size=7, sigma=(0.5, 1.0), probability=0.5)(images)
    same = (blurred == images).flatten(1).all(1).float().mean()
    assert same == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(blurred, images)
