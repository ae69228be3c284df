"""A step reads no value back from the device: the processor would stop and wait for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.dacs import class_mask
from adaptseg.methods.fourier import with_target_style
from adaptseg.training.divergence import FiniteWatch
from tests.conftest import random_batch

OPTIONS: dict[str, dict[str, Any]] = {
    "source_only": {},
    "adaptsegnet": {"lambda_adv": [0.01], "discriminator": {"channels": 4}},
    "feature_level": {"lambda_adv": [0.01], "feature_scale": 8, "discriminator": {"channels": 4}},
    "minent": {"lambda_ent": [0.1]},
    "maxsquare": {"lambda_ent": [0.1]},
    "advent": {"lambda_adv": [0.01], "discriminator": {"channels": 4}},
    "fda": {"lambda_ent": [0.1]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_step_needs_no_values(name: str, experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": name, "lambda_seg": [1.0], **OPTIONS[name]}
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).to("meta").train()  # Tensors without values.
    source, target = random_batch(0, True), random_batch(1, False)
    for batch in (source, target):
        batch["image"] = batch["image"].to("meta")
    assert source["label"] is not None
    source["label"] = source["label"].to("meta")
    source["image"] = with_target_style(source["image"], target["image"], 0.1)
    losses = method.step(source, target)
    FiniteWatch().see(1, losses, method.parameters(), [])
    for loss in losses.values():
        with pytest.raises(RuntimeError, match="meta"):
            float(loss)


def test_class_mask_needs_no_values() -> None:
    assert class_mask(torch.zeros(2, 4, 4, dtype=torch.int64, device="meta")).shape == (2, 4, 4)
