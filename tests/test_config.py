from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adaptseg.config import DomainConfig, ExperimentConfig, MethodConfig, ModelConfig, OptimizerConfig, TrainConfig
from adaptseg.errors import InputError


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DomainConfig, {"size": (64, 0)}, r"size .*\[width, height\]"),
        (DomainConfig, {"size": (64,)}, r"size .*\[width, height\]"),
        (DomainConfig, {"size": (10_000_000, 11)}, r"size .*at most 100000000 pixels"),
        *((DomainConfig, {"root": root}, "root is ") for root in ("a\0b", "x" * 300, "x/" * 3000)),
        (DomainConfig, {"count": 0}, "count is 0"),
        (DomainConfig, {"count": 10**9}, "count is 1000000000"),
        *(
            (DomainConfig, {"split": ["train", name]}, "split")
            for name in ("..", "a/../b", "/tmp", "{key}", "a\0", "x" * 300)
        ),
        (DomainConfig, {"label_map": {70000: "road"}}, "label_map has the label value 70000"),
        (DomainConfig, {"label_map": {-1: "road"}}, "label_map has the label value -1"),
        (ModelConfig, {"backbone": "resnet19"}, r"model\.backbone is 'resnet19'; choose one of resnet18, "),
        (ModelConfig, {"levels": 3}, r"model\.levels is 3; choose one of 1, 2"),
        (ModelConfig, {"aspp_branches": 3}, r"model\.aspp_branches is 3"),
        (ModelConfig, {"bottleneck_stride": "third"}, r"model\.bottleneck_stride"),
        (ModelConfig, {"batch_norm": "off"}, r"model\.batch_norm"),
        (ModelConfig, {"preprocessing": "none"}, r"model\.preprocessing"),
        (ModelConfig, {"width": 3}, r"model\.width is 3"),
        (ModelConfig, {"width": 10**6}, r"model\.width is 1000000"),
        (ModelConfig, {"backbone": "vgg16"}, r"set model\.levels to 1"),
        (OptimizerConfig, {"name": "lion"}, r"optimizer\.name is 'lion'; choose sgd, adam or adamw"),
        (OptimizerConfig, {"lr": 0.0}, r"optimizer\.lr is 0"),
        (OptimizerConfig, {"lr": float("nan")}, r"optimizer\.lr is nan"),
        (OptimizerConfig, {"momentum": -0.1}, r"optimizer\.momentum is -0.1"),
        (OptimizerConfig, {"momentum": 1.0}, r"optimizer\.momentum is 1.0; give a number from 0 to below 1"),
        (OptimizerConfig, {"lr": float("inf")}, r"optimizer\.lr is inf"),
        (OptimizerConfig, {"weight_decay": float("nan")}, r"optimizer\.weight_decay is nan"),
        (TrainConfig, {"rare_class_temperature": float("inf")}, r"train\.rare_class_temperature is inf"),
        (MethodConfig, {"name": "x", "fourier_beta": -0.1}, r"method\.fourier_beta is -0.1; give a number from 0 to 1"),
        (OptimizerConfig, {"weight_decay": -1.0}, r"optimizer\.weight_decay"),
        (OptimizerConfig, {"classifier_lr_factor": -1.0}, r"optimizer\.classifier_lr_factor"),
        (OptimizerConfig, {"name": "adam", "repeated_updates": True}, r"set optimizer\.name to sgd"),
        *((TrainConfig, {key: 0}, rf"train\.{key} is 0; give at least 1") for key in ("steps", "batch", "log_every")),
        *((TrainConfig, {key: 0}, rf"train\.{key} is 0") for key in ("checkpoint_every", "evaluate_every", "keep")),
        (TrainConfig, {"workers": -1}, r"train\.workers is -1"),
        (TrainConfig, {"power": -0.5}, r"train\.power is -0.5"),
        (TrainConfig, {"steps": 9, "schedule_steps": 8}, r"train\.schedule_steps is 8, less than train\.steps 9"),
        (TrainConfig, {"scale_jitter": (2.0, 0.5)}, r"train\.scale_jitter is \[2\.0, 0\.5\]; give the least"),
        (TrainConfig, {"scale_jitter": (0.0, 1.0)}, r"train\.scale_jitter"),
        (TrainConfig, {"scale_jitter": (1.0,)}, r"train\.scale_jitter"),
        (TrainConfig, {"source_jitter": 1.5}, r"train\.source_jitter is 1\.5; give 0"),
        (TrainConfig, {"precision": "16"}, r"train\.precision is '16'; choose"),
    ],
)
def test_impossible_values_name_the_key_and_the_cure(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        kind(**options)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def experiment(**options: Any) -> ExperimentConfig:
    return ExperimentConfig(label_space="camvid11", method=MethodConfig(name="source_only"), **options)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_impossible_seed(seed: int) -> None:
    with pytest.raises(InputError, match="seed is"):
        experiment(source=DomainConfig(), seed=seed)


def test_roles_of_domains() -> None:
    config = experiment(
        source=DomainConfig(layout="streets", root="game", count=5),
        target=DomainConfig(layout="camvid", root="{data}/x", size=(64, 48), split=["train"], include=["a*"], count=3),
        evaluation=DomainConfig(split=["test"]),
        data="/somewhere",
        prepared=None,
    )
    assert config.domain("source").labelled is True
    assert replace(config, prepared="{data}/p").domain("evaluation").prepared == "/somewhere/p"
    assert config.domain("target") == DomainConfig(
        layout="camvid", root="/somewhere/x", size=(64, 48), split=["train"], include=["a*"], count=3, labelled=False
    )
    assert config.domain("evaluation") == DomainConfig(
        layout="camvid", root="/somewhere/x", size=(64, 48), split=["test"], labelled=True
    )
    with pytest.raises(InputError, match=r"target\.layout is missing"):
        experiment(source=config.source).domain("target")
