from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods import build_method
from adaptseg.methods.adaptsegnet import AdaptSegNet
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.methods.dacs import DACS
from adaptseg.methods.losses import GUESSING_LOSS
from adaptseg.training.divergence import CollapseWatch, FiniteWatch
from adaptseg.training.loop import train
from tests.conftest import logged_iterations
from tests.training.test_loop import weights

NAN = float("nan")


def parameter_with_gradient(value: float) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([0.0, value, 1.0])
    return parameter


@pytest.mark.parametrize(("loss", "gradient"), [(NAN, 0.0), (float("inf"), 0.0), (1.0, NAN), (1.0, -float("inf"))])
def test_the_first_step_that_is_not_finite_is_named(loss: float, gradient: float) -> None:
    watch = FiniteWatch()
    watch.see(6, {"seg1": torch.tensor(1.0)}, [parameter_with_gradient(1.0)], ["good"])
    watch.check()
    watch.see(7, {"seg1": torch.tensor(1.0), "d1": torch.tensor(loss)}, [parameter_with_gradient(gradient)], ["a", "b"])
    watch.see(8, {"seg1": torch.tensor(NAN)}, [], ["later"])
    with pytest.raises(InputError, match=r"step 7: .*batch: a, b\)"):
        watch.check()
    watch.check()  # What was said is forgotten.


@pytest.mark.parametrize(
    ("gan", "loss", "advice"),
    [("vanilla", 0.6925, "cannot tell"), ("vanilla", 0.001, "it wins"), ("least_squares", 0.2505, "cannot tell")],
)
def test_collapse_is_told_once_and_only_after_long(gan: str, loss: float, advice: str) -> None:
    watch = CollapseWatch(GUESSING_LOSS[gan], patience=100)
    said = [line for step in range(0, 1000, 10) for line in watch.advice(step, {"d1": loss, "seg1": 0.0})]
    assert len(said) == 1
    assert "loss d1" in said[0]
    assert advice in said[0]
    assert "since step 0" in said[0]
    watch = CollapseWatch(GUESSING_LOSS[gan], patience=100)
    healthy = [0.45, loss]
    assert not [line for step in range(0, 1000, 10) for line in watch.advice(step, {"d1": healthy[step // 10 % 2]})]


def test_every_method_with_discriminators_is_watched() -> None:
    experiment = read_experiment("streets")[1]
    for gan in GUESSING_LOSS:
        config = build_config(experiment, [f"--method.gan={gan}"])
        assert build_method(build_segmenter(config), config).guessing_loss == GUESSING_LOSS[gan]
    plain = build_config(experiment, ["--method.name=source_only"])
    assert build_method(build_segmenter(plain), plain).guessing_loss is None
    assert not CollapseWatch(None, patience=0).advice(1, {"d1": 0.0})


def broken_at(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make AdaptSegNet's gradients and running statistics NaN at some calls of its step."""
    original, calls = AdaptSegNet.step, iter(range(10**6))

    def step(self: AdaptSegNet, source: Any, target: Any) -> dict[str, torch.Tensor]:
        losses = original(self, source, target)
        if next(calls) in steps:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(NAN)
            for buffer in self.buffers():
                if buffer.is_floating_point():
                    buffer.fill_(NAN)
        return losses

    monkeypatch.setattr(AdaptSegNet, "step", step)


def test_isolated_broken_steps_can_be_left_out(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at({1, 2}, monkeypatch)
    train(build_config(experiment, ["--train.skip_nonfinite=2"]), tmp_path / "run")
    assert all(bool(torch.isfinite(value.float()).all()) for value in weights(tmp_path / "run").values())
    lines = logged_iterations(tmp_path / "run")
    assert [line.get("skipped") for line in lines] == [None, 1, 2, 2]
    assert ["seg1" in line for line in lines] == [True, False, False, True]


def test_more_broken_steps_than_allowed_end_the_run(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at({1, 2}, monkeypatch)
    overrides = ["--train.skip_nonfinite=1", "--train.checkpoint_every=1"]
    with pytest.raises(InputError, match=r"step 3: a loss or gradient is not finite \(batch: \w, \w, \w, \w\)"):
        train(build_config(experiment, overrides), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last").resolve().name == "step-000002"
    assert all(bool(torch.isfinite(value.float()).all()) for value in weights(tmp_path / "run").values())


def test_left_out_steps_count_over_all_parts_of_a_run(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at({1, 2}, monkeypatch)
    overrides = ["--train.skip_nonfinite=1", "--train.checkpoint_every=1", "--train.schedule_steps=4"]
    train(build_config(experiment, [*overrides, "--train.steps=2"]), tmp_path / "run")
    with pytest.raises(InputError, match=r"step 3: a loss or gradient is not finite"):
        train(build_config(experiment, [*overrides, "--train.steps=4"]), tmp_path / "run", resume=True)


def test_a_teacher_counts_a_step_that_is_left_out(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DACS.iteration

    def iteration(self: DACS, *batches: Any) -> dict[str, torch.Tensor]:
        losses = original(self, *batches)
        return losses | {"mix": losses["mix"] * (NAN if int(self.teacher.updates) == 2 else 1)}

    monkeypatch.setattr(DACS, "iteration", iteration)
    experiment["method"] = {"name": "dacs"}
    overrides = ["--train.skip_nonfinite=1", "--train.checkpoint_every=1", "--train.schedule_steps=4"]
    train(build_config(experiment, [*overrides, "--train.steps=4"]), tmp_path / "unbroken")
    for steps in (2, 4):
        config = build_config(experiment, [*overrides, f"--train.steps={steps}"])
        train(config, tmp_path / "run", resume=steps > 2)
    expected, actual = weights(tmp_path / "unbroken"), weights(tmp_path / "run")
    assert int(actual["teacher.updates"]) == 4
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_the_batch_that_broke_the_network_is_named(experiment: dict[str, Any], tmp_path: Path) -> None:
    """A real overflow: the rate is far too high."""
    with pytest.raises(InputError, match=r"step \d: .*optimizer\.lr"):
        train(build_config(experiment, ["--optimizer.lr=1e30"]), tmp_path / "run")


def test_a_black_image_is_no_divergence(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "source" / "images").glob("*.png"):
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    train(build_config(experiment, ["--train.steps=2"]), tmp_path / "run")
