"""How far the methods of the family are from the figures of their authors' code: one function a figure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from adaptseg.config import DomainConfig, ExperimentConfig, MethodConfig, ModelConfig, OptimizerConfig
from adaptseg.data.label_spaces import THINGS, label_space
from adaptseg.data.sampling import RareClassSampling
from adaptseg.methods import build_method
from adaptseg.methods.dacs import DACSConfig, class_mix
from adaptseg.methods.daformer import DAFormerConfig, feature_distance, mostly_of_a_class
from adaptseg.methods.fourier import with_target_style
from adaptseg.methods.losses import cross_entropy, robust_entropy_loss
from adaptseg.methods.maxsquare import maximum_squares_loss
from adaptseg.methods.mic import MICConfig, patch_mask
from adaptseg.methods.optimizers import poly_factor, set_learning_rates
from adaptseg.methods.teacher import Teacher, confident_labels
from adaptseg.models.build import build_network
from adaptseg.models.decode_heads import DAFormerHead, LightHead
from adaptseg.models.transformer import MIT
from adaptseg.segmenter.initial_settings import CAFFE
from adaptseg.segmenter.segmenter import Segmenter
from tests.golden.figures import DEVICE, batch, digest_difference, fill, image, labels, load, logits, relative, tensor
from tests.golden.released_names import fill_released, own_name

family = load("family")

CLASSES = label_space("cityscapes19").classes
THING_IDS = torch.tensor([CLASSES.index(name) for name in CLASSES if name in THINGS], device=DEVICE)
MAP_SIZES = ((33, 41), (17, 21), (9, 11), (5, 6))


def one_of(classes: list[int], of: Tensor) -> Tensor:
    return torch.isin(of, torch.tensor(classes, device=of.device))


def fda_swap(key: str = "fda_swap") -> float:
    released = key != "fda_swap"
    figures = family["differs"][key] if released else family[key]
    differences = []
    for case in figures:
        source, target = image(11, *case["size"]) + 120, image(12, *case["size"]) * 0.7 + 130
        styled = with_target_style(source, target, case["beta"], released)
        differences.append(digest_difference(styled[0], case["styled"]))
    return max(differences)


def fda_entropy_penalty() -> float:
    return max(
        relative(robust_entropy_loss(logits(20, 33, 41, case["scale"]).softmax(1), case["eta"]).item(), case["value"])
        for case in family["fda_entropy_penalty"]
    )


def dacs_mixture() -> tuple[Tensor, Tensor, Tensor]:
    """Return the mixed image, labels and weights of the keys `dacs_mix` and `dacs_pseudo_weight`."""
    source = batch(image(51, 64, 96), labels(53, 64, 96))
    assert source["label"] is not None
    pasted = one_of(family["dacs_mix"]["classes"], source["label"])
    weights = torch.full((1, 64, 96), family["dacs_pseudo_weight"]["value"], device=DEVICE)
    return class_mix(pasted, source, image(52, 64, 96), labels(54, 64, 96, void=0), weights)


def dacs_mix() -> float:
    mixed, mixed_labels, weights = dacs_mixture()
    expected = family["dacs_mix"]
    return max(
        digest_difference(mixed[0], expected["image"]),
        digest_difference(mixed_labels[0], expected["labels"]),
        relative((weights == 1).float().mean().item(), expected["share"]),
    )


def dacs_pseudo_weight() -> float:
    found, sure = confident_labels(logits(60, 64, 96, 0.3).softmax(1), 0.968)
    expected = family["dacs_pseudo_weight"]
    return max(relative(sure.mean().item(), expected["value"]), digest_difference(found, expected["labels"]))


def dacs_mixed_loss() -> float:
    _, mixed_labels, weights = dacs_mixture()
    mixed_labels[mixed_labels == 255] = 5
    loss = cross_entropy(logits(80, 64, 96, 0.02), mixed_labels, weights)
    return relative(loss.item(), family["dacs_mixed_loss"])


def ema() -> float:
    differences = []
    for case in family["ema"]:
        follower = golden_segmenter(ModelConfig(backbone="resnet18", width=4, levels=1))
        teacher = Teacher(follower, case["momentum"])
        bias = next(name for name, p in follower.named_parameters() if name.endswith("layer5.conv2d_list.0.bias"))
        for i, expected in enumerate(case["teacher"]):
            value = tensor(f"ema.{i}", len(expected))
            with torch.no_grad():
                follower.get_parameter(bias)[: len(value)] = value
            teacher.follow(follower)
            found = teacher.segmenter.get_parameter(bias)[: len(value)].cpu().numpy()
            differences.append(np.abs(found - expected).max() / np.abs(expected).max())
    return float(max(differences))


def rcs_class_probabilities() -> float:
    pixels = []
    for i in range(24):
        one, other = labels(900 + i, 128, 192), labels(950 + i, 128, 192)
        both = torch.where((one == 255) | (other == 255), 255, torch.minimum(one, other))
        pixels.append(np.bincount(both.flatten().cpu().numpy(), minlength=256)[:19])
    differences = []
    for case in family["rcs_class_probabilities"]:
        found = RareClassSampling(np.stack(pixels), case["temperature"]).probabilities
        differences.append((np.abs(found - case["probabilities"]) / case["probabilities"]).max())
    return float(max(differences))


def feature_distance_figures() -> float:
    expected = family["feature_distance"]
    now = tensor("fd.now", 2, 32, 8, 8).requires_grad_()
    coarse = torch.cat([labels(910 + i, 64, 64) for i in range(2)])
    truth = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2).roll((6, 1), (1, 2))
    where = mostly_of_a_class(truth, THING_IDS, (8, 8), 0.75)
    loss = feature_distance(now, tensor("fd.initial", 2, 32, 8, 8), where)
    loss.backward()  # type: ignore[no-untyped-call]
    assert now.grad is not None
    assert int(where.sum()) == expected["places"]
    return max(relative(loss.item(), expected["value"]), digest_difference(now.grad, expected["gradient"]))


def mic_mask() -> float:
    differences = []
    for case in family["mic_mask"]:
        torch.manual_seed(case["torch_seed"])
        visible = patch_mask(torch.zeros(2, 3, *case["size"]), case["ratio"], case["block"])
        differences.append(digest_difference(visible, case["visible"]))
    return max(differences)


@torch.no_grad()
def decode_head(key: str) -> float:
    is_daformer = key == "daformer_head"
    channels = MIT["mit_b5" if is_daformer else "mit_b0"][0]
    head = (DAFormerHead if is_daformer else LightHead)(channels, 19, 256).to(DEVICE).eval()
    fill_released(head, head="daformer_head_b5" if is_daformer else "segformer_head_b0")
    shapes = [(1, c, *size) for c, size in zip(channels, MAP_SIZES, strict=True)]
    maps = [tensor(f"maps.{i}", *shape) * (prod(shape[1:]) / 2) ** 0.5 for i, shape in enumerate(shapes)]
    return digest_difference(head(maps), family[key])


@torch.no_grad()
def mit(backbone: str) -> float:
    network: Any = build_network(ModelConfig(backbone=backbone, levels=1), 19, seed=0).to(DEVICE).eval()
    shell = torch.nn.Module()
    shell.backbone = network.backbone
    fill_released(shell, backbone=backbone)
    maps = network.feature_maps(image(1) / 60)
    return max(digest_difference(*pair) for pair in zip(maps, family[backbone], strict=True))


@torch.no_grad()
def daformer_network() -> float:
    segmenter = golden_segmenter(DAFORMER).eval()
    return digest_difference(segmenter.network(image(1) / 60)[-1], family["daformer_network"])


def maxsquare(key: str) -> float:
    expected = family["differs"][key]
    scores = logits(40, 33, 41, 0.02).requires_grad_()
    alpha = 0.2 if key == "maxsquare_iw_loss" else 0.0
    probabilities = scores.softmax(1)
    loss = maximum_squares_loss(probabilities, alpha, class_mean=True)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    factor = maximum_squares_loss(probabilities, alpha).item() / loss.item()
    return max(
        relative(loss.item(), expected["value"]),
        digest_difference(scores.grad, expected["gradient"]),
        relative(factor, expected["paper_over_released"]),
    )


def daformer_source_loss_with_void() -> float:
    expected = family["differs"]["daformer_source_loss_with_void"]
    truth, scores = labels(53, 64, 96), logits(80, 64, 96, 0.02)
    loss = cross_entropy(scores, truth, void_counts=True).item()
    void = (truth == 255).float().mean().item()
    return max(
        relative(loss, expected["value"]),
        relative(void, expected["void"]),
        relative(cross_entropy(scores, truth).item() * (1 - void), expected["value"]),
    )


DAFORMER = ModelConfig(backbone="mit_b0", head="daformer", levels=1, preprocessing="imagenet", weights="golden")


def golden_segmenter(model: ModelConfig) -> Segmenter:
    with torch.device("cpu" if model.is_transformer else "meta"):
        network = build_network(model, 19, seed=0)
    if model.is_transformer:
        fill_released(network, backbone="mit_b0", head="daformer_head_b0")
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0.0
            if hasattr(module, "drop_prob"):
                setattr(module, "drop_prob", 0.0)  # noqa: B010
    else:
        fill(network)
    align_corners = bool(network.config.align_corners)
    segmenter = Segmenter(network, label_space("cityscapes19"), preprocessing="none", align_corners=align_corners)
    return segmenter.to(DEVICE)


ADAMW = OptimizerConfig(name="adamw", lr=6e-5, weight_decay=0.01)
TRAININGS: dict[str, tuple[ModelConfig, MethodConfig, OptimizerConfig]] = {
    "train_dacs": (
        ModelConfig(backbone="resnet101", levels=1, aspp_branches=2).filled(*CAFFE),
        DACSConfig(lambda_seg=(1.0,), threshold=0.2, teacher_momentum=0.99),
        OptimizerConfig(),
    ),
    "train_daformer": (DAFORMER, DAFormerConfig(lambda_seg=(1.0,), threshold=0.2, lambda_fd=0.005), ADAMW),
    "train_mic": (DAFORMER, MICConfig(lambda_seg=(1.0,), threshold=0.2, lambda_fd=0.005, mask_patch=16), ADAMW),
}


def training_batches(key: str, i: int) -> tuple[Any, Any]:
    if key == "train_dacs":
        return batch(image(100 + i), labels(200 + i, 129, 161, void=0)), batch(image(300 + i) * 0.7 + 10)
    coarse = labels(200 + i, 32, 40, void=0)
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return batch(image(100 + i, 128, 160) / 60, fine), batch((image(300 + i, 128, 160) * 0.7 + 10) / 60)


def training(key: str) -> float:
    """Return the largest difference of losses, gradient norms, the teacher, and the final weights."""
    model, options, settings = TRAININGS[key]
    figures = family[key]
    domain = DomainConfig(layout="folder")
    config = ExperimentConfig(
        label_space="cityscapes19", source=domain, target=domain, model=model, method=options, optimizer=settings
    )
    method: Any = build_method(golden_segmenter(model), config).to(DEVICE).train()
    method.augmented = lambda images: images
    (optimizer,) = method.optimizers().values()
    schedule, power = (250_000, 0.9) if settings.name == "sgd" else (40_000, 1.0)
    differences = []
    for i, expected in enumerate(figures["log"]):
        optimizer.zero_grad()
        set_learning_rates(optimizer, poly_factor(i, schedule, power))
        with released_choices(expected["pasted"], figures.get("torch_seed", 0) + i):
            losses = method.step(*training_batches(key, i))
        actual = {name: loss.item() for name, loss in losses.items()}
        gradients = [p.grad for p in method.segmenter.parameters() if p.grad is not None]
        actual["grad_norm"] = torch.stack([g.double().norm() for g in gradients]).norm().item()
        assert actual.keys() == expected.keys() - {"pasted"}
        differences += [relative(actual[name], expected[name]) for name in actual]
        if i + 1 == len(figures["log"]):
            differences += digests(method.teacher.segmenter, figures["teacher"])
        optimizer.step()
    return max(differences + digests(method.segmenter, figures["final"]))


@contextmanager
def released_choices(pasted: list[int], torch_seed: int) -> Iterator[None]:
    """Paste the classes that the released code drew, and draw masks from its seed."""

    def seeded(images: Tensor, ratio: float, patch: int) -> Tensor:
        torch.manual_seed(torch_seed)  # Of the CPU, whose numbers the released code drew.
        return patch_mask(images.cpu(), ratio, patch).to(images.device)

    with (
        mock.patch("adaptseg.methods.dacs.class_mask", lambda found, with_void: one_of(pasted, found)),
        mock.patch("adaptseg.methods.mic.patch_mask", seeded),
    ):
        yield


def digests(segmenter: Segmenter, expected: dict[str, Any]) -> list[float]:
    state = segmenter.network.state_dict()
    found = []
    for name, figures in expected.items():
        released = name.removeprefix("backbone.").removeprefix("decode_head.")
        value = state[own_name(released) if name != released else name]
        found.append(digest_difference(value.reshape(figures["shape"]), figures))
    return found
