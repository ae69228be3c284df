"""TensorBoard's pictures, and trackers for real, without a network: wandb offline, MLflow in a data base file."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adaptseg.config import TrainConfig
from adaptseg.data.dataset import Domain
from adaptseg.errors import InputError
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.predict.predictions import prediction_strip
from adaptseg.segmenter.images import overlay
from adaptseg.training import trackers
from adaptseg.training.loop import train
from adaptseg.training.run_log import RunLog
from tests.conftest import write_images

EVALUATED = ["--train.evaluate_every=2"]


def board(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize("method", ["adaptsegnet", "source_only"])
def test_tensorboard_has_figures_and_pictures(experiment: dict[str, Any], tmp_path: Path, method: str) -> None:
    train(build_config(experiment, [*EVALUATED, f"--method.name={method}"]), tmp_path / "run")
    events = board(tmp_path / "run")
    assert [event.step for event in events.Images("target")] == [2, 4]
    assert [event.step for event in events.Scalars("miou")] == [2, 4]
    images = 3 if method == "adaptsegnet" else 2  # of the target; without one, of the evaluation
    with Image.open(io.BytesIO(events.Images("target")[1].encoded_image_string)) as picture:
        assert picture.size == (images * 240, 2 * 180)


def test_tensorboard_shows_a_step_once_after_an_unclean_end(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = build_config(experiment)
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = RunLog(tmp_path, start, config)
        for step in steps:
            log.write(step, {"seg1": step + start / 10})
        log.close()
    events = board(tmp_path).Scalars("seg1")
    assert [(event.step, round(event.value, 1)) for event in events] == [(1, 1), (2, 2), (3, 3.2), (4, 4.2)]


def test_strip(experiment: dict[str, Any], tmp_path: Path) -> None:
    write_images(tmp_path / "target", [f"{n}" for n in range(9)], labels=False, size=(180, 180))
    config = build_config(experiment)
    segmenter = build_segmenter(config)
    domain = Domain(config.domain("target"), segmenter.label_space)
    states = torch.get_rng_state(), {name: value.clone() for name, value in segmenter.state_dict().items()}
    strip = prediction_strip(segmenter, domain, images=2)
    assert strip.shape == (360, 180 + 240, 3)  # 180x180 and 64x48
    assert segmenter.training
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(torch.equal(value, states[1][name]) for name, value in segmenter.state_dict().items())
    image = domain[0].image
    colors = segmenter.label_space.palette[segmenter.eval().predict(image)]
    np.testing.assert_array_equal(strip[:180, :180], image)
    np.testing.assert_array_equal(strip[180:, :180], overlay(image, colors))


def test_unknown_logger() -> None:
    with pytest.raises(InputError, match=r"train\.loggers has 'comet'; choose of wandb, mlflow"):
        TrainConfig(loggers=["comet"])


def test_missing_library(experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"train\.loggers: wandb is not installed; pip install 'adaptseg\[wandb\]'"):
        train(build_config(experiment, ["--train.loggers=[wandb]", "--train.evaluate_every=2"]), tmp_path / "run")


class Failing(trackers.Tracker):
    """A service that goes away at step 2."""

    name = "json"

    def open(self, run: Path, parameters: dict[str, Any], kept: str | None) -> str:
        return "id"

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step == 2:
            raise ConnectionError("gone")
        assert step == 1

    def log_picture(self, name: str, picture: Any, step: int) -> None:
        raise AssertionError("left out since step 2")


def test_a_service_that_fails_stops_no_training(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "wandb", Failing)
    monkeypatch.setattr(trackers, "require_trackers", lambda _: None)
    train(build_config(experiment, ["--train.loggers=[wandb]", "--train.evaluate_every=2"]), tmp_path / "run")
    assert capsys.readouterr().err.count("json gets no more figures: gone") == 1
    assert [event.step for event in board(tmp_path / "run").Images("target")] == [2, 4]


@pytest.fixture
def mlflow_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.chdir(tmp_path)  # Pictures go to ./mlruns.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_mlflow(experiment: dict[str, Any], tmp_path: Path, mlflow_client: Any) -> None:
    options = [*EVALUATED, "--train.loggers=[mlflow]"]
    train(build_config(experiment, [*options, "--train.schedule_steps=6"]), tmp_path / "night/run")
    longer = build_config(experiment, [*options, "--train.schedule_steps=6", "--train.steps=6"])
    train(longer, tmp_path / "night/run", resume=True)
    (run,) = mlflow_client.search_runs([mlflow_client.get_experiment_by_name("adaptseg").experiment_id])
    assert run.info.run_name == "night/run"
    assert run.info.status == "FINISHED"
    assert run.data.params["method.name"] == "adaptsegnet"
    assert run.data.params["train.steps"] == "4"
    assert [metric.step for metric in mlflow_client.get_metric_history(run.info.run_id, "seg1")] == [1, 2, 3, 4, 5, 6]
    assert [metric.step for metric in mlflow_client.get_metric_history(run.info.run_id, "miou")] == [2, 4]
    assert len(mlflow_client.list_artifacts(run.info.run_id, "images")) >= 3


def test_mlflow_knows_of_a_failure(experiment: dict[str, Any], tmp_path: Path, mlflow_client: Any) -> None:
    with pytest.raises(InputError, match=r"optimizer\.lr"):
        train(build_config(experiment, ["--optimizer.lr=1e30", "--train.loggers=[mlflow]"]), tmp_path / "run")
    (run,) = mlflow_client.search_runs([mlflow_client.get_experiment_by_name("adaptseg").experiment_id])
    assert run.info.status == "FAILED"


def test_wandb(experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(build_config(experiment, [*EVALUATED, "--train.loggers=[wandb]"]), tmp_path / "run")
    (folder,) = (tmp_path / "run/wandb").glob("offline-run-*")
    assert len(list((folder / "files/media/images").glob("target_*.png"))) == 2
    content = next(folder.glob("*.wandb")).read_bytes()
    assert all(name in content for name in (b"adaptsegnet", b"seg1", b"miou"))
    assert (tmp_path / "run/wandb.json").exists()
