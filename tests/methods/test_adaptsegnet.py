"""AdaptSegNet against the paper's algorithm, written out plainly: every forward pass of a discriminator done anew."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from tests.conftest import random_batch


def gan_loss(logits: torch.Tensor, goal: float, gan: str) -> torch.Tensor:
    goals = torch.full_like(logits, goal)
    if gan == "least_squares":
        return ((logits - goals) ** 2).mean()
    return functional.binary_cross_entropy_with_logits(logits, goals)


def plain_optimizers(network: torch.nn.Module, discriminators: torch.nn.Module) -> list[torch.optim.Optimizer]:
    groups: list[dict[str, Any]] = [{"params": [], "lr": 0.001}, {"params": [], "lr": 0.01}]
    for name, parameter in network.named_parameters():
        groups[name.startswith(("layer5", "layer6"))]["params"].append(parameter)
    return [
        torch.optim.Adam(groups, weight_decay=5e-4),
        torch.optim.Adam(discriminators.parameters(), lr=1e-4, betas=(0.9, 0.99)),
    ]


def steps_are_equal(own: torch.nn.Module, copied: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Both take a step with the same gradients, for Adam divides by their size, and go on from the same weights."""
    pairs = [*zip(own.parameters(), copied.parameters(), strict=True)]
    for p, q in pairs:
        q.grad = p.grad
    before = [p.detach().clone() for p, _ in pairs]
    for optimizer in optimizers:
        optimizer.step()
    for (p, q), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
        assert not torch.equal(p, old)
        q.data.copy_(p)


@pytest.mark.parametrize("gan", ["vanilla", "least_squares"])
@pytest.mark.parametrize(("lambda_seg", "lambda_adv"), [([1.0], [0.05]), ([0.1, 1.0], [0.02, 0.1])])
def test_step_is_the_papers(
    gan: str, lambda_seg: list[float], lambda_adv: list[float], experiment: dict[str, Any]
) -> None:
    experiment["model"]["levels"] = len(lambda_seg)
    experiment["method"] |= {"lambda_seg": lambda_seg, "lambda_adv": lambda_adv, "gan": gan}
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    segmenter = copy.deepcopy(method.segmenter)
    discriminators: Any = copy.deepcopy(method.discriminators)
    ours = method.optimizers()
    plain = plain_optimizers(segmenter.network, discriminators)
    for step in range(2):
        source, target = random_batch(2 * step, True), random_batch(2 * step + 1, False)
        for optimizer in (*ours.values(), *plain):
            optimizer.zero_grad()
        losses = method.step(source, target)

        discriminators.requires_grad_(False)
        source_logits, target_logits = segmenter(source["image"]), segmenter(target["image"])
        total = torch.zeros(())
        for level, discriminator in enumerate(discriminators):
            labels = source["label"]
            assert labels is not None
            seg = functional.cross_entropy(source_logits[level], labels, ignore_index=255)
            adv = gan_loss(discriminator(target_logits[level].softmax(1)), 0.0, gan)
            total = total + lambda_seg[level] * seg + lambda_adv[level] * adv
            assert losses[f"seg{level + 1}"].item() == pytest.approx(seg.item(), rel=1e-5)
            assert losses[f"adv{level + 1}"].item() == pytest.approx(adv.item(), rel=1e-5)
        total.backward()  # type: ignore[no-untyped-call]
        discriminators.requires_grad_(True)
        for level, discriminator in enumerate(discriminators):
            d_loss = gan_loss(discriminator(source_logits[level].detach().softmax(1)), 0.0, gan) / 2
            d_loss = d_loss + gan_loss(discriminator(target_logits[level].detach().softmax(1)), 1.0, gan) / 2
            d_loss.backward()  # type: ignore[no-untyped-call]
            assert losses[f"d{level + 1}"].item() == pytest.approx(d_loss.item(), rel=1e-5)
        for (name, p), q in zip(method.segmenter.named_parameters(), segmenter.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6, msg=name)
        own_discriminators: Any = method.discriminators
        for p, q in zip(own_discriminators.parameters(), discriminators.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-7)
        steps_are_equal(method, torch.nn.ModuleList([segmenter, discriminators]), [*ours.values(), *plain])


