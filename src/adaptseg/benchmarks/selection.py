"""How well label-free criteria choose: what their choice loses against the labels' choice, from the logs of runs.

    python -m adaptseg.benchmarks.selection RUN [RUN…]

Runs with `train.evaluate_every`: each evaluation is a snapshot. Those of equal folders but for seed-N are averaged.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptseg.config import CRITERIA
from adaptseg.errors import InputError
from adaptseg.reports.runs import run_name
from adaptseg.run_log import read_log
from adaptseg.selection import PREFIX, best_snapshot

LAST = "last iteration"


def losses(run: Path) -> dict[str, float]:
    """Return what each way of choosing loses: mIoU of the labels' choice less that of its own, in points.

    Raises:
        InputError: the run has no evaluations with label-free scores.
    """
    snapshots = [line for line in read_log(run) if "miou" in line and f"{PREFIX}{CRITERIA[0]}" in line]
    if len(snapshots) < 2:
        raise InputError(f"{run}: has no snapshots to choose from; train it with --train.evaluate_every=20, say")
    miou = {line["step"]: line["miou"] for line in snapshots}
    chosen: dict[str, int | None] = {name: best_snapshot(snapshots, name) for name in CRITERIA}
    choices = {LAST: max(miou), **{name: step for name, step in chosen.items() if step is not None}}
    return {name: 100 * (max(miou.values()) - miou[step]) for name, step in choices.items()}


def table(experiments: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Return a Markdown table: a row per way of choosing, best first.

    Columns are the mean loss of each experiment, given as one mapping of `losses` per seed; their mean; what that is
    against taking the last iteration; and the worst run.
    """
    rows: list[tuple[float, list[Any]]] = []
    last = statistics.mean(statistics.mean(run[LAST] for run in runs) for runs in experiments.values())
    for name in experiments[next(iter(experiments))][0]:
        means = [statistics.mean(run[name] for run in runs) for runs in experiments.values()]
        mean, worst = statistics.mean(means), max(run[name] for runs in experiments.values() for run in runs)
        cells = [*(f"{value:.2f}" for value in means), f"{mean:.2f}", f"{last - mean:+.2f}", f"{worst:.2f}"]
        rows.append((mean, [name.replace("_", " "), *cells]))
    head = ["chosen by", *experiments, "mean", "gain over last", "worst run"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *(cells for _, cells in sorted(rows, key=lambda row: row[0]))]
    return [f"| {' | '.join(line)} |" for line in lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of some runs."""
    parser = argparse.ArgumentParser("python -m adaptseg.benchmarks.selection", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path)
    experiments: dict[str, list[dict[str, float]]] = {}
    try:
        for run in parser.parse_args(arguments).runs:
            experiments.setdefault(run_name(run), []).append(losses(run))
    except InputError as error:
        print(f"adaptseg: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print("\n".join(table(experiments)))


if __name__ == "__main__":
    main()
