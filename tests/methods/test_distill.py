"""Distillation: the loss by hand, teachers averaged, checkpoints that know their teachers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptseg.cli import main
from adaptseg.config import DomainConfig
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.distill import digest, scales_for
from adaptseg.models.own_network import network_given
from adaptseg.segmenter.segmenter import Segmenter
from adaptseg.segmenter.weights import save_segmenter
from tests.conftest import CLASSES, random_batch
from tests.own_networks import UNet


def teacher(experiment: dict[str, Any], folder: Path, seed: int, classes: list[str] = CLASSES) -> Segmenter:
    """Write a network with random weights, whose classifier says something, as a checkpoint; return it."""
    segmenter = build_segmenter(build_config(experiment | {"seed": seed}))
    torch.manual_seed(seed)
    for parameter in segmenter.network.classifiers()[0].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    segmenter.label_space = LabelSpace("own", tuple(classes))
    folder.mkdir()
    save_segmenter(folder, segmenter)
    return segmenter.eval()


def distilled(experiment: dict[str, Any], *teachers: Path, **options: Any) -> dict[str, Any]:
    method = {"name": "distill", "lambda_seg": [1.0], "teachers": [str(path) for path in teachers], **options}
    return experiment | {"method": method, "model": experiment["model"] | {"width": 4}}


def test_step_by_hand(experiment: dict[str, Any], tmp_path: Path) -> None:
    teachers = [teacher(experiment, tmp_path / f"t{seed}", seed) for seed in (1, 2)]
    config = build_config(
        distilled(experiment, tmp_path / "t1", tmp_path / "t2", temperature=2.0, lambda_soft=0.5, lambda_seg=[0.7])
    )
    method: Any = build_method(build_segmenter(config), config).train()
    assert not [name for name in method.state_dict() if "teacher" in name and name != "teachers_digest"]
    plain = build_segmenter(config).train()
    source, target = random_batch(0, True), random_batch(1, False)
    losses = method.step(source, target)

    assert source["label"] is not None
    seg = functional.cross_entropy(plain(source["image"])[0], source["label"], ignore_index=255)
    with torch.no_grad():
        soft = torch.stack([torch.softmax(network(target["image"])[0] / 2, 1) for network in teachers]).mean(0)
    logs = torch.log(torch.softmax(plain(target["image"])[0] / 2, 1))
    kl = (soft * (soft.log() - logs)).sum() / (2 * 48 * 64)
    (0.7 * (seg + 0.5 * 4 * kl)).backward()  # type: ignore[no-untyped-call]
    assert losses["soft"].item() == pytest.approx(4 * kl.item(), rel=1e-3)
    assert losses["seg1"].item() == pytest.approx(seg.item(), rel=1e-4)
    for (name, p), q in zip(method.segmenter.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6, msg=name)
    assert all(parameter.grad is None for network in method.teachers for parameter in network.parameters())


def test_the_teacher_sees_images_as_in_its_training(experiment: dict[str, Any], tmp_path: Path) -> None:
    larger = {**experiment, "evaluation": experiment["evaluation"] | {"size": [128, 96]}}
    network = teacher(larger, tmp_path / "t", 1)
    experiment["target"]["size"] = [64, 48]
    config = build_config(distilled(experiment, tmp_path / "t"))
    method: Any = build_method(build_segmenter(config), config)
    images = random_batch(0, False)["image"]
    doubled = functional.interpolate(images.float(), scale_factor=2, mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = network.network(network.preprocess(doubled))[-1]
    expected = network.upsample(logits, (48, 64)).softmax(1)
    torch.testing.assert_close(method.soft_labels(images), expected)


@pytest.mark.parametrize(
    ("box", "resize", "size", "squeezed", "expected"),
    [
        ((240, 180), "keep", (192, 144), None, (1.25, 1.25)),
        ((512, 288), "keep", (240, 136), None, (288 / 136, 288 / 136)),  # Of one ratio but for rounding.
        ((512, 256), "squeeze", (240, 180), "squeeze", (256 / 180, 512 / 240)),
        ((512, 256), "height", (240, 180), None, (256 / 180, 256 / 180)),
        (None, "keep", (192, 144), None, (1, 1)),
        (None, "keep", None, None, (1, 1)),
        ((512, 256), "keep", (240, 180), None, r"size 240x180 has another ratio; .* such as \[288, 144\]"),
        ((512, 256), "squeeze", (240, 180), None, "scaled by resize: keep; set target.resize to squeeze"),
        ((512, 256), "keep", (240, 120), "squeeze", "scaled by resize: squeeze; set target.resize to keep"),
        ((512, 256), "keep", None, None, r"have their own size; set target\.size, such as to \[512, 256\]"),
    ],
)
def test_scales(box: Any, resize: str, size: Any, squeezed: str | None, expected: Any, experiment: Any) -> None:
    """Where photographs of another ratio than the boxes' would have factors of their own, nothing is guessed."""
    network = build_segmenter(build_config(experiment))
    network.input_size, network.resize = box, resize
    target = DomainConfig(layout="folder", size=size, resize=squeezed)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            scales_for(network, target)
    else:
        assert scales_for(network, target) == expected


