"""What stays in float32 when networks compute in bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from tests.conftest import random_batch


@pytest.mark.parametrize("name", ["adaptsegnet", "advent", "minent"])
def test_losses_gradients_and_statistics(name: str, experiment: dict[str, Any]) -> None:
    experiment["method"]["name"] = name
    if name == "minent":
        experiment["method"] = {"name": name, "lambda_seg": [1.0], "lambda_ent": [0.1]}
    config = build_config(experiment)
    method, exact = (build_method(build_segmenter(config), config).train() for _ in range(2))
    for one in (method, exact):  # Logits of several hundred: softmax saturates, bfloat16 has steps of 2.
        for classifier in one.segmenter.network.classifiers():
            for parameter in classifier.parameters():
                parameter.data *= 1000
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.step(random_batch(0, True), random_batch(1, False))
    expected = exact.step(random_batch(0, True), random_batch(1, False))
    for key, loss in losses.items():
        assert loss.dtype == torch.float32, key
        assert float(loss) == pytest.approx(float(expected[key]), rel=0.05, abs=0.01), key
    for key, parameter in method.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == torch.float32, key
            assert parameter.grad.isfinite().all(), key
    for (key, buffer), wanted in zip(method.named_buffers(), exact.buffers(), strict=True):
        assert buffer.dtype == wanted.dtype, key
        torch.testing.assert_close(buffer, wanted, rtol=0.05, atol=0.01, msg=key)


def test_outputs_are_up_sampled_in_float32(experiment: dict[str, Any]) -> None:
    segmenter = build_segmenter(build_config(experiment))
    with torch.autocast("cpu", torch.bfloat16):
        (logits,) = segmenter(random_batch(0, False)["image"])
    assert logits.dtype == torch.float32
    assert logits.unique().numel() > logits.numel() / 2  # Not rounded to bfloat16's few values.
