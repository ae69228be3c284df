"""AdaptSegNet's step on networks that the package has never seen equals the step written out by hand."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptseg.config import ModelConfig
from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.teacher import without_noise
from adaptseg.models.own_network import OwnNetwork, build_own_network, network_given, use_channels_last
from tests import own_networks
from tests.conftest import CLASSES, random_batch, write_images

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
Weights = tuple[list[float], list[float]]
"""Of the segmentation loss and of the adversarial loss, per level."""
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)


def own(experiment: dict[str, Any], factory: str, levels: int = 1, **model: Any) -> dict[str, Any]:
    """Return the experiment with a factory's network in place of the small ResNet."""
    model = {"factory": f"tests.own_networks:{factory}", "levels": levels, "preprocessing": "imagenet", **model}
    return experiment | {"model": model}


def plain_logits(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the logits per level at the images' size, as a user would have them without the package."""
    output: Any = module((images.float() - MEAN) / STD)
    if isinstance(output, dict) and "out" in output:
        output = [output["aux"], output["out"]]
    output = getattr(output, "logits", output)
    levels = output if isinstance(output, list) else [output]
    return [functional.interpolate(x, images.shape[-2:], mode="bilinear", align_corners=False) for x in levels]


def gan(logits: Tensor, goal: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, goal))


def plain_gradients(module: nn.Module, discriminators: Any, source: Batch, target: Batch, weights: Weights) -> None:
    """Add the gradients of equations 1, 2 and 5 of the paper, every forward pass done anew."""
    assert source["label"] is not None
    on_source, on_target = plain_logits(module, source["image"]), plain_logits(module, target["image"])
    discriminators.requires_grad_(False)
    total = torch.zeros(())
    for level, (lambda_seg, lambda_adv) in enumerate(zip(*weights, strict=True)):
        seg = functional.cross_entropy(on_source[level], source["label"], ignore_index=255)
        total = total + lambda_seg * seg + lambda_adv * gan(discriminators[level](on_target[level].softmax(1)), 0.0)
    total.backward()  # type: ignore[no-untyped-call]
    discriminators.requires_grad_(True)
    for level, discriminator in enumerate(discriminators):
        for logits, goal in ((on_source[level], 0.0), (on_target[level], 1.0)):
            (gan(discriminator(logits.detach().softmax(1)), goal) / 2).backward()  # type: ignore[no-untyped-call]


def squares(step: int) -> tuple[Batch, Batch]:
    """Return a batch of each domain, of 32x32 pixels."""
    source, target = random_batch(2 * step, True), random_batch(2 * step + 1, False)
    for batch in (source, target):
        batch["image"] = batch["image"][:, :, 8:40, :32]
    assert source["label"] is not None
    source["label"] = source["label"][:, 8:40, :32]
    return source, target


