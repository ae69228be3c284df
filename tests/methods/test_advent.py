from __future__ import annotations

from typing import Any

import torch

from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from tests.conftest import random_batch


def test_discriminators_see_weighted_self_information(experiment: dict[str, Any]) -> None:
    """The game itself is AdaptSegNet's (test_adaptsegnet.py); only what the discriminators see differs."""
    experiment["method"]["name"] = "advent"
    config = build_config(experiment)
    method: Any = build_method(build_segmenter(config), config).train()
    seen: list[torch.Tensor] = []
    method.discriminators[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    outputs: list[torch.Tensor] = []
    method.segmenter.register_forward_hook(lambda _, __, logits: outputs.append(logits[0].detach()))
    losses = method.step(random_batch(0, True), random_batch(1, False))
    assert set(losses) == {"seg1", "adv1", "d1"}
    source_logits, target_logits = outputs
    for logits, maps in zip((target_logits, source_logits), seen, strict=True):
        p = logits.softmax(1)
        torch.testing.assert_close(maps, -p * p.log2() / torch.tensor(3.0).log2(), rtol=1e-4, atol=1e-6)
