"""The parts of the run, in the order of their worth, and what a part is told. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Report = Callable[[Row], None]
"""Keeps a row of figures at once, so that what comes after may fail."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a part is told."""

    device: str = "cuda"
    """cuda, cuda:N or cpu."""
    tiny: bool = False
    """Tiny networks and images, to try the run itself."""
    seconds: float = 60.0
    """After which the part is ended, finished or not."""

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part: a process of its own, which may run out of memory or time without harm to the others."""

    title: str
    function: str
    """Module and function below `benchmarks.gpu`."""
    seconds: float
    """At most."""
    columns: Mapping[str, str]
    """Of its table: key of a row to heading."""


SPEED = {
    "name": "way",
    "share": "share of the floor",
    "milliseconds": "ms a step",
    "ratio": "against plain",
    "images_per_second": "images/s",
    "teraflops": "TFLOP/s",
    "peak_gigabytes": "peak GB",
    "error": "",
}
STEP = "AdaptSegNet's step: ResNet-101, two levels, 1280x720 + 1024x512, batch 1 + 1"

PARTS: dict[str, Part] = {
    "machine": Part(
        title="Machine",
        function="steps.machine",
        seconds=30,
        columns={"name": "of", "value": "value", "error": ""},
    ),
    "step": Part(title=STEP, function="steps.step", seconds=75, columns=SPEED),
    "family": Part(
        title="Steps of self-training, at their presets' sizes", function="steps.family", seconds=150, columns=SPEED
    ),
    "golden": Part(
        title="Figures of the authors' code, TF32 off: largest relative difference",
        function="golden.golden",
        seconds=75,
        columns={"name": "figure", "difference": "difference", "allowed": "allowed", "ok": "kept", "error": ""},
    ),
    "waiting": Part(
        title="Does a step wait for the device?",
        function="steps.waiting",
        seconds=60,
        columns={"name": "preset", "waits": "waits", "error": ""},
    ),
    "evaluation": Part(
        title="Evaluation: ResNet-101, images at 1024x512, labels at 2048x1024",
        function="reading.evaluation",
        seconds=60,
        columns={"name": "what", "images_per_second": "images/s", "error": ""},
    ),
    "training": Part(
        title="A training: `streets`, ResNet-101, 512x256, bf16-mixed",
        function="training.training",
        seconds=150,
        columns={
            "name": "losses",
            "first": "first tenth",
            "last": "last tenth",
            "steps": "steps",
            "step_seconds": "s a step",
            "data_wait": "waiting for data",
            "miou": "mIoU, %",
            "error": "",
        },
    ),
    "input": Part(
        title="Input: PNG of 1914x1052 to batches at 1280x720",
        function="reading.loading",
        seconds=60,
        columns={"name": "what", "images_per_second": "images/s", "error": ""},
    ),
}
