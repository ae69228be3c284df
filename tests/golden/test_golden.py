"""The figures of the authors' released code (AdaptSegNet and ADVENT), see tests/golden/README.md.

The environment variable ADAPTSEG_GOLDEN names another folder with `weights.py`, `adaptsegnet.json`, `advent.json`,
ADAPTSEG_GOLDEN_DEVICE another device.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.golden import adaptsegnet as measured

pytestmark = pytest.mark.golden

FORWARD, TRAJECTORY = 1e-4, 1e-3


@pytest.mark.parametrize("key", measured.NETWORKS)
def test_logits(key: str) -> None:
    assert measured.network_difference(key) <= FORWARD


def test_discriminator() -> None:
    assert measured.discriminator_difference() <= FORWARD


def test_entropy() -> None:
    assert measured.entropy_difference() <= FORWARD


@pytest.mark.parametrize("key", measured.TRAININGS)
def test_trajectory(key: str) -> None:
    assert measured.training_difference(key) <= TRAJECTORY


def test_optimizer_multiplicity() -> None:
    _, model, options, optimizer = measured.TRAININGS["train_multi_vanilla_released"]
    method = measured.golden_method(model, options, optimizer)
    groups = method.optimizers()["segmenter"].param_groups
    counts = Counter({group["repeats"]: 0 for group in groups})
    names = {id(p): name for name, p in method.segmenter.network.named_parameters()}
    repeats = {names[id(p)]: group["repeats"] for group in groups for p in group["params"]}
    counts.update(repeats.values())
    assert {str(k): v for k, v in counts.items()} == measured.adaptsegnet["optimizer_multiplicity"]
    for name, expected in measured.adaptsegnet["multiplicity_examples"].items():
        assert repeats[name] == expected


def test_every_figure_is_checked() -> None:
    checked = {
        *measured.TRAININGS,
        *measured.NETWORKS,
        "discriminator",
        "entropy_map",
        "entropy_loss",
        "optimizer_multiplicity",
        "multiplicity_examples",
    }
    assert set(measured.adaptsegnet) | set(measured.advent) == checked
