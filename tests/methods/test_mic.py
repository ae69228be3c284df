from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.mic import MICConfig, patch_mask
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


def test_masked_images_are_augmented_and_weighted(experiment: dict[str, Any]) -> None:
    """What is visible is the augmented image, and λ_mask is a factor of the gradient."""
    target = random_batch(1, False)["image"]
    labels = torch.zeros(2, 48, 64, dtype=torch.int64)
    gradients = []
    for factor in (1.0, 3.0):
        method = built(experiment, lambda_mask=factor)
        method.augmented = lambda images: torch.full_like(images, 7.0)
        seen: list[torch.Tensor] = []
        method.segmenter.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0]))
        torch.manual_seed(0)
        method.learn_target(target, labels, torch.ones(2, 48, 64))
        hidden = (seen[0] == method.segmenter.mean_color().view(1, 3, 1, 1)).all(1)
        assert ((seen[0] == 7).all(1) == ~hidden).all()
        assert 0 < hidden.float().mean() < 1
        gradients.append(method.segmenter.network.conv1.weight.grad)
    torch.testing.assert_close(gradients[1], 3 * gradients[0], rtol=1e-3, atol=1e-7)


def test_patches_of_the_published_size() -> None:
    assert MICConfig().mask_patch == 32  # For crops of 512x512; 64 is HRDA's, for 1024x1024.


@pytest.mark.parametrize("options", [{"mask_ratio": 1.0}, {"mask_patch": 0}])
def test_impossible_masks_are_refused(options: dict[str, float], experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"method\.{next(iter(options))} is"):
        built(experiment, **options)
