from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.dacs import class_mask
from adaptseg.methods.teacher import Teacher
from adaptseg.training.loop import train
from tests.conftest import random_batch


def built(experiment: dict[str, Any], **options: Any) -> Any:
    experiment["method"] = {"name": "dacs", "lambda_seg": [1.0], **options}
    config = build_config(experiment)
    return build_method(build_segmenter(config), config).train()


def test_class_mask_takes_half_of_the_classes() -> None:
    labels = torch.tensor([[[0, 1, 2, 3], [4, 255, 255, 0]], [[7, 7, 7, 255], [7, 7, 7, 7]]])
    chosen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mask = class_mask(labels)
        classes = set(labels[0][mask[0]].tolist())
        assert len(classes) == 3
        assert not classes & set(labels[0][~mask[0]].tolist())
        assert 255 not in classes
        assert torch.equal(mask[1], labels[1] == 7)
        chosen |= classes
    assert chosen == {0, 1, 2, 3, 4}


def test_step_is_the_papers(experiment: dict[str, Any]) -> None:
    """Without augmentation; ClassMix, weights and both losses written out plainly."""
    method = built(experiment, lambda_mix=0.5, threshold=0.3, teacher_momentum=0.9)
    method.augmented = lambda images: images
    plain = copy.deepcopy(method.segmenter)
    teacher = copy.deepcopy(method.segmenter)
    source, target = random_batch(0, True), random_batch(1, False)
    assert source["label"] is not None
    torch.manual_seed(5)
    losses = method.step(source, target)

    with torch.no_grad():
        probabilities, pseudo = teacher(target["image"])[0].softmax(1).max(1)
    torch.manual_seed(5)
    mask = class_mask(source["label"])
    seg = functional.cross_entropy(plain(source["image"])[0], source["label"], ignore_index=255)
    images, labels = target["image"].float(), pseudo.clone()
    images[mask.unsqueeze(1).expand_as(images)] = source["image"].float()[mask.unsqueeze(1).expand_as(images)]
    labels[mask] = source["label"][mask]
    each = functional.cross_entropy(plain(images)[0], labels, reduction="none")
    mix = torch.zeros(())
    for i in range(2):
        sure = (probabilities[i] > 0.3).float().mean()
        mix = mix + (each[i][mask[i]].sum() + sure * each[i][~mask[i]].sum()) / labels.numel()
    (seg + 0.5 * mix).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(losses["seg1"], seg.detach())
    torch.testing.assert_close(losses["mix"], mix.detach())
    for (name, p), q in zip(method.segmenter.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6, msg=name)
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_follows(experiment: dict[str, Any]) -> None:
    segmenter = built(experiment).segmenter
    teacher = Teacher(segmenter, momentum=0.6)
    weight = segmenter.network.conv1.weight
    average = weight.detach().clone()
    for update in range(5):
        weight.data += update
        teacher.follow(segmenter)
        keep = min(1 - 1 / (update + 1), 0.6)
        average = keep * average + (1 - keep) * weight.detach()
    torch.testing.assert_close(teacher.segmenter.network.state_dict()["conv1.weight"], average)
    again = Teacher(segmenter, momentum=0.6)
    again.load_state_dict(teacher.state_dict())
    for one in (teacher, again):  # A resumed teacher knows how often it has moved.
        one.follow(segmenter)
    assert all(
        torch.equal(a, b) for a, b in zip(teacher.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_the_teacher_looks_twice_and_sees_the_same(experiment: dict[str, Any]) -> None:
    """Without dropout and drop path, while batch norm and all modes stay as they are."""
    experiment["model"] = {"backbone": "mit_b0", "levels": 1, "width": 16, "preprocessing": "imagenet"}
    method = built(experiment)
    images = random_batch(1, False)["image"]
    looks = []
    for seed in range(2):
        torch.manual_seed(seed)
        method.train()
        hooks = method.teacher.segmenter.register_forward_hook(lambda _, __, logits: looks.append(logits[0]))
        method.teacher.pseudo_labels(images, 0.5)
        hooks.remove()
    assert torch.equal(*looks)
    assert method.teacher.segmenter.training
    assert all(m.training for m in method.teacher.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        assert not torch.equal(method.segmenter(images)[0], method.segmenter(images)[0]), "the segmenter has its noise"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0.2] * 4, [0.6] * 4]),
        ({"confidence": "batch"}, [[0.4] * 4, [0.4] * 4]),
        ({"confidence": "pixel"}, [[0, 0, 0.6, 0.2], [0.6, 0.6, 0.6, 0.6]]),
        ({"ignore_top": 0.25, "ignore_bottom": 0.5}, [[0, 0.2, 0, 0], [0, 0.6, 0, 0]]),
    ],
)
def test_weights_of_pseudo_labels(options: dict[str, Any], expected: list[list[float]], experiment: Any) -> None:
    """Of 4 x 5 pixels 4 are sure in the first image, 12 in the second."""
    method, target = built(experiment, **options), random_batch(1, False)
    sure = torch.zeros(2, 4, 5)
    sure[0, 2, :3] = sure[0, 3, 0] = sure[1, :, :3] = 1
    weights = method.pseudo_weights(sure, target)
    if method.options.confidence == "pixel":
        assert torch.equal(weights, sure)
        weights = weights.mean(2, keepdim=True).expand(2, 4, 3)
    torch.testing.assert_close(weights[:, :, :3], torch.tensor(expected).unsqueeze(2).expand(2, 4, 3))