def test_running_statistics_of_the_target_alone(experiment: dict[str, Any]) -> None:
    experiment["method"]["running_statistics"] = "target"
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    alone = copy.deepcopy(method.segmenter)
    target = random_batch(1, False)
    method.step(random_batch(0, True), target)
    alone(target["image"])
    for (name, buffer), expected in zip(method.segmenter.named_buffers(), alone.buffers(), strict=True):
        if "running" in name:
            torch.testing.assert_close(buffer, expected, msg=name)


@pytest.mark.parametrize("gan", ["vanilla", "least_squares"])
@pytest.mark.parametrize("levels", [1, 2])
def test_weights_after_two_iterations_of_sgd(gan: str, levels: int, experiment: dict[str, Any]) -> None:
    """Unlike Adam, SGD does not blow up rounding: the weights themselves can be compared over iterations."""
    lambda_seg, lambda_adv = [0.1, 1.0][-levels:], [0.2, 0.5][-levels:]
    experiment["model"]["levels"] = levels
    experiment["method"] |= {"lambda_seg": lambda_seg, "lambda_adv": lambda_adv, "gan": gan}
    experiment["optimizer"] = {"name": "sgd", "lr": 0.01}
    config = build_config(experiment)
    method: Any = build_method(build_segmenter(config), config).train()
    expected = copy.deepcopy(method)
    segmenter, discriminators = expected.segmenter, expected.discriminators
    ours, theirs = method.optimizers(), expected.optimizers()
    for optimizers in (ours, theirs):
        optimizers["discriminators"] = torch.optim.SGD(optimizers["discriminators"].param_groups, lr=0.01)
    for step in range(2):
        source, target = random_batch(2 * step, True), random_batch(2 * step + 1, False)
        for optimizer in (*ours.values(), *theirs.values()):
            optimizer.zero_grad()
        method.step(source, target)
        discriminators.requires_grad_(False)
        assert source["label"] is not None
        source_logits = segmenter(source["image"])
        for level, logits in enumerate(source_logits):
            loss = lambda_seg[level] * functional.cross_entropy(logits, source["label"], ignore_index=255)
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        target_logits = segmenter(target["image"])
        for level, logits in enumerate(target_logits):
            loss = lambda_adv[level] * gan_loss(discriminators[level](logits.softmax(1)), 0.0, gan)
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        discriminators.requires_grad_(True)
        for level, discriminator in enumerate(discriminators):
            for logits, goal in ((source_logits[level], 0.0), (target_logits[level], 1.0)):
                loss = gan_loss(discriminator(logits.detach().softmax(1)), goal, gan) / 2
                loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in (*ours.values(), *theirs.values()):
            optimizer.step()
    before = build_method(build_segmenter(config), config).state_dict()
    for (name, actual), wanted in zip(method.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6, msg=name)
        assert not torch.equal(actual, before[name]), f"{name} was not trained"


def test_discriminators_judge_once_per_domain_and_level(experiment: dict[str, Any]) -> None:
    config = build_config(experiment)
    method: Any = build_method(build_segmenter(config), config).train()
    judged: list[torch.Tensor] = []
    method.discriminators[0].register_forward_hook(lambda _, inputs, __: judged.append(inputs[0]))
    method.step(random_batch(0, True), random_batch(1, False))
    assert len(judged) == 2
    for probabilities in judged:
        torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 48, 64))


def test_images_too_small_for_the_discriminator(experiment: dict[str, Any]) -> None:
    config = build_config(experiment)
    method = build_method(build_segmenter(config), config).train()
    source, target = random_batch(0, True), random_batch(1, False)
    target["image"] = target["image"][:, :, :24]
    with pytest.raises(InputError, match=r"64x24 are too small .* needs 32; make source\.size and target\.size larger"):
        method.step(source, target)


def test_one_weight_per_level(experiment: dict[str, Any]) -> None:
    experiment["method"]["lambda_adv"] = [0.1, 0.2]
    config = build_config(experiment)
    with pytest.raises(InputError, match=r"method\.lambda_adv has 2 weights, but model\.levels is 1"):
        build_method(build_segmenter(config), config)
