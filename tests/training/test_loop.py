from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.training.checkpoint import TrainingState, save_checkpoint
from adaptseg.training.loop import train
from tests.conftest import logged_iterations

THROUGHPUT = ("step_seconds", "images_per_second", "data_wait", "memory_mb")


def weights(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / "last"
    return load_file(last / "segmenter.safetensors") | load_file(last / "method.safetensors")


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in THROUGHPUT} for line in lines]


def logged_steps(run: Path) -> list[float]:
    """Return the steps of which losses are logged."""
    return [line["step"] for line in logged_iterations(run)]


def interrupted(config: ExperimentConfig, run: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Train, but die right after the checkpoint of step `after`."""

    def save_and_die(run: Path, state: TrainingState) -> None:
        save_checkpoint(run, state)
        if state.step == after:
            raise KeyboardInterrupt

    monkeypatch.setattr("adaptseg.training.loop.save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(config, run)
    monkeypatch.undo()


@pytest.mark.parametrize("method", ["source_only", "adaptsegnet"])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_is_bit_identical(
    method: str, workers: int, experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config(experiment, [f"--method.name={method}", f"--train.workers={workers}", "--train.steps=6"])
    train(config, tmp_path / "unbroken")
    interrupted(config, tmp_path / "resumed", monkeypatch, after=2)
    assert not (tmp_path / "resumed" / "result.json").exists()
    train(config, tmp_path / "resumed", resume=True)
    expected, actual = weights(tmp_path / "unbroken"), weights(tmp_path / "resumed")
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert metrics(tmp_path / "unbroken") == metrics(tmp_path / "resumed")
    results = [(tmp_path / run / "result.json").read_text() for run in ("unbroken", "resumed")]
    assert results[0] == results[1]


def test_resume_refuses_another_configuration(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment)
    train(config, tmp_path / "run")
    with pytest.raises(InputError, match=r"optimizer\.lr: 0\.001 -> 0\.002"):
        train(
            replace(config, optimizer=replace(config.optimizer, lr=0.002)),
            tmp_path / "run",
            resume=True,
        )
    with pytest.raises(InputError, match="no checkpoint to resume"):
        train(config, tmp_path / "nothing", resume=True)


def test_a_changed_configuration_can_be_allowed(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(build_config(experiment, ["--train.steps=2", "--train.schedule_steps=4"]), tmp_path / "run")
    changed = build_config(experiment, ["--optimizer.lr=0.002", "--train.steps=4"])
    train(changed, tmp_path / "run", resume=True, allow_changes=True)
    assert "goes on with changes: optimizer.lr: 0.001 -> 0.002" in capsys.readouterr().err
    rates = [line["lr/segmenter"] for line in metrics(tmp_path / "run") if "lr/segmenter" in line]
    factors = [(1 - step / 4) ** 0.9 for step in range(4)]
    assert rates == pytest.approx([0.001 * factors[0], 0.001 * factors[1], 0.002 * factors[2], 0.002 * factors[3]])
    stored = build_config(read_experiment(str(tmp_path / "run"))[1])
    assert stored == replace(changed, data=str(Path("data").absolute()))


def test_old_checkpoints_are_deleted(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment, ["--train.checkpoint_every=1", "--train.keep=2"])
    train(config, tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last", "step-000003", "step-000004"]


def test_source_only_never_reads_the_target(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "target").rglob("*.png"):
        path.unlink()
    train(build_config(experiment, ["--method.name=source_only"]), tmp_path / "run")
    with pytest.raises(InputError, match="no images"):
        train(build_config(experiment), tmp_path / "adapted")


@pytest.mark.parametrize("method", ["source_only", "adaptsegnet"])
def test_a_run_can_go_on_for_longer_on_the_same_schedule(
    method: str, experiment: dict[str, Any], tmp_path: Path
) -> None:
    options = [f"--method.name={method}", "--train.schedule_steps=6"]
    train(build_config(experiment, [*options, "--train.steps=6"]), tmp_path / "unbroken")
    train(build_config(experiment, [*options, "--train.steps=3"]), tmp_path / "longer")
    first = json.loads((tmp_path / "longer" / "result.json").read_text())
    assert first["step"] == 3
    train(build_config(experiment, [*options, "--train.steps=6"]), tmp_path / "longer", resume=True)
    expected, actual = weights(tmp_path / "unbroken"), weights(tmp_path / "longer")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert metrics(tmp_path / "unbroken") == metrics(tmp_path / "longer")
    assert logged_steps(tmp_path / "longer") == [1, 2, 3, 4, 5, 6]
    results = [(tmp_path / run / "result.json").read_text() for run in ("unbroken", "longer")]
    assert results[0] == results[1]


def test_the_seed_alone_decides(experiment: dict[str, Any], tmp_path: Path) -> None:
    for run, seed in (("a", 0), ("again", 0), ("other", 1)):
        torch.manual_seed(len(run))
        train(build_config(experiment, [f"--seed={seed}", "--train.steps=2"]), tmp_path / run)
    first, again, other = (weights(tmp_path / run) for run in ("a", "again", "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert (tmp_path / "a" / "result.json").read_text() == (tmp_path / "again" / "result.json").read_text()


def test_run_folder(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment, ["--train.evaluate_every=2", "--protocol=[road,sky]", "--train.schedule_steps=8"])
    scores = train(config, tmp_path / "run")
    stored = build_config(read_experiment(str(tmp_path / "run"))[1])
    assert stored == replace(config, data=str(Path("data").absolute()))  # Paths of a run are absolute.
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["miou"] == scores.miou
    assert {"miou", "iou", "pixel_accuracy", "protocol", "step", "seed", "method"} <= result.keys()
    assert result["protocol"]["classes"] == ["road", "sky"]
    assert set(result["iou"]) == {"road", "car", "sky"}
    assert all(value is None or 0 <= value <= 1 for value in result["iou"].values())
    assert result["miou"] == pytest.approx((result["iou"]["road"] + result["iou"]["sky"]) / 2)
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    lines = metrics(tmp_path / "run")
    # The poly schedule, read before the update.
    rates = [line["lr/segmenter"] for line in lines if "lr/segmenter" in line]
    assert rates == pytest.approx([0.001 * (1 - step / 8) ** 0.9 for step in range(4)])
    assert [line["step"] for line in lines if "miou" in line] == [2, 4]


def test_evaluations_in_between_average_the_protocol(experiment: dict[str, Any], tmp_path: Path) -> None:
    overrides = ["--train.evaluate_every=2", "--protocol=[road,sky]", "--train.schedule_steps=4"]
    train(build_config(experiment, [*overrides, "--train.steps=2"]), tmp_path / "short")
    train(build_config(experiment, [*overrides, "--train.steps=4"]), tmp_path / "long")
    between, _ = [line["miou"] for line in metrics(tmp_path / "long") if "miou" in line]
    assert between == json.loads((tmp_path / "short" / "result.json").read_text())["miou"]


def test_half_a_line_of_metrics_is_dropped(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config(experiment)
    interrupted(config, tmp_path / "run", monkeypatch, after=2)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "seg')
    train(config, tmp_path / "run", resume=True)
    assert logged_steps(tmp_path / "run") == [1, 2, 3, 4]


def test_interrupted_before_the_first_checkpoint(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither `train` nor `--resume` may be refused with a hint at the other."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    config = build_config(experiment)
    with monkeypatch.context() as patched:
        patched.setattr("adaptseg.training.checkpoint.save_segmenter", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints").exists()
    train(config, tmp_path / "run")
    assert logged_steps(tmp_path / "run") == [1, 2, 3, 4]


def test_a_network_that_breaks_down_replaces_no_checkpoint(experiment: dict[str, Any], tmp_path: Path) -> None:
    overrides = ["--optimizer.lr=1e30", "--train.log_every=100", "--train.checkpoint_every=1", "--train.keep=1"]
    with pytest.raises(InputError) as caught:
        train(build_config(experiment, overrides), tmp_path / "run")
    assert "step 2" in str(caught.value)
    assert "optimizer.lr" in str(caught.value)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-000001"]


def test_names_are_checked_before_training(experiment: dict[str, Any], tmp_path: Path) -> None:
    for override, message in (
        ("--protocol=[road,cat]", "no class 'cat'"),
        ("--protocol=nosuch", "'nosuch' is unknown"),
        ("--label_space=[road,car,skye]", "no label of the source is named 'skye', but .*road, car, sky"),
        ("--train.device=nosuch", r"train\.device 'nosuch'"),
    ):
        with pytest.raises(InputError, match=message):
            train(build_config(experiment, [override]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