def test_released_treatment_of_void(experiment: dict[str, Any]) -> None:
    labels = torch.tensor([[[0, 255, 255, 255]]])
    assert {class_mask(labels, with_void=True)[0, 0, 1].item() for _ in range(30)} == {True, False}
    source, target = random_batch(0, True), random_batch(1, False)  # A sixth of the source is void.
    losses = {}
    for where in ("none", "mixed", "all"):
        method = built(experiment, void_in_mean=where, mix_void=where != "none")
        method.augmented = lambda images: images
        torch.manual_seed(5)
        losses[where] = method.step(source, target)
    assert losses["mixed"]["seg1"] == losses["none"]["seg1"]
    torch.testing.assert_close(losses["all"]["seg1"], losses["none"]["seg1"] * 5 / 6)
    assert losses["all"]["mix"] == losses["mixed"]["mix"]


def test_running_statistics_of_the_mixed_images_alone(experiment: dict[str, Any]) -> None:
    method = built(experiment, running_statistics="target")
    mixed: list[torch.Tensor] = []
    method.segmenter.register_forward_pre_hook(lambda _, images: mixed.append(images[0].detach()))
    alone = copy.deepcopy(method.segmenter)
    alone._forward_pre_hooks.clear()
    method.step(random_batch(0, True), random_batch(1, False))
    alone(mixed[1])
    for (name, buffer), expected in zip(method.segmenter.named_buffers(), alone.buffers(), strict=True):
        if "running" in name:
            torch.testing.assert_close(buffer, expected, msg=name)


def test_jitter_and_blur(experiment: dict[str, Any]) -> None:
    """Brightness is added, as released: black images become grey. Blur takes half of the images."""
    method = built(experiment)
    torch.manual_seed(0)
    black = method.augmented(torch.zeros(40, 3, 16, 16))
    assert 10 < black.amax((1, 2, 3)).max() <= 0.25 * 255 + 1
    assert (black.amax((1, 2, 3)) > 0).float().mean() == pytest.approx(0.8 / 2, abs=0.2)
    assert built(experiment, jitter=0.0).augmented(torch.zeros(20, 3, 16, 16)).max() == 0
    noise = torch.randint(0, 256, (60, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    changed = built(experiment, jitter=0.0).augmented(noise)
    smoother = changed.std((1, 2, 3)) / noise.std((1, 2, 3))
    assert (smoother < 0.95).float().mean() == pytest.approx(0.42, abs=0.15)  # σ under 0.4 pixels changes little.
    assert smoother.min() < 0.4


def test_augmented_images_are_images(experiment: dict[str, Any]) -> None:
    method = built(experiment)
    images = random_batch(0, False)["image"].float()
    torch.manual_seed(1)
    changed = method.augmented(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert 200 < changed.max() <= 255.01
    assert not torch.allclose(changed, images, atol=5)


@pytest.mark.parametrize("method", ["dacs", "mic", "vfm_uda"])
def test_resumed_run_is_bit_identical(
    method: str, experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher, the mixtures and the jitter go on as if nothing had happened."""
    from tests.training.test_loop import interrupted, metrics, weights

    overrides = [f"--method.name={method}", "--train.rare_class_temperature=0.1", "--train.crop=[48,40]"]
    if method == "vfm_uda":
        experiment["model"] = {"backbone": "dinov2_small", "head": "upscale", "levels": 1, "width": 8}
    config = build_config(experiment, overrides)
    train(config, tmp_path / "unbroken")
    interrupted(config, tmp_path / "resumed", monkeypatch, after=2)
    torch.manual_seed(99)
    train(config, tmp_path / "resumed", resume=True)
    expected, actual = weights(tmp_path / "unbroken"), weights(tmp_path / "resumed")
    assert any(name.startswith("teacher.") for name in expected)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert metrics(tmp_path / "unbroken") == metrics(tmp_path / "resumed")


def test_batches_of_different_sizes_cannot_be_mixed(experiment: dict[str, Any]) -> None:
    source, target = random_batch(0, True), random_batch(1, False)
    target["image"] = target["image"][..., :32]
    with pytest.raises(InputError, match=r"2 of 64x48 and 2 of 32x48; set source\.size"):
        built(experiment).step(source, target)


@pytest.mark.parametrize("options", [{"threshold": 1.2}, {"jitter": 0.7}, {"teacher_momentum": -1}])
def test_impossible_options_are_refused(options: dict[str, float], experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"method\.{next(iter(options))} is"):
        built(experiment, **options)
