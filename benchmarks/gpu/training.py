"""Part on a real training: do losses fall, is mIoU sane, in bf16 on the device."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from adaptseg.models.devices import processors
from adaptseg.training.loop import train
from adaptseg.training.run_log import read_log
from benchmarks.gpu.settings import Report, Settings
from benchmarks.methods import preset

FULL = (
    "--model.backbone=resnet101",
    "--model.width=64",
    "--source.size=[512,256]",
    "--target.size=[512,256]",
    "--train.batch=4",
    "--optimizer.lr=0.0005",
)
TINY = ("--source.size=[64,32]", "--target.size=[64,32]", "--source.count=8", "--target.count=8", "--train.batch=2")
TRIAL, SHARE = 30, 0.5
"""Steps of the trial that tells how fast the machine is, and the share of the part's time that the training gets."""


def training(settings: Settings, report: Report) -> None:
    """Train `streets` for about half of the part's time; report losses of the first and last tenth, and mIoU."""
    with TemporaryDirectory() as folder:
        trial = ["--train.steps=4"] if settings.tiny else [f"--train.steps={TRIAL}", "--evaluation.count=2"]
        train(preset("streets", [*overrides(settings), *trial]), Path(folder, "trial"))
        seconds = timed_lines(Path(folder, "trial"))[-1]["step_seconds"]
        steps = 4 if settings.tiny else max(100, int(settings.seconds * SHARE / seconds))
        scores = train(preset("streets", [*overrides(settings), f"--train.steps={steps}"]), Path(folder, "run"))
        lines = timed_lines(Path(folder, "run"))
    tenth = max(1, len(lines) // 10)
    for name in sorted(key for key in lines[-1] if key[-1].isdigit() and "/" not in key):
        first, last = (mean(line[name] for line in part) for part in (lines[:tenth], lines[-tenth:]))
        report({"name": name, "first": first, "last": last})
    report(
        {
            "name": "whole",
            "steps": steps,
            "step_seconds": mean(line["step_seconds"] for line in lines),
            "data_wait": mean(line["data_wait"] for line in lines),
            "miou": 100 * (scores.miou or 0.0),
        }
    )


def timed_lines(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log on training; the last of all is the evaluation's."""
    return [line for line in read_log(run) if "step_seconds" in line]


def overrides(settings: Settings) -> list[str]:
    """Return what is changed of the preset."""
    return [
        *(TINY if settings.tiny else FULL),
        f"--evaluation.count={2 if settings.tiny else 100}",
        f"--train.device={settings.device}",
        "--train.precision=bf16-mixed",
        f"--train.workers={0 if settings.tiny else min(8, processors())}",
        f"--train.log_every={1 if settings.tiny else 10}",
        "--train.report=false",
        "--train.tensorboard=false",
    ]