def test_a_digest_of_any_type(experiment: dict[str, Any]) -> None:
    network = build_segmenter(build_config(experiment))
    whole = digest((network,))
    assert not torch.equal(digest((network.bfloat16(),)), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "method.teachers is empty; name finished runs"),
        ({"teachers": ["absent"]}, "absent: no such file or folder"),
        ({"temperature": 0.0}, "method.temperature is 0.0"),
        ({"lambda_soft": -1.0}, "method.lambda_soft is -1.0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, experiment: dict[str, Any]) -> None:
    def build() -> None:
        config = build_config(distilled(experiment, **options))
        build_method(build_segmenter(config), config)

    with pytest.raises(InputError, match=message):
        build()


def test_other_classes(experiment: dict[str, Any], tmp_path: Path) -> None:
    teacher(experiment, tmp_path / "t", 1, ["road", "sky", "car"])
    config = build_config(distilled(experiment, tmp_path / "t"))
    with pytest.raises(InputError, match=r"t has 3 classes \(road, sky, car, …\), the student 3 \(road, car, sky, …\)"):
        build_method(build_segmenter(config), config)


def test_command_line_and_resuming(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A student is trained like any run; its checkpoints hold no teacher, and know theirs."""
    teacher(experiment, tmp_path / "t", 1)
    run, yaml = tmp_path / "student", str(tmp_path / "own.yaml")
    command = ["distill", str(tmp_path / "t"), "--into", yaml, "--out", str(run), "--model.width=4"]
    main([*command, "--dry-run"])
    assert "distill, lambda_seg" in capsys.readouterr().out
    main([*command, "--train.steps=2", "--train.schedule_steps=4"])
    result = json.loads((run / "result.json").read_text())
    assert (result["method"], result["step"]) == ("distill", 2)
    with pytest.raises(SystemExit):
        main(command)
    assert "holds a run already" in capsys.readouterr().err
    kept = (run / "checkpoints" / "last" / "method.safetensors").stat().st_size
    assert kept < 1000, "a teacher is in the checkpoint"
    main([*command, "--resume"])
    whole = tmp_path / "whole"
    main([part if part != str(run) else str(whole) for part in command])
    last = "checkpoints/last/segmenter.safetensors"
    assert (run / last).read_bytes() == (whole / last).read_bytes()
    (tmp_path / "t").rename(tmp_path / "old")
    teacher(experiment, tmp_path / "t", 2)
    with pytest.raises(SystemExit):
        main([*command, "--resume", "--train.steps=4"])
    assert "method.teachers: their weights are not those that this run began with" in capsys.readouterr().err


def test_a_teacher_that_was_given_in_python_is_no_copy_of_the_student(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    def given(name: str) -> Any:
        model = {"factory": f"adapt:{name}", "levels": 1, "preprocessing": "imagenet", "multiple_of": 4}
        return network_given(UNet(3, 4), f"adapt:{name}"), experiment | {"model": model}

    network, content = given("Large")
    (tmp_path / "t").mkdir()
    with network:
        save_segmenter(tmp_path / "t", build_segmenter(build_config(content)))
    network, content = given("Small")
    config = build_config(content | {"method": distilled(experiment, tmp_path / "t")["method"]})
    with network, pytest.raises(InputError, match=r"its network \(Large\) was given in Python; give it again"):
        build_method(build_segmenter(config), config)
