"""How labelled target images enter a step: written out plainly, for each kind of method."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.data.loader import Batch
from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from tests.conftest import CLASSES, random_batch


def built(experiment: dict[str, Any], *options: str) -> Any:
    experiment["target_labelled"] = {"root": "labelled", "classes": CLASSES}
    config = build_config(experiment, ["--method.lambda_seg=[0.5]", *options])
    return build_method(build_segmenter(config), config).train()


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["source_only", "adaptsegnet", "minent"])
def test_their_cross_entropy_is_added(name: str, experiment: dict[str, Any]) -> None:
    """And nothing else: the discriminators learn what they learned without."""
    method = built(experiment, f"--method.name={name}", "--method.lambda_labelled=3")
    source, target, labelled = random_batch(0, True), random_batch(1, False), random_batch(2, True)
    before = copy.deepcopy(method)
    before.iteration(source, target)
    losses = method.iteration(source, target, labelled)
    logits = before.segmenter(labelled["image"])[0]
    assert labelled["label"] is not None
    loss = functional.cross_entropy(logits, labelled["label"], ignore_index=255)
    torch.autograd.backward(3 * 0.5 * loss)
    assert losses["labelled1"].item() == pytest.approx(loss.item(), rel=1e-5)
    expected, actual = gradients(before), gradients(method)
    assert expected.keys() == actual.keys()
    for key in expected:
        torch.testing.assert_close(actual[key], expected[key], rtol=1e-3, atol=1e-6, msg=key)


def test_batch_norm_counts_them_as_target(experiment: dict[str, Any]) -> None:
    method = built(experiment, "--method.running_statistics=target")
    plain = copy.deepcopy(method)
    source, target, labelled = random_batch(0, True), random_batch(1, False), random_batch(2, True)
    method.iteration(source, target, labelled)
    plain.segmenter(target["image"])
    plain.segmenter(labelled["image"])
    layers = [
        [module for module in one.segmenter.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for one in (method, plain)
    ]
    for layer, other in zip(*layers, strict=True):
        torch.testing.assert_close(layer.running_mean, other.running_mean)


def constant(value: int, label: int, count: int = 2) -> Batch:
    images = torch.full((count, 3, 48, 64), value, dtype=torch.uint8)
    return Batch(image=images, label=torch.full((count, 48, 64), label), names=["x"] * count)


@pytest.mark.parametrize("name", ["dacs", "daformer", "mic"])
def test_cut_outs_are_taken_from_them_by_their_share(name: str, experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": name}
    method = built(experiment, "--train.labelled_share=0.25", "--train.batch=8")
    torch.manual_seed(0)
    source, labelled = constant(10, 0, 400), constant(20, 1, 2)
    labelled["image"][1], labels = 30, labelled["label"]
    assert labels is not None
    labels[1] = 2
    cut = method.with_labelled(source, labelled)
    assert cut["label"] is not None
    values, classes = cut["image"][:, 0, 0, 0], cut["label"][:, 0, 0]
    assert cut["image"].dtype == torch.uint8
    assert torch.equal((values // 10 - 1).long(), classes)
    assert 70 < (classes > 0).sum() < 130
    assert set(classes.tolist()) == {0, 1, 2}
    seen: list[Batch] = []

    def learn_mixed(source: Batch, *_: object) -> torch.Tensor:
        seen.append(source)
        return torch.zeros(())

    method.learn_mixed = learn_mixed
    target = random_batch(1, False)
    method.step(constant(10, 0), target, labelled)
    method.step(constant(10, 0), target)
    assert set(seen[0]["image"].flatten().tolist()) <= {10, 20, 30}
    assert set(seen[1]["image"].flatten().tolist()) == {10}


def test_cut_outs_need_one_size(experiment: dict[str, Any]) -> None:
    experiment["method"] = {"name": "dacs"}
    method = built(experiment)
    small = random_batch(2, True)
    assert small["label"] is not None
    other = Batch(image=small["image"][..., :32], label=small["label"][..., :32], names=["x", "y"])
    with pytest.raises(InputError, match=r"source's batch is 2 of 64x48, that of the labelled target 2 of 32x48; set"):
        method.iteration(random_batch(0, True), random_batch(1, False), other)


@pytest.mark.parametrize("name", ["adaptsegnet", "dacs"])
def test_their_absence_draws_no_random_numbers(name: str, experiment: dict[str, Any]) -> None:
    """What a step draws is its method's alone: trainings of before there were labelled target images are repeated."""
    experiment["method"] = {"name": name}
    method = built(experiment)
    source, target = random_batch(0, True), random_batch(1, False)
    states = []
    for take in (copy.deepcopy(method).iteration, copy.deepcopy(method).step):
        torch.manual_seed(3)
        take(source, target)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_they_keep_their_style(experiment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, labelled = random_batch(0, True), random_batch(1, False), random_batch(2, True)
    method = built(experiment, "--method.name=fda", "--method.fourier_beta=0.1")
    monkeypatch.setattr(method, "step", lambda source, target: {"step": source["image"]})
    monkeypatch.setattr(method, "learn_labelled", lambda labelled: {"labelled": labelled["image"]})
    seen = method.iteration(source, target, labelled)
    assert not torch.equal(seen["step"], source["image"])
    assert seen["labelled"] is labelled["image"]
    del experiment["source"]
    alone = built(experiment, "--method.name=fda", "--method.fourier_beta=0.1")
    monkeypatch.setattr(alone, "step", lambda source, target: {"step": source["image"]})
    assert alone.iteration(labelled, target)["step"] is labelled["image"]
