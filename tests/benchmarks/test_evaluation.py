from __future__ import annotations

import pytest
import torch

from benchmarks.evaluation import CLASSES, evaluation_speed, fast_confusion, plain_confusion


def test_both_ways_count_the_same() -> None:
    logits = torch.randn(1, CLASSES, 9, 17, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, CLASSES, (64, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels[:10] = 255
    matrix = plain_confusion(logits, labels)
    assert matrix.sum() == 54 * 128
    assert torch.equal(fast_confusion(logits, labels), matrix)


def test_evaluation_speed() -> None:
    speed = evaluation_speed(size=(256, 128), iterations=2)
    assert speed["ratio"] == pytest.approx(speed["plain"] / speed["adaptseg"])
    assert speed["equal"] > 0.9999
