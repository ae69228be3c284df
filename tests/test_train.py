from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adaptseg.checkpoint import save_checkpoint
from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.experiment import build_config
from adaptseg.train import read_losses, train


def weights(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / "last"
    return load_file(last / "segmenter.safetensors") | load_file(last / "method.safetensors")


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def interrupted(config: ExperimentConfig, run: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Train, but die right after the checkpoint of step `after`."""

    def save_and_die(run: Path, step: int, *arguments: Any) -> None:
        save_checkpoint(run, step, *arguments)
        if step == after:
            raise KeyboardInterrupt

    monkeypatch.setattr("adaptseg.train.save_checkpoint", save_and_die)
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


def test_old_checkpoints_are_deleted(experiment: dict[str, Any], tmp_path: Path) -> None:
    train(build_config(experiment, ["--train.checkpoint_every=1", "--train.keep=2"]), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last", "step-000003", "step-000004"]


def test_source_only_never_reads_the_target(experiment: dict[str, Any], tmp_path: Path) -> None:
    for path in (tmp_path / "target").rglob("*.png"):
        path.unlink()
    train(build_config(experiment, ["--method.name=source_only"]), tmp_path / "run")
    with pytest.raises(InputError, match="no images"):
        train(build_config(experiment), tmp_path / "adapted")


def test_losses_that_are_not_finite_stop_the_run() -> None:
    with pytest.raises(InputError, match="step 7: loss seg1 is nan"):
        read_losses({"adv1": torch.tensor(1.0), "seg1": torch.tensor(float("nan"))}, 7)
