"""Trainings with labelled target images: every method learns from them, and resuming is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from adaptseg.cli import main
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.export.export import training_facts
from adaptseg.methods import METHODS
from adaptseg.methods.configuration import build_config
from adaptseg.reports.page import facts
from adaptseg.reports.runs import read_run
from adaptseg.segmenter.checkpoint_card import read_card
from adaptseg.segmenter.hub import export_card
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.model_card import model_card
from adaptseg.training.dry_run import dry_run
from adaptseg.training.loop import train
from tests.conftest import CLASSES, logged_iterations, write_images
from tests.training.test_loop import interrupted, metrics, weights


@pytest.fixture
def labelled(experiment: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return the experiment with three labelled target images."""
    write_images(tmp_path / "labelled", ["p", "q", "r"], labels=True)
    experiment["target_labelled"] = {"root": str(tmp_path / "labelled"), "classes": CLASSES}
    return experiment


@pytest.mark.parametrize(("method", "workers"), [("source_only", 0), ("adaptsegnet", 2), ("dacs", 0)])
def test_resumed_run_is_bit_identical(
    method: str, workers: int, labelled: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--method.name={method}", f"--train.workers={workers}", "--method.lambda_seg=[1.0]"]
    config = build_config(labelled, options)
    train(config, tmp_path / "unbroken")
    interrupted(config, tmp_path / "resumed", monkeypatch, after=2)
    train(config, tmp_path / "resumed", resume=True)
    expected, actual = weights(tmp_path / "unbroken"), weights(tmp_path / "resumed")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert metrics(tmp_path / "unbroken") == metrics(tmp_path / "resumed")
    assert all(line["labelled1"] > 0 for line in logged_iterations(tmp_path / "resumed"))
    assert json.loads((tmp_path / "resumed" / "result.json").read_text())["labelled"] == 3
    assert build_config(read_experiment(str(tmp_path / "resumed"))[1]).has_target_labelled
    without = build_config({**labelled, "target_labelled": {}}, options)
    train(without, tmp_path / "without")
    assert "labelled" not in json.loads((tmp_path / "without" / "result.json").read_text())
    assert any(not torch.equal(expected[name], other) for name, other in weights(tmp_path / "without").items())


def test_labels_alone(labelled: dict[str, Any], tmp_path: Path) -> None:
    del labelled["source"]
    train(build_config(labelled, ["--method.name=dacs", "--method.lambda_seg=[1.0]"]), tmp_path / "run")
    assert "labelled1" not in logged_iterations(tmp_path / "run")[-1]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["labelled"] == 3
    again = build_config(read_experiment(str(tmp_path / "run"))[1])
    assert again.labels_alone
    train(again, tmp_path / "run", resume=True)
    assert facts(read_run(tmp_path / "run"))["labelled target images"] == "3"
    segmenter = load_model(tmp_path / "run")
    card = model_card(export_card(segmenter, training_facts(str(tmp_path / "run"), segmenter)[1]))
    assert "Trained on a few labelled images, adapted to unlabelled ones of the same domain by `dacs`." in card
    assert "- target labelled: own images (3 images, labelled)" in card
    assert "- source" not in card


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"vfm_uda", "distill", "feature_level"}))
def test_one_step_of_every_method(method: str, labelled: dict[str, Any], tmp_path: Path) -> None:
    options = [f"--method.name={method}", "--method.lambda_seg=[1.0]"]
    lines = list(dry_run(build_config(labelled, options), tmp_path / "run"))
    (step,) = [line for line in lines if line.startswith("one step")]
    assert "labelled1 " in step
    assert any(line.startswith("labelled    3 images") for line in lines)
    assert any("1 labelled on cpu" in line for line in lines)
    assert any("lambda_labelled 1.0" in line for line in lines)


def test_without_them_nothing_is_said(experiment: dict[str, Any], tmp_path: Path) -> None:
    assert not any(
        "labelled1" in line or "lambda_labelled" in line for line in dry_run(build_config(experiment), tmp_path)
    )


def test_a_run_of_a_version_without_these_keys_is_resumed(experiment: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(build_config(experiment, ["--train.steps=2", "--train.schedule_steps=4"]), run)
    folder = run / "checkpoints" / "step-000002"
    card = read_card(folder)
    new = ("target_labelled", "train.labelled_share", "train.labelled_scale", "method.lambda_labelled")
    for key in new:
        *above, name = key.split(".")
        del (card["config"][above[0]] if above else card["config"])[name]
    del card["xxh3_128"]
    (folder / "checkpoint.json").write_text(json.dumps(card))
    train(build_config(experiment), run, resume=True)
    with pytest.raises(InputError, match=r"train\.labelled_share: 0\.25 -> 0\.5"):
        train(build_config(experiment, ["--train.labelled_share=0.5"]), run, resume=True)


def test_check_and_keys(labelled: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(labelled))
    main(["check", str(tmp_path / "own.yaml")])
    assert "target_labelled" in capsys.readouterr().out
    main(["train", str(tmp_path / "own.yaml"), "--keys"])
    out = capsys.readouterr().out
    assert all(key in out for key in ("target_labelled", "labelled_share", "lambda_labelled"))
