from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.evaluation.evaluate import evaluate
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.windows import window_probabilities, window_starts
from tests.conftest import CLASSES


def test_window_starts() -> None:
    assert window_starts(2048, 1024) == [0, 512, 1024]
    assert window_starts(1024, 1024) == [0]
    assert window_starts(1100, 1024) == [0, 76]
    assert window_starts(700, 1024) == [0]


@torch.no_grad()
def test_probabilities_are_the_plain_mean(experiment: dict[str, Any]) -> None:
    segmenter = build_segmenter(build_config(experiment)).eval()
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    found = window_probabilities(segmenter, image, (48, 48))
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).unsqueeze(0)
    parts = {left: segmenter(pixels[..., left : left + 48])[0].softmax(1) for left in (0, 24, 32)}
    torch.testing.assert_close(found[..., :24], parts[0][..., :24])
    torch.testing.assert_close(found[..., 24:32], (parts[0][..., 24:32] + parts[24][..., :8]) / 2)
    torch.testing.assert_close(found[..., 32:48], (parts[0][..., 32:] + parts[24][..., 8:24] + parts[32][..., :16]) / 3)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 48, 80))


def test_the_evaluation_sees_windows(experiment: dict[str, Any]) -> None:
    experiment["evaluation"]["window"] = [32, 32]
    config = build_config(experiment)
    segmenter = build_segmenter(config)
    domain = Domain(config.domain("evaluation"), label_space(CLASSES))
    seen: list[torch.Size] = []
    segmenter.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[-2:]))
    scores = evaluate(segmenter, domain)
    assert scores.confusion.sum() == len(domain) * 48 * 64
    assert set(seen) == {torch.Size((32, 32))}
    assert len(seen) == len(domain) * 2 * 3
