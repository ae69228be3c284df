"""The report of several runs: seeds of an experiment together, experiments side by side."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.models.devices import choose_device
from adaptseg.reports import charts
from adaptseg.reports.gallery import Gallery, colour, experiments_gallery
from adaptseg.reports.page import points, render, save, write_run_report
from adaptseg.reports.panels import MOST_PANELS, panels
from adaptseg.reports.runs import SOURCE_ONLY, Run, changed_keys, experiments, read_run
from adaptseg.reports.seed_runs import SeedRuns, cost_rows


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    text: str
    share: float = 0.0
    """Length of the bar behind it, 0 … 1."""
    is_best: bool = False


def write_report(paths: Sequence[Path], out: Path | None, baseline: Path | None, device: torch.device) -> Path:
    """Write the page of a run, or of several side by side.

    Args:
        paths: run folders.
        out: the HTML file; none: report.html in the only run's folder.
        baseline: the source-only run; none: looked for beside a run, or among several.
        device: where the networks predict the pictures.

    Returns:
        The file.

    Raises:
        InputError: a folder is no run, runs do not go into one table, or none of several is finished.
    """
    if len(paths) == 1:
        return write_run_report(paths[0], out, baseline, device)
    if out is None:
        raise InputError("--out FILE is needed for several runs, such as --out report.html")
    runs = [read_run(path) for path in dict.fromkeys([*([baseline] if baseline else []), *paths])]
    going = [f"{run.path} is not finished, and left out." for run in runs if run.result is None]
    if len(going) == len(runs):
        raise InputError(f"{runs[0].path}: not finished, as all the others; report on one run shows what is there")
    return save(comparison_page(experiments(runs), device, going), out)


def report_on_columns(columns: Sequence[SeedRuns], out: Path, device: str) -> list[Path]:
    """Write the page of experiments that were just trained and return it; what goes wrong is said in one line."""
    try:
        return [save(comparison_page(columns, choose_device(device)), out)]
    except Exception as error:  # As at the end of a training: the results are there all the same.
        print(f"adaptseg: no {out}: {InputError(f'{type(error).__name__}: {error}')}", file=sys.stderr)
        return []


def comparison_page(columns: Sequence[SeedRuns], device: torch.device, notes: Sequence[str] = ()) -> str:
    """Return the HTML of the page.

    Args:
        columns: finished experiments.
        device: where the networks predict the pictures.
        notes: what the page says first.

    Raises:
        InputError: the experiments have other classes, or a run's folder is broken.
    """
    runs = [[read_run(path) for path in column.runs] for column in columns]
    firsts = [seeds[0] for seeds in runs]
    for run in firsts:
        if run.classes != firsts[0].classes:
            raise InputError(f"{run.path}: has other classes than {firsts[0].path}; report on them apart")
    notes = [*notes, *_differences(firsts)]
    gallery: Gallery | None = None
    try:
        gallery = experiments_gallery([column.name for column in columns], firsts, device)
    except (InputError, OSError) as error:
        notes.append(f"No pictures: {error}")
    scored = {column.name: column.mious for column in columns if column.mious}
    space = label_space(firsts[0].config.label_space, firsts[0].config.colors)
    return render(
        "comparison.html",
        title="Comparison of " + ", ".join(column.name for column in columns),
        notes=notes,
        names=[column.name for column in columns],
        descriptions={column.name: run.config.description for column, run in zip(columns, firsts, strict=True)},
        runs={column.name: [str(run) for run in column.runs] for column in columns},
        dots=charts.seed_dots("seeds", "mIoU of each seed", scored) if scored else None,
        scores=score_rows(columns, firsts),
        costs=dict(cost_rows(columns)),
        classes=class_cells(columns),
        colours={name: colour(space, train_id) for train_id, name in enumerate(space.classes)},
        miou=panels("miou", runs, ["miou", *_keys(runs, "selection/")]) if _has_evaluations(runs) else [],
        losses=panels("loss", runs, _keys(runs, "")),
        gallery=gallery,
        changed=[changed_keys(run.config) for run in firsts],
    )


def _differences(firsts: Sequence[Run]) -> list[str]:
    """What makes the scores of experiments not comparable, in words."""
    kinds: dict[str, Callable[[Run], Any]] = {
        "evaluation data": lambda run: run.config.domain("evaluation"),
        "protocols": lambda run: (run.result or {}).get("protocol"),
        "numbers of iterations": lambda run: run.config.train.steps,
    }
    return [
        f"These experiments have different {name}."
        for name, of in kinds.items()
        if any(of(run) != of(firsts[0]) for run in firsts)
    ]


def _keys(runs: Sequence[Sequence[Run]], prefix: str) -> list[str]:
    return list(dict.fromkeys(key for seeds in runs for run in seeds for key in run.keys(prefix)))[:MOST_PANELS]


def _has_evaluations(runs: Sequence[Sequence[Run]]) -> bool:
    return any(len(run.points("miou")) > 1 or run.keys("selection/") for seeds in runs for run in seeds)


def score_rows(columns: Sequence[SeedRuns], firsts: Sequence[Run]) -> dict[str, list[Cell]]:
    """Return the rows of mIoU, each a cell per experiment: mean ± standard deviation over seeds."""

    def chosen(key: str) -> Callable[[dict[str, Any]], float | None]:
        return lambda result: ((result.get("selection") or {}).get(key) or {}).get("miou")

    last = _means(columns, lambda result: result["miou"])
    made = {"mIoU, last iteration": _cells(last)}
    means = [statistics.mean(values) if values else None for values in last]
    reference = next((i for i, run in enumerate(firsts) if run.config.method.name == SOURCE_ONLY), None)
    before = means[reference] if reference is not None else None
    if reference is not None and before is not None and len(columns) > 1:
        gains = [points(mean - before) if mean is not None and mean != before else "" for mean in means]
        made[f"difference to {columns[reference].name}"] = [Cell(gain) for gain in gains]
    others = {
        "mIoU, chosen without labels": _means(columns, chosen("chosen")),
        "mIoU, best by labels (no fair choice)": _means(columns, chosen("best_by_labels")),
        "pixel accuracy": _means(columns, lambda result: result.get("pixel_accuracy")),
    }
    made |= {name: _cells(values) for name, values in others.items() if any(values)}
    return made | {"seeds": [Cell(str(len(column.runs))) for column in columns]}


def _means(columns: Sequence[SeedRuns], of: Callable[[dict[str, Any]], float | None]) -> list[list[float]]:
    """The values over seeds of each experiment; none where a seed has none."""
    values = [[of(result) for result in column.results] for column in columns]
    return [[value for value in seeds if value is not None] if None not in seeds else [] for seeds in values]


def _cells(rows: Sequence[Sequence[float]]) -> list[Cell]:
    means = [statistics.mean(values) if values else None for values in rows]
    best = max((mean for mean in means if mean is not None), default=None)
    cells = []
    for values, mean in zip(rows, means, strict=True):
        deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
        text = "–" if mean is None else f"{100 * mean:.1f}{deviation}"
        cells.append(Cell(text, mean or 0.0, bool(mean) and mean == best and len(rows) > 1))
    return cells


def class_cells(columns: Sequence[SeedRuns]) -> dict[str, list[Cell]]:
    """Return each class of the protocol with its IoU, a cell per experiment, means over seeds."""
    names = (columns[0].results[0].get("protocol") or {}).get("classes") or []
    values = {name: [column.iou(name) for column in columns] for name in names}
    return {name: _cells([[] if value is None else [value] for value in row]) for name, row in values.items()}
