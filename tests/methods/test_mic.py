from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.mic import patch_mask
from tests.conftest import random_batch


def built(experiment: dict[str, Any], **options: Any) -> Any:
    experiment["method"] = {"name": "mic", "lambda_seg": [1.0], "mask_patch": 16, **options}
    config = build_config(experiment)
    return build_method(build_segmenter(config), config).train()


def test_patches() -> None:
    torch.manual_seed(0)
    mask = patch_mask(torch.zeros(50, 3, 32, 64), 0.7, 16)
    assert mask.shape == (50, 1, 32, 64)
    assert set(mask.flatten().tolist()) == {0.0, 1.0}
    assert mask.mean().item() == pytest.approx(0.3, abs=0.05)
    patches = mask.unfold(2, 16, 16).unfold(3, 16, 16)
    assert ((patches == patches[..., :1, :1]).all(-1).all(-1)).all()
    assert not torch.equal(mask[0], mask[1])
    assert patch_mask(torch.zeros(1, 3, 40, 70), 0.7, 16).shape == (1, 1, 40, 70)


def test_the_masked_target_is_learned_beside_the_mixed(experiment: dict[str, Any]) -> None:
    method = built(experiment, threshold=0.4, lambda_mask=2.0)
    method.augmented = lambda images: images
    seen: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    method.segmenter.register_forward_hook(lambda _, __, y: outputs.append(y[0].detach()))
    method.segmenter.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    looks: list[torch.Tensor] = []
    method.teacher.segmenter.register_forward_hook(lambda _, x, y: looks.append(y[0]))
    target = random_batch(1, False)
    losses = method.step(random_batch(0, True), target)
    assert set(losses) == {"seg1", "mix", "mask", "confidence"}
    assert len(looks) == 1, "the teacher looks at the target once"
    masked = seen[2]
    hidden = (masked == method.segmenter.mean_color().view(1, 3, 1, 1)).all(1)
    assert 0.3 < hidden.float().mean() < 1
    assert torch.equal(
        masked[~hidden.unsqueeze(1).expand_as(masked)], target["image"].float()[~hidden.unsqueeze(1).expand_as(masked)]
    )
    probabilities, pseudo = looks[0].softmax(1).max(1)
    each = functional.cross_entropy(outputs[2], pseudo, reduction="none").mean((1, 2))
    expected = (each * (probabilities > 0.4).float().mean((1, 2))).mean()
    torch.testing.assert_close(losses["mask"], expected)


@pytest.mark.parametrize("options", [{"mask_ratio": 1.0}, {"mask_patch": 0}])
def test_impossible_masks_are_refused(options: dict[str, float], experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"method\.{next(iter(options))} is"):
        built(experiment, **options)
