from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.daformer import mostly_of_a_class
from adaptseg.segmenter.initial_weights import initialise
from tests.conftest import random_batch


def built(experiment: dict[str, Any], **options: Any) -> Any:
    experiment["method"] = {"name": "daformer", "lambda_seg": [1.0], **options}
    config = build_config(experiment)
    return build_method(initialise(build_segmenter(config), config.model), config).train()


def test_mostly_of_a_class() -> None:
    labels = torch.tensor([[[1, 1, 0, 0], [1, 2, 2, 2], [255] * 4, [1, 1, 1, 1]]])
    assert mostly_of_a_class(labels, torch.tensor([1]), (2, 2), 0.75).tolist() == [[[1, 0], [0, 0]]]
    assert mostly_of_a_class(labels, torch.tensor([1, 2]), (2, 2), 0.5).tolist() == [[[1, 1], [1, 1]]]
    assert mostly_of_a_class(labels, torch.tensor([0]), (2, 2), 0.6).sum() == 0


def test_the_feature_distance_is_that_of_things(experiment: dict[str, Any], tmp_path: Path) -> None:
    torch.save(build_segmenter(build_config(experiment)).network.state_dict(), tmp_path / "initial.pth")
    experiment["model"]["weights"] = str(tmp_path / "initial.pth")
    experiment["seed"] = 1
    method = built(experiment, lambda_fd=0.5)
    batch = random_batch(0, True)
    assert batch["label"] is not None
    batch["label"][:] = 0
    batch["label"][:, :24] = 1  # The class `car`, above.
    losses = method.learn_source(batch)
    assert losses["fd"].item() == pytest.approx(0, abs=1e-5)  # Nothing is learned yet.

    with torch.no_grad():
        for parameter in method.segmenter.parameters():
            parameter.mul_(1.3)
    method.zero_grad()
    losses = method.learn_source(batch)
    prepared = method.segmenter.preprocess(batch["image"])
    with torch.no_grad():
        now = method.segmenter.network.feature_maps(prepared)[-1]
        before = method.initial.network.feature_maps(prepared)[-1]
    assert losses["fd"].item() == pytest.approx((now - before)[:, :, :3].norm(dim=1).mean().item(), rel=1e-4)
    assert all(p.grad is None for p in method.initial.parameters())


def test_the_feature_distance_is_learned(experiment: dict[str, Any], tmp_path: Path) -> None:
    """λ_fd times its gradient is added to that of the cross-entropy."""
    torch.save(build_segmenter(build_config(experiment)).network.state_dict(), tmp_path / "initial.pth")
    experiment["model"]["weights"] = str(tmp_path / "initial.pth")
    batch = random_batch(0, True)
    assert batch["label"] is not None
    batch["label"][:, 8:40] = 1
    gradients = []
    for weight in (1e-9, 1.0, 3.0):
        method = built(experiment, lambda_fd=weight)
        with torch.no_grad():
            for parameter in method.segmenter.parameters():
                parameter.mul_(1.3)
        method.learn_source(batch)
        gradients.append(method.segmenter.network.conv1.weight.grad)
    assert (gradients[1] - gradients[0]).norm() > 0.01 * gradients[0].norm()
    torch.testing.assert_close(gradients[2] - gradients[0], 3 * (gradients[1] - gradients[0]), rtol=1e-2, atol=1e-5)


def test_the_initial_network_has_no_noise(experiment: dict[str, Any]) -> None:
    """Its distance to itself is 0: no dropout and drop path, while batch norm stays in its mode."""
    experiment["model"] = {"backbone": "mit_b0", "levels": 1, "width": 16, "preprocessing": "imagenet"}
    config = build_config(experiment, ["--method.name=daformer", "--method.lambda_seg=[1.0]"])
    config = replace(config, model=replace(config.model, weights="made elsewhere"))
    config = replace(config, method=replace(config.method, lambda_fd=0.1))  # type: ignore[call-arg]
    method: Any = build_method(build_segmenter(config), config).train()
    looks: list[torch.Tensor] = []
    method.initial.network.backbone.register_forward_hook(lambda _, __, y: looks.append(y.hidden_states[-1]))
    for seed in range(2):
        torch.manual_seed(seed)
        method.train().learn_source(random_batch(0, True))
    assert torch.equal(*looks)


def test_what_the_feature_distance_needs(experiment: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method\.lambda_fd needs initial weights .*model\.weights"):
        built(experiment, lambda_fd=0.005)
    torch.save(build_segmenter(build_config(experiment)).network.state_dict(), tmp_path / "initial.pth")
    experiment["model"]["weights"] = str(tmp_path / "initial.pth")
    experiment["label_space"] = ["road", "vehicle", "sky"]
    with pytest.raises(InputError, match=r"method\.lambda_fd: no class is a thing; name some of them as .*car"):
        built(experiment, lambda_fd=0.005)
