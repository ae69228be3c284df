"""What a report is made from: run folders, finished or not, and which of them is the source-only run of another."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptseg.config import ExperimentConfig, flat, to_dict
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.reports.seed_runs import SeedRuns
from adaptseg.training.checkpoint import WITHOUT_EFFECT
from adaptseg.training.run_log import read_log

SOURCE_ONLY = "source_only"
NO_LOSSES = frozenset({"step", "miou", "skipped", "step_seconds", "images_per_second", "data_wait", "memory_mb"})
"""Figures of the log that no method made."""

Points = list[tuple[int, float]]
"""(step, value), by step."""


@dataclass(frozen=True)
class Run:
    """A run folder as it is now."""

    path: Path
    config: ExperimentConfig
    log: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    result: dict[str, Any] | None
    """Content of result.json; none before the end."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the trained classes."""
        return label_space(self.config.label_space).classes

    @property
    def steps(self) -> int:
        """Iterations that are logged."""
        return max((line["step"] for line in self.log), default=0)

    def points(self, key: str) -> Points:
        """Return what the log has of a figure, without what is not finite. The result is mIoU's last point."""
        values = {line["step"]: line[key] for line in self.log if _is_number(line.get(key))}
        if key == "miou" and self.result and _is_number(self.result.get("miou")):
            values[self.result.get("step", self.config.train.steps)] = self.result["miou"]
        return sorted((step, float(value)) for step, value in values.items())

    def keys(self, prefix: str) -> list[str]:
        """Return the figures of the log that begin with `prefix`, such as `lr/`; with none, the method's losses."""
        keys = dict.fromkeys(key for line in self.log for key in line)
        if prefix:
            return [key for key in keys if key.startswith(prefix)]
        return [key for key in keys if "/" not in key and key not in NO_LOSSES]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def read_run(path: Path) -> Run:
    """Return a run folder's content.

    Raises:
        InputError: the folder is no run, a file in it is broken, or nothing is logged yet.
    """
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path}: no run, it has no config.yaml; give a run folder, such as runs/streets/seed-0")
    config = build_config(read_experiment(str(path))[1])
    run = Run(path, config, read_log(path), _read_result(path / "result.json"))
    if not run.log and run.result is None:
        raise InputError(f"{path}: nothing is logged yet; the first line comes with iteration {config.train.log_every}")
    return run


def _read_result(path: Path) -> dict[str, Any] | None:
    """The content of a result.json in which everything that a report uses has its type; none where there is no file."""
    if not path.is_file():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shares = [result["miou"], result.get("pixel_accuracy"), *(result.get("iou") or {}).values()]
        selected = [(result.get("selection") or {}).get(key) or {} for key in ("last", "chosen", "best_by_labels")]
        shares += [choice.get("miou") for choice in selected]
        confusion = result.get("confusion") or []
        if not all(share is None or 0 <= share <= 1 for share in shares):
            raise ValueError("a score is no fraction")
        if not all(isinstance(choice.get("step", 0), int) for choice in selected):
            raise ValueError("a step is no number")
        if not all(len(row) == len(confusion) and all(isinstance(n, int) for n in row) for row in confusion):
            raise ValueError("confusion is no square of numbers")
    except Exception as error:  # JSON may hold anything anywhere.
        raise InputError(f"{path}: broken ({error}); write it again: `adaptseg train … --resume`") from error
    return result


def find_baseline(run: Run) -> Path | None:
    """Return the finished source-only run beside a run with the same source, evaluation and classes, if there is one.

    Beside `runs/streets/seed-0` are the folders of `runs/streets` and all `runs/*/seed-0`. Of several the one that is
    configured most alike is taken.
    """
    if run.config.method.name == SOURCE_ONLY:
        return None
    here = run.path.resolve()
    places = sorted({*here.parent.glob("*"), *here.parent.parent.glob(f"*/{here.name}")} - {here})
    found = [(len(unlike(run, other)), other.path) for other in _finished_source_only(places) if _same_task(run, other)]
    if not found:
        return None
    nearest = min(found)[1]
    return nearest if run.path.is_absolute() else Path(os.path.relpath(nearest))


def _finished_source_only(places: Sequence[Path]) -> Iterator[Run]:
    for place in places:
        try:
            # The result is small and the configuration slow to read.
            if (_read_result(place / "result.json") or {}).get("method") == SOURCE_ONLY:
                run = read_run(place)
                if not run.config.has_target_labelled:
                    yield run
        except (InputError, OSError):
            continue  # A broken neighbour is nobody's baseline.


def _same_task(run: Run, other: Run) -> bool:
    def task(of: ExperimentConfig) -> tuple[Any, ...]:
        domains = (replace(of.domain(role), prepared=None) for role in ("source", "evaluation"))
        return (*domains, label_space(of.label_space).classes, of.protocol)

    return task(run.config) == task(other.config)


def unlike(run: Run, other: Run) -> list[str]:
    """Return the keys that two runs' configurations differ in, but for the method and what has no effect."""
    ours, theirs = flat(to_dict(run.config)), flat(to_dict(other.config))
    by_design = ("method.", "target.")  # Source only reads no target.
    differing = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    irrelevant = (WITHOUT_EFFECT | {"data"}) - {"train.steps"}
    return [key for key in differing if not key.startswith(by_design) and key not in irrelevant]


def changed_keys(config: ExperimentConfig) -> dict[str, Any]:
    """Return the keys that are not at their defaults, those without a default among them."""
    plainest = {"label_space": config.label_space, "source": {}, "method": {"name": config.method.name}}
    plainest |= {"model": {}, "train": {}}  # No recipe.
    defaults = flat(to_dict(build_config(plainest))) | {"label_space": None, "method.name": None}
    return {key: value for key, value in flat(to_dict(config)).items() if value != defaults.get(key)}


def experiments(runs: Sequence[Run]) -> list[SeedRuns]:
    """Return the finished ones of several runs, those of equal configuration but for the seed together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.result is not None:
            same = replace(run.config, seed=0, out=None, description="")
            groups.setdefault(json.dumps(to_dict(same), sort_keys=True), []).append(run)
    names = run_names([group[0].path for group in groups.values()])
    return [
        SeedRuns(name, tuple(run.path for run in group), tuple(run.result for run in group if run.result))
        for name, group in zip(names, groups.values(), strict=True)
    ]


def run_name(path: Path) -> str:
    """Return a run's name: of `runs/streets/seed-0` streets, of `runs/mine` mine."""
    place = path.resolve()
    return place.parent.name if place.name.startswith("seed-") else place.name


def run_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of runs, their whole paths where the names alone do not tell them apart."""
    names = [run_name(path) for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
