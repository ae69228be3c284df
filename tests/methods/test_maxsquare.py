from __future__ import annotations

from typing import Any

import pytest
import torch

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.maxsquare import MaxSquareConfig, image_wise_weights, maximum_squares_loss
from tests.conftest import random_batch


def test_image_wise_weights() -> None:
    predicted = torch.tensor([[[0, 0, 0], [0, 1, 1]], [[2, 2, 2], [2, 2, 2]]])
    weights = image_wise_weights(predicted, 3, 0.2)
    assert weights[0, 0, 0].item() == pytest.approx(1 / (4**0.2 * 6**0.8))
    assert weights[0, 1, 2].item() == pytest.approx(1 / (2**0.2 * 6**0.8))
    assert weights[1, 0, 0].item() == pytest.approx(1 / 6)
    assert image_wise_weights(predicted, 3, 0.0).sum((1, 2)).tolist() == pytest.approx([1, 1])


def test_step_is_the_papers(experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": "maxsquare", "lambda_seg": [1.0], "lambda_ent": [0.1]}
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    outputs: list[torch.Tensor] = []
    method.segmenter.register_forward_hook(lambda _, __, logits: outputs.append(logits[0].detach()))
    losses = method.step(random_batch(0, True), random_batch(1, False))
    expected = 0.0
    for p in outputs[1].softmax(1):
        counts = torch.bincount(p.argmax(0).flatten(), minlength=3)
        for value, index in zip(p.flatten(1).T, p.argmax(0).flatten(), strict=True):
            weight = 1 / (counts[index] ** 0.2 * (48 * 64) ** 0.8)
            expected -= float(weight * (value**2).sum()) / 2
    assert losses["ent1"].item() == pytest.approx(expected / 2, rel=1e-4)


def test_default_weight_and_loss_are_a_pair() -> None:
    """λ of the paper's loss is what the released 0.1 is of the released loss, for 19 classes."""
    p = torch.randn(2, 19, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    ours = MaxSquareConfig().lambda_ent[-1] * maximum_squares_loss(p, 0.2)
    torch.testing.assert_close(ours, 0.1 * maximum_squares_loss(p, 0.2, class_mean=True), rtol=5e-3, atol=0)


def test_half_of_the_images_are_blurred(experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": "maxsquare", "lambda_seg": [1.0], "lambda_ent": [0.1], "blur": True}
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    seen: list[torch.Tensor] = []
    method.segmenter.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    batches = random_batch(0, True), random_batch(1, False)
    for seed in range(8):
        torch.manual_seed(seed)
        method.step(*batches)
    changed = [(x != batch["image"]).any().item() for x, batch in zip(seen, batches * 8, strict=True)]
    assert {True, False} == set(changed[::2]) == set(changed[1::2])


def test_exponents_that_are_none_are_refused(experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": "maxsquare", "alpha": 2}
    with pytest.raises(InputError, match=r"method\.alpha is 2"):
        build_config(experiment)
