"""Where a training's figures and pictures go beside `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow.

Libraries are imported where they are used first: training does not wait for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig, flat, to_dict
from adaptseg.data.files import UInt8Array
from adaptseg.errors import InputError

PROJECT = "adaptseg"
MLFLOW_BATCH = 100
"""Parameters that MLflow takes at once."""


class TensorBoard:
    """Event files in the run folder's `tensorboard`."""

    def __init__(self, run: Path, start: int) -> None:
        """Hide what is there of step `start` and later ones: it will be written again."""
        self.folder, self.start = run / "tensorboard", start

    @cached_property
    def writer(self) -> Any:
        """The open event file."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.folder, purge_step=self.start)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add figures."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def log_picture(self, name: str, picture: UInt8Array, step: int) -> None:
        """Add a picture (H, W, 3)."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def finalize(self, status: str) -> None:
        """Write what is left."""
        if "writer" in vars(self):
            self.writer.close()


class Tracker:
    """A run of an experiment tracker; resumed trainings go on with the run whose id the run folder keeps."""

    name = ""
    """As in `train.loggers`; the module's name too."""

    def __init__(self, run: Path, config: ExperimentConfig, resumed: bool) -> None:
        """Begin a run with the configuration as its parameters, or go on with one."""
        self.library: Any = import_module(self.name)
        path = run / f"{self.name}.json"
        kept = json.loads(path.read_text())["id"] if resumed and path.exists() else None
        self.id = self.open(run, to_dict(config), kept)
        if self.id != kept:
            write_text(path, json.dumps({"id": self.id}) + "\n")

    def open(self, run: Path, parameters: dict[str, Any], kept: str | None) -> str:
        """Begin a run, or go on with the one of the id `kept`; return its id."""
        raise NotImplementedError

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add figures."""
        raise NotImplementedError

    def log_picture(self, name: str, picture: UInt8Array, step: int) -> None:
        """Add a picture (H, W, 3)."""
        raise NotImplementedError

    def finalize(self, status: str) -> None:
        """Say how the run ended: success or failed."""
        raise NotImplementedError


class WeightsAndBiases(Tracker):
    """A run of wandb (extra `wandb`); its environment variables, such as WANDB_MODE=offline, hold."""

    name = "wandb"

    def open(self, run: Path, parameters: dict[str, Any], kept: str | None) -> str:
        """Begin or go on with a run named by the run folder."""
        self.run = self.library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=_run_name(run),
            dir=run,
            config=parameters,
            id=kept,
            resume="allow",
        )
        return str(self.run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add figures."""
        self.run.log(dict(metrics), step=step)

    def log_picture(self, name: str, picture: UInt8Array, step: int) -> None:
        """Add a picture (H, W, 3)."""
        self.run.log({name: self.library.Image(picture)}, step=step)

    def finalize(self, status: str) -> None:
        """Send what is left."""
        self.run.finish(exit_code=int(status != "success"))


class MLflow(Tracker):
    """A run of MLflow (extra `mlflow`), at MLFLOW_TRACKING_URI or in `mlflow.db` of the current folder."""

    name = "mlflow"

    def open(self, run: Path, parameters: dict[str, Any], kept: str | None) -> str:
        """Begin or go on with a run named by the run folder."""
        self.client = self.library.MlflowClient()
        if kept is not None:
            self.client.update_run(kept, status="RUNNING")
            return kept
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(project)
        self.id = str(self.client.create_run(number, run_name=_run_name(run)).info.run_id)
        entities = [self.library.entities.Param(key, str(value)) for key, value in flat(parameters).items()]
        for start in range(0, len(entities), MLFLOW_BATCH):
            self.client.log_batch(self.id, params=entities[start : start + MLFLOW_BATCH])
        return self.id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add figures."""
        now = self.library.utils.time.get_current_time_millis()
        values = [self.library.entities.Metric(name, float(value), now, step) for name, value in metrics.items()]
        self.client.log_batch(self.id, metrics=values)

    def log_picture(self, name: str, picture: UInt8Array, step: int) -> None:
        """Add a picture (H, W, 3)."""
        self.client.log_image(self.id, picture, key=name, step=step)

    def finalize(self, status: str) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.id, "FINISHED" if status == "success" else "FAILED")


TRACKERS: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (WeightsAndBiases, MLflow)}


def require_trackers(names: list[str]) -> None:
    """Raise `InputError` where the library of a tracker is missing."""
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(f"train.loggers: {name} is not installed; pip install 'adaptseg[{name}]'") from error


def open_trackers(run: Path, config: ExperimentConfig, resumed: bool) -> list[Tracker]:
    """Begin or go on with the runs of `train.loggers`.

    Raises:
        InputError: a library is missing, or a service cannot be reached.
    """
    require_trackers(config.train.loggers)
    opened = []
    for name in config.train.loggers:
        try:
            opened.append(TRACKERS[name](run, config, resumed))
        except Exception as error:  # Of networks, services and data bases: many kinds.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"train.loggers: {name} does not begin ({reason}); check its environment variables, or leave it out"
            ) from error
    return opened


def _run_name(run: Path) -> str:
    return "/".join(run.resolve().parts[-2:])
