"""Augmentation: pure, labels follow their pixels, colours and geometry as drawn."""

from __future__ import annotations

import numpy as np
import pytest

from adaptseg.data.augmentation import color_jitter, scaled_crop
from adaptseg.data.dataset import Sample
from adaptseg.data.label_spaces import IGNORE_INDEX


@pytest.fixture(scope="module")
def sample() -> Sample:
    """Image whose red channel is the label, in large patches that survive scaling."""
    label = np.kron(np.arange(48, dtype=np.uint8).reshape(6, 8) * 5, np.ones((10, 10), np.uint8))
    return Sample("patches", np.stack([label, 255 - label, label // 2], -1), label)


@pytest.mark.parametrize("factor", [0.31, 0.5, 0.77, 1.0, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("size", [(80, 60), (33, 47), (100, 20)])
def test_label_follows_image(sample: Sample, factor: float, size: tuple[int, int]) -> None:
    for place in ((0.0, 0.0), (0.4, 0.7), (0.999, 0.999)):
        part = scaled_crop(sample, size, factor, place)
        assert part.image.shape == (size[1], size[0], 3)
        assert part.label is not None
        assert part.label.shape == (size[1], size[0])
        known = part.label != IGNORE_INDEX
        inner = min(size[0], round(80 * factor)) * min(size[1], round(60 * factor))
        assert known.sum() == inner, "all of the image is labelled, and nothing else"
        agrees = np.abs(part.image[..., 0].astype(int) - part.label) <= 4
        assert agrees[known].mean() > 0.6, "patches agree away from their edges"


def test_unit_scale_is_a_crop(sample: Sample) -> None:
    part = scaled_crop(sample, (30, 20), 1.0, (0.5, 0.25))
    assert part.label is not None
    assert sample.label is not None
    top, left = int(0.5 * 41), int(0.25 * 51)
    np.testing.assert_array_equal(part.image, sample.image[top : top + 20, left : left + 30])
    np.testing.assert_array_equal(part.label, sample.label[top : top + 20, left : left + 30])


def test_padding_mirrors_and_is_ignored(sample: Sample) -> None:
    part = scaled_crop(sample, (80, 60), 0.5, (0.0, 0.0))
    assert part.label is not None
    assert (part.label[:30, :40] != IGNORE_INDEX).all()
    assert (part.label[30:] == IGNORE_INDEX).all()
    np.testing.assert_array_equal(part.image[:30, 40:], part.image[:30, :40][:, ::-1])


def test_without_label(sample: Sample) -> None:
    part = scaled_crop(Sample("x", sample.image, None), (40, 40), 0.5, (0.5, 0.5))
    assert part.label is None
    assert part.image.shape == (40, 40, 3)


def test_color_jitter_is_pure_and_varied(sample: Sample) -> None:
    once, again = (color_jitter(sample.image, 0.7, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.dtype == np.uint8
    means = [color_jitter(sample.image, 0.7, np.random.default_rng(seed)).mean() for seed in range(30)]
    assert np.std(means) > 5


def test_color_jitter_keeps_grey_grey_and_sometimes_makes_grey(sample: Sample) -> None:
    grey = np.repeat(sample.image[..., :1], 3, -1)
    count = 0
    for seed in range(60):
        spread = np.ptp(color_jitter(grey, 1.0, np.random.default_rng(seed)).astype(int), axis=-1)
        assert spread.max() <= 1
        count += int(
            np.ptp(color_jitter(sample.image, 1.0, np.random.default_rng(seed)).astype(int), axis=-1).max() <= 1
        )
    assert 4 <= count <= 24, "about one image in five"


def test_weak_jitter_changes_little(sample: Sample) -> None:
    for seed in range(10):
        jittered = color_jitter(sample.image, 0.02, np.random.default_rng(seed))
        assert np.abs(jittered.astype(int) - sample.image).max() <= 12
