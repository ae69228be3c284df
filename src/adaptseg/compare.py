"""Several experiments and seeds side by side: train or reuse runs, then one table and one picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptseg.atomic import write_text
from adaptseg.checkpoint import differences, saved_checkpoints
from adaptseg.config import ExperimentConfig, TrainConfig, to_dict
from adaptseg.errors import InputError
from adaptseg.experiment import build_config, read_experiment
from adaptseg.run_log import training_cost
from adaptseg.train import train

MOST_SEEDS = 1000


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


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of `3` (0, 1, 2) or of a list such as `1,5,7`.

    Raises:
        InputError: the text is neither.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds {text!r}: give a number of seeds, or a list such as 1,5,7") from error
    if len(numbers) == 1 and numbers[0] > MOST_SEEDS:
        raise InputError(f"--seeds {text!r}: is a number of seeds, at most {MOST_SEEDS}; one seed is --seed {text}")
    seeds = list(range(numbers[0])) if len(numbers) == 1 else numbers
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text!r}: give at least one seed, none negative or twice")
    return seeds


def train_seeds(name: str, config: ExperimentConfig, out: Path, seeds: Sequence[int], reuse: bool) -> SeedRuns:
    """Train `config` once per seed into `out`/seed-N.

    Args:
        name: of the experiment, for the table.
        config: everything but the seed.
        out: folder of the runs.
        seeds: one run each.
        reuse: take finished runs of the same configuration as they are, and go on with unfinished ones.

    Raises:
        InputError: as `train`, or a run there has another configuration.
    """
    runs, results = [], []
    for seed in seeds:
        run = out / f"seed-{seed}"
        seeded = replace(config, seed=seed, out=None)
        if not (reuse and _finished(run, seeded)):
            print(f"{name}, seed {seed} -> {run}", flush=True)
            train(seeded, run, resume=reuse and bool(saved_checkpoints(run)))
        runs.append(run)
        results.append(json.loads((run / "result.json").read_text()))
    return SeedRuns(name, tuple(runs), tuple(results))


def _finished(run: Path, config: ExperimentConfig) -> bool:
    """Whether the run is complete; raises where its configuration is another one."""
    if not (run / "result.json").is_file():
        return False
    stored = build_config(read_experiment(str(run))[1])
    differing = differences(to_dict(stored), to_dict(config))
    if stored.train.steps != config.train.steps:
        differing.append(f"train.steps: {stored.train.steps} -> {config.train.steps}")
    if differing:
        raise InputError(
            f"{run}: holds a run of another configuration ({'; '.join(differing)}); choose another folder with --out"
        )
    return True


def compare(experiments: Sequence[str], overrides: Sequence[str], out: Path, seeds: Sequence[int]) -> list[SeedRuns]:
    """Train or reuse every experiment for every seed; runs lie in `out`/NAME/seed-N."""
    configs = [(name, build_config(content, overrides)) for name, content in map(read_experiment, experiments)]
    return [train_seeds(name, config, out / name, seeds, reuse=True) for name, config in configs]


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


def write_comparison(columns: Sequence[SeedRuns], out: Path, settings: TrainConfig) -> list[Path]:
    """Write `comparison.json`, `comparison.md` and, with `train.report`, `report.html` into `out`; return the files."""
    summaries = [column.summary() for column in columns]
    write_text(out / "comparison.json", json.dumps(summaries, indent=2) + "\n")
    lines = [
        f"| IoU, % | {' | '.join(column.name for column in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(f"| {name} | {' | '.join(texts)} |" for name, texts in (*table_rows(columns), *cost_rows(columns))),
    ]
    write_text(out / "comparison.md", "\n".join(lines) + "\n")
    written = [out / "comparison.md"]
    if settings.report:
        from adaptseg.reports.comparison import report_on_columns  # The report knows of comparisons too.

        written += report_on_columns(columns, out / "report.html", settings.device)
    return written
