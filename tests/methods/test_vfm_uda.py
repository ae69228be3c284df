from __future__ import annotations

from typing import Any

import pytest
import torch

from adaptseg.config import ModelConfig, OptimizerConfig
from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.optimizers import segmenter_optimizer
from adaptseg.methods.vfm_uda import VFMUDAConfig
from adaptseg.models.build import build_network
from tests.conftest import random_batch


def built(experiment: dict[str, Any], **options: Any) -> Any:
    """Around a random DINOv2-S of an eighth of the width."""
    experiment["model"] = {"backbone": "dinov2_small", "head": "upscale", "levels": 1, "width": 8}
    experiment["method"] = {"name": "vfm_uda", "threshold": 0.3, **options}
    config = build_config(experiment)
    return build_method(build_segmenter(config), config).train()


def test_the_head_reads_the_normed_last_map_at_four_times_its_size(experiment: dict[str, Any]) -> None:
    network = built(experiment).segmenter.network.eval()
    assert network.patches(1024, 1024) == (80, 80)
    x = torch.randn(1, 3, 112, 140)
    with torch.no_grad():
        (features,) = network.feature_maps(x)
        assert features.shape == (1, 48, 8, 11)  # 112 · 1.1 / 14 and 140 · 1.1 / 14, whole ones.
        scaled = torch.nn.functional.interpolate(x, size=(112, 154), mode="bilinear", align_corners=False)
        tokens = network.backbone(scaled).last_hidden_state[:, 1:]
        torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens)
        torch.testing.assert_close(tokens.mean(-1), torch.zeros(1, 88), atol=1e-4, rtol=0)  # The norm is fresh.
        assert network(x)[0].shape == (1, 3, 32, 44)


def test_three_passes_and_masked_tokens(experiment: dict[str, Any]) -> None:
    method = built(experiment)
    passes: list[torch.Tensor | None] = []
    method.segmenter.network.backbone.register_forward_pre_hook(
        lambda _, __, settings: passes.append(settings.get("bool_masked_pos")), with_kwargs=True
    )
    torch.manual_seed(0)
    losses = method.step(random_batch(0, True), random_batch(1, False))
    assert set(losses) == {"seg1", "mix", "mask", "confidence"}
    assert all(loss.isfinite() for loss in losses.values())
    assert passes[:2] == [None, None]
    assert passes[2] is not None
    assert passes[2].float().mean() == pytest.approx(0.7, abs=0.2)
    gradients = {name: p.grad for name, p in method.segmenter.network.named_parameters()}
    assert gradients["backbone.embeddings.mask_token"].any(), "it is learned where it stands for a patch"
    assert gradients["head.classifier.weight"].any()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_weight_of_the_masked_images(experiment: dict[str, Any]) -> None:
    gradients = []
    for factor in (1.0, 3.0):
        method = built(experiment, lambda_mask=factor).eval()
        torch.manual_seed(0)
        method.learn_target(
            random_batch(1, False)["image"], torch.zeros(2, 48, 64, dtype=torch.int64), torch.ones(2, 48, 64)
        )
        gradients.append(method.segmenter.network.head.classifier.weight.grad)
    torch.testing.assert_close(gradients[1], 3 * gradients[0], rtol=1e-3, atol=1e-6)


def test_labels_by_the_mean_with_the_mirror_image(experiment: dict[str, Any]) -> None:
    method = built(experiment)
    images = random_batch(1, False)["image"]
    labels, sure = method.label_target(images)
    mirrored, again = method.label_target(images.flip(-1))
    assert torch.equal(labels.flip(-1), mirrored)
    assert torch.equal(sure.flip(-1), again)
    teacher = method.teacher.segmenter
    with torch.no_grad():
        one, other = (teacher(x)[0].softmax(1) for x in (images, images.flip(-1)))
    assert torch.equal(((one + other.flip(-1)) / 2).argmax(1), labels)


def test_borders_of_the_whole_image_weigh_nothing(experiment: dict[str, Any]) -> None:
    """The first part is the whole image, the second its lower right quarter, mirrored."""
    method, target = built(experiment), random_batch(1, False)
    target["frame"] = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 1.0, 1.0, 0.5]])
    sure = torch.zeros(2, 200, 100)
    sure[0, :, :20] = sure[1, :, :60] = 1
    weights = method.pseudo_weights(sure, target)
    torch.testing.assert_close(weights.amax((1, 2)), torch.tensor([0.4, 0.4]))  # The batch's.
    rows, columns = (weights > 0).any(2), (weights > 0).any(1)
    assert rows[0].nonzero().flatten()[[0, -1]].tolist() == [6, 149]
    assert columns[0].nonzero().flatten()[[0, -1]].tolist() == [3, 96]
    assert rows[1].nonzero().flatten()[[0, -1]].tolist() == [0, 99]
    assert columns[1].nonzero().flatten()[[0, -1]].tolist() == [6, 99]


def test_source_and_target_take_other_colours(experiment: dict[str, Any]) -> None:
    method = built(experiment)
    method.recolor = torch.nn.Identity()
    method.augmented = lambda images: images
    seen: list[torch.Tensor] = []
    method.segmenter.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    source, target = random_batch(0, True), random_batch(1, False)
    method.step(source, target)
    torch.testing.assert_close(seen[0], source["image"].float())
    method.recolor = torch.nn.Threshold(2.0, 0.0)  # Black.
    method.step(source, target)
    assert seen[2].max() == 0
    assert seen[3].max() > 0, "the pasted source has its own colours"
    assert (seen[3] == 0).all(1).float().mean() > 0.2


def test_blocks_are_masked_in_any_network(experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": "vfm_uda"}
    config = build_config(experiment)
    with pytest.raises(InputError, match=r"method\.mask is tokens, but resnet18 has no mask token"):
        build_method(build_segmenter(config), config)
    experiment["method"] |= {"mask": "blocks", "mask_patch": 16}
    config = build_config(experiment)
    losses = build_method(build_segmenter(config), config).train().step(random_batch(0, True), random_batch(1, False))
    assert losses["mask"].isfinite()
    with pytest.raises(InputError, match=r"method\.mask is 'holes'"):
        VFMUDAConfig(mask="holes")
    with pytest.raises(InputError, match=r"model\.head upscale is for DINOv2 and DINOv3, not mit_b0"):
        build_config(experiment | {"model": {"backbone": "mit_b0", "head": "upscale", "levels": 1}})


def test_layer_decay(experiment: dict[str, Any]) -> None:
    network = built(experiment).segmenter.network
    config = OptimizerConfig(name="adamw", lr=1.0, classifier_lr_factor=10, layer_decay=0.5)
    optimizer = segmenter_optimizer(network, config)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        block = name.partition(".layer.")[2].partition(".")[0]
        expected = 10 if name.startswith("head.") else 0.5 ** (11 - int(block) if block else 12)
        assert rates[id(parameter)] == expected, name
    resnet = build_network(ModelConfig(backbone="resnet18", width=4), 3)
    with pytest.raises(InputError, match=r"optimizer\.layer_decay is 0\.5, for DINOv2 and DINOv3 alone"):
        segmenter_optimizer(resnet, config)