@pytest.mark.parametrize(
    ("factory", "levels", "head"),
    [
        ("unet", 1, ("segmentation_head",)),
        ("two_outputs", 2, ("aux_classifier", "classifier")),
        ("segformer", 1, ("decode_head",)),
        ("smp_unet", 1, ("segmentation_head",)),
    ],
)
def test_two_steps_by_hand(factory: str, levels: int, head: tuple[str, ...], experiment: dict[str, Any]) -> None:
    if factory == "smp_unet" and not find_spec("segmentation_models_pytorch"):
        pytest.skip("segmentation_models.pytorch is not installed")
    weights = ([0.1, 1.0][-levels:], [0.2, 0.5][-levels:])
    experiment = own(experiment, factory, levels, multiple_of=32 if factory == "smp_unet" else 4)
    experiment["method"] |= {"lambda_seg": weights[0], "lambda_adv": weights[1]}
    experiment["optimizer"] = {"name": "sgd", "lr": 0.01}
    config = build_config(experiment)
    method: Any = build_method(build_segmenter(config), config).train()
    for dropout in (part for part in method.modules() if isinstance(part, nn.Dropout)):
        dropout.p = 0.0  # Both would draw, but not the same.
    module, discriminators = copy.deepcopy((method.segmenter.network.module, method.discriminators))
    before = copy.deepcopy(module.state_dict())
    ours = method.optimizers()
    ours["discriminators"] = torch.optim.SGD(method.discriminators.parameters(), lr=0.01)
    rates: list[dict[str, Any]] = [{"params": [], "lr": 0.01}, {"params": [], "lr": 0.1}]
    for name, parameter in module.named_parameters():
        rates[name.startswith(head)]["params"].append(parameter)
    plain = torch.optim.SGD(rates, momentum=0.9, weight_decay=5e-4)
    plain_discriminators = torch.optim.SGD(discriminators.parameters(), lr=0.01)
    for step in range(2):
        for optimizer in (*ours.values(), plain, plain_discriminators):
            optimizer.zero_grad()
        method.step(*squares(step))
        plain_gradients(module, discriminators, *squares(step), weights)
        for optimizer in (*ours.values(), plain, plain_discriminators):
            optimizer.step()
    actual = {f"module.{name}": value for name, value in module.state_dict().items()}
    for name, value in method.segmenter.network.state_dict().items():
        torch.testing.assert_close(value, actual[name], rtol=1e-4, atol=1e-5, msg=name)
        if "unused" not in name:
            assert not torch.equal(value, before[name.removeprefix("module.")]), f"{name} was not trained"
    for p, q in zip(method.discriminators.parameters(), discriminators.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("absent", r"tests\.own_networks has no function absent; correct the name"),
        ("no_module", r"returns dict with classes, no torch\.nn\.Module"),
        ("other_classes", r"shape \(2, 4, 64, 64\), but there are 3 classes"),
        ("failing", r"fails in training on 2 images of 64x64 \(RuntimeError: wants 224x224\)"),
        ("detached", "no gradient reaches a parameter"),
        ("labels", r"gives a tensor of shape \(2, 64, 64\); make it give logits"),
        ("not_a_number", "infinite or NaN"),
        ("lazy", r"weight has no shape yet \(a lazy module\); pass an image"),
        ("chosen", r"its logits in use for 1 of 64x64 have the shape \(1, 1, 64, 64\), but there are 3 classes"),
        ("probable", r"what it gives in use are probabilities, for they sum to 1; leave its softmax out"),
        ("unsaved", r"its weights cannot be saved as safetensors \(AttributeError"),
        ("uncopied", r"cannot be copied \(TypeError: cannot pickle a lock\)"),
        ("unet", r"fails on an image of 101x75 .* set model\.multiple_of to 32"),
    ],
)
def test_networks_that_cannot_be_trained(factory: str, message: str, experiment: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message) as raised:
        build_segmenter(build_config(own(experiment, factory)))
    assert "\n" not in str(raised.value)


def test_labels_alone_are_tried_in_whole_batches(experiment: dict[str, Any], tmp_path: Path) -> None:
    """Beside a source they are a share of the batch."""
    write_images(tmp_path / "labelled", ["p", "q"], labels=True)
    labelled = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    content = {**own(experiment, "failing"), "target_labelled": labelled}
    with pytest.raises(InputError, match="fails in training on 1 image of 64x64"):
        build_segmenter(build_config(content))
    del content["source"]
    with pytest.raises(InputError, match="fails in training on 2 images of 64x64"):
        build_segmenter(build_config(content, ["--method.name=source_only", "--method.lambda_seg=[1.0]"]))


def test_multi_level_needs_two_outputs(experiment: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"model\.levels is 2, but its network gives one output; set model\.levels to 1"
    ):
        build_segmenter(build_config(own(experiment, "unet", 2, multiple_of=4)))


