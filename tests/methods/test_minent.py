from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch.nn import functional

from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from tests.conftest import random_batch


def test_step_is_the_papers(experiment: dict[str, Any]) -> None:
    experiment["model"]["levels"] = 2
    experiment["method"] = {"name": "minent", "lambda_seg": [0.1, 1.0], "lambda_ent": [0.5, 2.0]}
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    plain = copy.deepcopy(method.segmenter)
    source, target = random_batch(0, True), random_batch(1, False)
    losses = method.step(source, target)

    assert source["label"] is not None
    total = torch.zeros(())
    pairs = zip(plain(source["image"]), plain(target["image"]), [0.1, 1.0], [0.5, 2.0], strict=True)
    for level, (source_logits, target_logits, lambda_seg, lambda_ent) in enumerate(pairs, start=1):
        seg = functional.cross_entropy(source_logits, source["label"], ignore_index=255)
        entropy = -(target_logits.softmax(1) * target_logits.log_softmax(1)).sum(1).mean() / math.log(3)
        total = total + lambda_seg * seg + lambda_ent * entropy
        torch.testing.assert_close(losses[f"seg{level}"], seg.detach())
        torch.testing.assert_close(losses[f"ent{level}"], entropy.detach())
    total.backward()  # type: ignore[no-untyped-call]
    for (name, p), q in zip(method.segmenter.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6, msg=name)
