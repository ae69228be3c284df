from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.data.dataset import Domain
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.training.loop import train
from tests.conftest import random_batch


@pytest.mark.parametrize("levels", [1, 2])
def test_step_is_plain_training(levels: int, experiment: dict[str, Any]) -> None:
    weights = [0.1, 1.0][-levels:]
    experiment["model"]["levels"] = levels
    experiment["method"] = {"name": "source_only", "lambda_seg": weights}
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    plain = copy.deepcopy(method.segmenter)
    ours = method.optimizers()
    assert list(ours) == ["segmenter"]
    rates = [
        {"params": [p for n, p in plain.network.named_parameters() if n.startswith(("layer5", "layer6")) == fast]}
        | {"lr": 0.01 if fast else 0.001}
        for fast in (False, True)
    ]
    reference = torch.optim.Adam(rates, weight_decay=5e-4)
    for step in range(2):
        batch = random_batch(step, True)
        assert batch["label"] is not None
        for optimizer in (ours["segmenter"], reference):
            optimizer.zero_grad()
        losses = method.step(batch, None)
        terms = [functional.cross_entropy(x, batch["label"], ignore_index=255) for x in plain(batch["image"])]
        torch.autograd.backward([w * x for w, x in zip(weights, terms, strict=True)])
        assert [loss.item() for loss in losses.values()] == pytest.approx([x.item() for x in terms], rel=1e-5)
        assert list(losses) == [f"seg{level + 1}" for level in range(levels)]
        for p, q in zip(method.segmenter.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)
        for optimizer in (ours["segmenter"], reference):
            optimizer.step()
        # Batch norm has seen the source alone.
        for (name, actual), expected in zip(method.segmenter.named_buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(actual, expected, msg=name)
        plain.load_state_dict(method.segmenter.state_dict())


def test_no_target_image_is_read(experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Domain.read

    def guarded(domain: Domain, index: int) -> Any:
        layout: Any = domain.layout
        assert layout.images.root.name != "target", "the target was read"
        return reading(domain, index)

    monkeypatch.setattr(Domain, "read", guarded)
    train(build_config(experiment, ["--method.name=source_only"]), tmp_path / "run")
    with pytest.raises(AssertionError, match="the target was read"):
        train(build_config(experiment), tmp_path / "adapted")
