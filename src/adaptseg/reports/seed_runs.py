"""The finished runs of an experiment, one per seed, and the rows of the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptseg.training.run_log import training_cost


@dataclass(frozen=True)
class SeedRuns:
    """The finished runs of one experiment, one per seed."""

    name: str
    runs: tuple[Path, ...]
    results: tuple[dict[str, Any], ...]
    """Content of each `result.json`."""

    def cost(self) -> dict[str, float]:
        """Return seconds of training and megabytes at the peak, means over seeds, as the logs have them."""
        costs = [training_cost(run) for run in self.runs]
        return {key: statistics.mean(cost[key] for cost in costs) for key in costs[0]}

    @property
    def mious(self) -> list[float]:
        """MIoU per seed; empty where nothing was evaluated."""
        return [result["miou"] for result in self.results if result["miou"] is not None]

    def iou(self, name: str) -> float | None:
        """Mean over seeds of a class's IoU; none where no seed has one."""
        values = [value for result in self.results if (value := result["iou"].get(name)) is not None]
        return statistics.mean(values) if values else None

    def summary(self) -> dict[str, Any]:
        """Return mean and standard deviation over seeds, and the mean IoU per class."""
        return {
            "name": self.name,
            "runs": [str(run) for run in self.runs],
            "mious": self.mious,
            "miou_mean": statistics.mean(self.mious) if self.mious else None,
            "miou_std": statistics.stdev(self.mious) if len(self.mious) > 1 else None,
            "iou": {name: self.iou(name) for name in self.results[0]["iou"]},
            "protocol": self.results[0]["protocol"]["name"],
            "steps": self.results[0].get("step"),
            "cost": self.cost(),
        }


def table_rows(columns: Sequence[SeedRuns]) -> Iterator[tuple[str, list[str]]]:
    """Yield (class or mIoU, one text per experiment) in per cent; `–` where a class does not occur.

    The classes that the protocol averages come first, then mIoU with its standard deviation over seeds.
    """
    for name in columns[0].results[0]["protocol"]["classes"]:
        values = [column.iou(name) for column in columns]
        yield name, ["–" if value is None else f"{100 * value:.1f}" for value in values]
    texts = []
    for column in columns:
        summary = column.summary()
        mean, deviation = summary["miou_mean"], summary["miou_std"]
        text = "–" if mean is None else f"{100 * mean:.1f}"
        texts.append(text if deviation is None else f"{text} ± {100 * deviation:.1f}")
    yield "mIoU", texts


def cost_rows(columns: Sequence[SeedRuns]) -> Iterator[tuple[str, list[str]]]:
    """Yield (what it costs, one text per experiment): iterations, seconds and memory of a training."""
    costs = [column.cost() for column in columns]
    yield "iterations", [str(column.results[0].get("step", "–")) for column in columns]
    yield "training, s", [f"{cost['seconds']:.0f}" for cost in costs]
    yield "memory, MB", [f"{cost['memory_mb']:.0f}" for cost in costs]
