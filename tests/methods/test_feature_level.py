"""Feature-level adaptation against a hand-written copy, with separate forward passes for every loss."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from adaptseg.config import DomainConfig, ExperimentConfig, ModelConfig
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.feature_level import FeatureLevel, FeatureLevelConfig
from adaptseg.methods.optimizers import poly_factor, set_learning_rates
from adaptseg.models.discriminator import DiscriminatorConfig

DISCRIMINATOR = DiscriminatorConfig(channels=4, upsample=False)
RESNET = ModelConfig(backbone="resnet18", width=4)


def method(model: ModelConfig, options: FeatureLevelConfig) -> FeatureLevel:
    domain = DomainConfig(layout="folder")
    config = ExperimentConfig(label_space="cityscapes13", source=domain, target=domain, model=model, method=options)
    built = build_method(build_segmenter(config), config)
    assert isinstance(built, FeatureLevel)
    return built.train()


def batch(seed: int, height: int, width: int, labelled: bool) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, height, width, generator=generator) * 255
    label = torch.randint(0, 13, (1, height, width), generator=generator) if labelled else None
    return Batch(image=image, label=label, names=["sample"])


def replay(copied: FeatureLevel, source: Batch, target: Batch) -> dict[str, Tensor]:
    """One iteration as the paper's algorithm reads; each loss has its own forward pass of a discriminator."""
    segmenter, losses = copied.segmenter, {}
    network, scale = segmenter.network, copied.options
    assert isinstance(scale, FeatureLevelConfig)

    def features(images: Tensor) -> list[Tensor]:
        maps = network.feature_maps(segmenter.preprocess(images))
        if scale.feature_scale == 1:
            return list(maps)
        return [
            functional.interpolate(x, scale_factor=scale.feature_scale, mode="bilinear", align_corners=True)
            for x in maps
        ]

    def judge(level: int, x: Tensor, domain: float) -> Tensor:
        verdict = copied.discriminators[level](x)
        return functional.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, domain))

    # The running statistics of batch norm take each domain once, as in the step.
    source_maps = network.feature_maps(segmenter.preprocess(source["image"]))
    assert source["label"] is not None
    total = torch.zeros(())
    for level, classifier in enumerate(network.classifiers()):
        size = source["image"].shape[-2:]
        logits = functional.interpolate(classifier(source_maps[level]), size=size, mode="bilinear", align_corners=True)
        losses[f"seg{level + 1}"] = functional.cross_entropy(logits, source["label"])
        total = total + copied.lambda_seg[level] * losses[f"seg{level + 1}"]
    torch.autograd.backward(total)
    kept = [x.detach() for x in source_maps]
    if scale.feature_scale != 1:
        kept = [
            functional.interpolate(x, scale_factor=scale.feature_scale, mode="bilinear", align_corners=True)
            for x in kept
        ]
    target_maps = features(target["image"])
    for level, x in enumerate(target_maps):
        losses[f"adv{level + 1}"] = judge(level, x, 0.0)
        weights = [p for p in network.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(
            copied.lambda_adv[level] * losses[f"adv{level + 1}"], weights, retain_graph=True, allow_unused=True
        )
        for parameter, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        losses[f"d{level + 1}"] = (judge(level, kept[level], 0.0) + judge(level, x.detach(), 1.0)) / 2
        torch.autograd.backward(losses[f"d{level + 1}"])
    return losses


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (RESNET, FeatureLevelConfig(feature_scale=4, lambda_adv=(0.1, 0.5), discriminator=DISCRIMINATOR)),
        (
            ModelConfig(backbone="vgg16", width=4, levels=1),
            FeatureLevelConfig(feature_scale=4, lambda_seg=(1.0,), lambda_adv=(0.5,), discriminator=DISCRIMINATOR),
        ),
        (
            ModelConfig(backbone="resnet18", width=4, levels=1),
            FeatureLevelConfig(lambda_seg=(1.0,), lambda_adv=(0.5,), discriminator=DISCRIMINATOR),
        ),
    ],
    ids=["multi", "vgg", "unscaled"],
)
def test_step_is_the_algorithm(model: ModelConfig, options: FeatureLevelConfig) -> None:
    actual = method(model, options)
    expected = copy.deepcopy(actual)
    side = 64 if options.feature_scale > 1 else 256
    optimizers = [built.optimizers() for built in (actual, expected)]
    for step in range(2):
        source, target = batch(step, side, side + 32, labelled=True), batch(10 + step, side, side, labelled=False)
        for by_name in optimizers:
            for optimizer in by_name.values():
                optimizer.zero_grad()
                set_learning_rates(optimizer, poly_factor(step, 10, 0.9))
        losses, replayed = actual.step(source, target), replay(expected, source, target)
        assert {k: v.item() for k, v in losses.items()} == pytest.approx(
            {k: v.item() for k, v in replayed.items()}, rel=1e-4
        )
        for by_name in optimizers:
            for optimizer in by_name.values():
                optimizer.step()
    for (name, one), (_, other) in zip(actual.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=name)


def test_each_image_passes_the_backbone_once() -> None:
    options = FeatureLevelConfig(feature_scale=4, lambda_adv=(0.1, 0.5), discriminator=DISCRIMINATOR)
    built = method(RESNET, options)
    passes, judged = [], []
    stem = dict(built.segmenter.network.named_modules())["conv1"]
    stem.register_forward_hook(lambda *_: passes.append(1))
    for discriminator in built.discriminators:
        discriminator.register_forward_hook(lambda *_: judged.append(1))
    built.step(batch(0, 64, 64, labelled=True), batch(1, 64, 64, labelled=False))
    assert (len(passes), len(judged)) == (2, 4)


def test_adversarial_gradient_spares_the_classifiers() -> None:
    options = FeatureLevelConfig(feature_scale=4, lambda_seg=(0.0, 0.0), discriminator=DISCRIMINATOR)
    built = method(RESNET, options)
    built.step(batch(0, 64, 64, labelled=True), batch(1, 64, 64, labelled=False))
    gradients = {name: p.grad for name, p in built.segmenter.network.named_parameters() if p.grad is not None}
    assert all(not g.any() for name, g in gradients.items() if "conv2d_list" in name)
    assert gradients["layer4.0.conv1.weight"].any()


def test_channels_are_the_backbones() -> None:
    resnet = ModelConfig(backbone="resnet50", width=8)
    options = FeatureLevelConfig(discriminator=DISCRIMINATOR)
    assert method(resnet, options).discriminator_channels() == [128, 256]


def test_too_small_feature_maps() -> None:
    built = method(RESNET, FeatureLevelConfig(discriminator=DISCRIMINATOR))
    with pytest.raises(InputError, match=r"9x9 are too small .*raise method\.feature_scale \(now 1\)"):
        built.step(batch(0, 64, 64, labelled=True), batch(1, 64, 64, labelled=False))


@pytest.mark.parametrize("scale", [0, 9])
def test_impossible_scale(scale: int) -> None:
    with pytest.raises(InputError, match="feature_scale"):
        FeatureLevelConfig(feature_scale=scale)
