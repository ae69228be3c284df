"""Several experiments and seeds side by side: train or reuse runs, then one table and one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig, TrainConfig, to_dict
from adaptseg.distributed import is_main
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment, with_absolute_paths
from adaptseg.methods.configuration import build_config
from adaptseg.models.devices import choose_device
from adaptseg.reports.seed_runs import SeedRuns, cost_rows, table_rows
from adaptseg.text import for_markdown
from adaptseg.training.checkpoint import differences, saved_checkpoints
from adaptseg.training.loop import train

MOST_SEEDS = 1000


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of `3` (0, 1, 2) or of a list such as `1,5,7`; `5,` is seed 5 alone.

    Raises:
        InputError: the text is neither.
    """
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError as error:
        raise InputError(f"--seeds {text!r}: give a number of seeds, or a list such as 1,5,7 or 5,") from error
    is_number = "," not in text
    if is_number and numbers[0] > MOST_SEEDS:
        raise InputError(f"--seeds {text!r}: is a number of seeds, at most {MOST_SEEDS}; one seed is --seeds {text},")
    seeds = list(range(numbers[0])) if is_number else numbers
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text!r}: give at least one seed, none negative or twice")
    return seeds


def train_and_report(config: ExperimentConfig, run: Path, resume: bool = False, allow_changes: bool = False) -> None:
    """Train as `training.loop.train` does, see what can be trusted, and write the page where `train.report` asks."""
    train(config, run, resume, allow_changes)
    if not is_main():
        return
    from adaptseg.reports.trust import trust_at_the_end  # Draws: matplotlib would delay the first step.

    trust_at_the_end(run, choose_device(config.train.device))
    if config.train.report:
        from adaptseg.reports.page import report_at_the_end

        report_at_the_end(run, choose_device(config.train.device))


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
        if not (reuse and is_finished(run, seeded)):
            print(f"{name}, seed {seed} -> {run}", flush=True)
            train_and_report(seeded, run, resume=reuse and bool(saved_checkpoints(run)))
        runs.append(run)
        results.append(json.loads((run / "result.json").read_text()))
    return SeedRuns(name, tuple(runs), tuple(results))


def is_finished(run: Path, config: ExperimentConfig) -> bool:
    """Return whether a run is complete.

    Raises:
        InputError: it is, but has another configuration.
    """
    if not (run / "result.json").is_file():
        return False
    stored = build_config(read_experiment(str(run))[1])
    if config.target.value_range is None:  # Training has measured it.
        config = replace(config, target=replace(config.target, value_range=stored.target.value_range))
    asked = with_absolute_paths(to_dict(config), Path.cwd())
    # As JSON: keys of a label map are numbers in one file and text in another.
    differing = differences(*(json.loads(json.dumps(content)) for content in (to_dict(stored), asked)))
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


def write_comparison(columns: Sequence[SeedRuns], out: Path, settings: TrainConfig) -> list[Path]:
    """Write `comparison.json`, `comparison.md` and, with `train.report`, `report.html` into `out`; return the files."""
    summaries = [column.summary() for column in columns]
    write_text(out / "comparison.json", json.dumps(summaries, indent=2) + "\n")
    lines = [
        f"| IoU, % | {' | '.join(for_markdown(column.name) for column in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(
            f"| {for_markdown(name)} | {' | '.join(texts)} |"
            for name, texts in (*table_rows(columns), *cost_rows(columns))
        ),
    ]
    write_text(out / "comparison.md", "\n".join(lines) + "\n")
    written = [out / "comparison.md"]
    if settings.report:
        from adaptseg.reports.comparison import report_on_columns

        written += report_on_columns(columns, out / "report.html", settings.device)
    return written
