from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adaptseg.models.upsampling import bands, upsampled_classes


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 19, 65, 129), (1024, 2048)),
        ((2, 19, 17, 33), (130, 259)),
        ((1, 5, 9, 7), (9, 7)),
        ((1, 5, 30, 20), (11, 9)),
        ((1, 3, 1, 1), (8, 8)),
        ((1, 3, 4, 5), (1, 1)),
        ((1, 1, 4, 5), (20, 30)),
    ],
)
def test_classes_are_those_of_upsampled_logits(
    shape: tuple[int, int, int, int], size: tuple[int, int], align_corners: bool
) -> None:
    logits = 10 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = upsampled_classes(logits, size, align_corners)
    upsampled = functional.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    expected = upsampled.argmax(1)
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    differ = found != expected
    assert differ.float().mean() <= 1e-5
    gaps = upsampled.amax(1) - upsampled.gather(1, found.long().unsqueeze(1))[:, 0]
    assert gaps[differ].numel() == 0 or gaps[differ].max() <= 1e-5


def test_of_equal_logits_the_first_class_wins() -> None:
    logits = torch.zeros(1, 4, 3, 3)
    logits[:, 0] = -1
    assert (upsampled_classes(logits, (24, 24), True) == 1).all()


def test_reduced_precision_and_channels_last() -> None:
    logits = torch.randn(1, 7, 5, 9).bfloat16()
    expected = upsampled_classes(logits.float(), (40, 72), True)
    assert torch.equal(
        upsampled_classes(logits.contiguous(memory_format=torch.channels_last), (40, 72), True), expected
    )


@pytest.mark.parametrize("align_corners", [True, False])
def test_bands_cover_every_row_once(align_corners: bool) -> None:
    covered = [start + i for _, start, shares in bands(7, 50, align_corners) for i in range(len(shares))]
    assert covered == list(range(50))
    for above, _, shares in bands(7, 50, align_corners):
        assert 0 <= above < 7
        assert shares.min() >= 0
        assert shares.max() < 1