def test_what_is_said(experiment: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    experiment = own(experiment, "two_outputs", 1)
    experiment["train"]["batch"] = 1
    build_segmenter(build_config(experiment))
    said = capsys.readouterr().err
    assert "aux_classifier and classifier learn at optimizer.classifier_lr_factor times" in said
    assert "gives 2 levels, of which the last counts" in said
    assert (
        "no gradient reaches 4 of 8 parameters (aux_classifier.weight, aux_classifier.bias, unused.weight, …)" in said
    )
    assert "batch norm" not in said
    experiment["model"] |= {"factory": "tests.own_networks:unet", "multiple_of": 4}
    build_segmenter(build_config(experiment))
    assert "batch norm in training with train.batch 1 sees one image at a time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "feature_level", "lambda_seg": [1.0], "lambda_adv": [0.1]}, "feature_level needs feature maps"),
        ({"name": "daformer", "lambda_seg": [1.0], "lambda_fd": 0.1}, "lambda_fd needs feature maps"),
    ],
)
def test_methods_on_features_say_so(method: dict[str, Any], message: str, experiment: dict[str, Any]) -> None:
    config = build_config(own(experiment, "segformer") | {"method": method})
    with pytest.raises(InputError, match=message):
        build_method(build_segmenter(config), config)


def test_the_check_leaves_the_network_as_it_was(experiment: dict[str, Any]) -> None:
    config = build_config(own(experiment, "unet", multiple_of=4))
    torch.manual_seed(1)
    first = build_segmenter(config)
    drawn = torch.rand(())
    torch.manual_seed(1)
    assert torch.rand(()) == drawn, "the check has moved the random numbers"
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        fresh = own_networks.unet(3)
    for (name, value), wanted in zip(first.network.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(value, wanted), name
    assert all(parameter.grad is None for parameter in first.parameters())


class Refusing(nn.Conv2d):
    """As transformers' networks without it."""

    def gradient_checkpointing_enable(self, _: Any) -> None:
        raise ValueError("MobileNetV2 does not support gradient checkpointing")


@pytest.mark.parametrize(
    ("module", "reason"), [(nn.Conv2d(3, 3, 1), "no attribute"), (Refusing(3, 3, 1), "MobileNetV2")]
)
def test_gradient_checkpointing_that_the_network_has_not(module: nn.Module, reason: str) -> None:
    with pytest.raises(InputError, match=rf"network of model\.factory a:b cannot \(.*{reason}.*\); leave the key out"):
        OwnNetwork(module, ModelConfig(factory="a:b", levels=1)).recompute_activations()


def test_a_given_network_is_copied_to_the_processor() -> None:
    class Elsewhere(nn.Conv2d):
        def to(self, *place: Any, **_: Any) -> Any:
            self.place = place
            return self

    config = ModelConfig(factory="adapt:Elsewhere", levels=1)
    with network_given(Elsewhere(3, 3, 1)):
        assert build_own_network(config, 3).module.place == ("cpu",)


@pytest.mark.parametrize(("factory", "channels_last"), [("unet", True), ("unusual", False)])
def test_channels_last_where_the_network_runs_so(
    factory: str, channels_last: bool, experiment: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter = build_segmenter(build_config(own(experiment, factory, multiple_of=4)))
    said = "fails on channels-last feature maps, as view() does" in capsys.readouterr().err
    use_channels_last(segmenter)
    first = next(segmenter.parameters())
    assert first.is_contiguous() == said == (not channels_last)
    images = random_batch(0, False)["image"].contiguous(memory_format=torch.channels_last)
    assert segmenter(images)[0].shape == (2, 3, 48, 64)


def test_the_teacher_of_self_training_has_no_noise() -> None:
    """Not from functions, nor from modules that have children; batch norm of any kind goes on as in training."""
    network = OwnNetwork(own_networks.Noisy(3), ModelConfig(factory="a:b", levels=1)).train()
    without_noise(network)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network(images)[0], network(images)[0])
    assert network.training
    assert [name for name, part in network.module.named_modules() if part.training] == ["norm"]
