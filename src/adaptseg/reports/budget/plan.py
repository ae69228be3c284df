"""The runs of a budget: which arms there are, and each run's complete configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.methods import uses_target
from adaptseg.methods.source_only import SourceOnlyConfig
from adaptseg.reports.budget.pool import LabelPool

SOURCE_ONLY, ADAPTED, LABELS_ALONE = ("source_only", "adapted", "labels_alone")
SUPERVISED, SAME_METHOD = ALONE = ("supervised", "same-method")
"""How the labels alone are trained on: they only, or they and the unlabelled target by the experiment's method."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is asked for."""

    name: str
    """Of the experiment."""
    config: ExperimentConfig
    """The experiment as it is."""
    pool: LabelPool
    labels: Sequence[int]
    """Numbers of labels, growing, the first is 0."""
    seeds: Sequence[int]
    out: Path
    from_start: bool
    """Whether runs with labels train from the start; else they go on from the seed's run without."""
    label_steps: int
    """Iterations of the runs that go on."""
    alone: str
    """One of `ALONE`."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run."""

    arm: str
    labels: int
    seed: int
    names: tuple[str, ...]
    """Images whose labels it sees."""
    config: ExperimentConfig
    run: Path
    goes_on_from: Path | None = None
    """The run whose weights it begins with."""

    @property
    def title(self) -> str:
        """The arm in words."""
        return title(self.arm, self.labels)


def title(arm: str, labels: int) -> str:
    """Return an arm and its number of labels in words, such as `adapted + 10` or `10 labels alone`."""
    if arm == LABELS_ALONE:
        return f"{labels} label{'' if labels == 1 else 's'} alone"
    words = arm.replace("_", " ")
    return f"{words} + {labels}" if labels else words


def require_budget(config: ExperimentConfig) -> None:
    """Refuse experiments of which there is no such curve.

    Raises:
        InputError: nothing adapts, there is no source, or nothing to evaluate on.
    """
    if config.source == DomainConfig():
        raise InputError("source is missing: budget compares labels with and without it; give the labelled source")
    if not uses_target(config):
        raise InputError(
            f"method.name is {config.method.name}, which does not adapt; give an experiment whose method does, such as"
            " streets, or --method.name=dacs"
        )
    if not config.has_evaluation:
        raise InputError(
            "evaluation is missing: budget scores on labelled target images; set some of them apart, such as"
            " --evaluation.root=FOLDER, and let target_labelled have the others"
        )


def plan(budget: Budget) -> Iterator[PlannedRun]:
    """Yield the runs of all seeds, each after the one that it goes on from."""
    for seed in budget.seeds:
        adapted = replace(budget.config, seed=seed, out=None, target_labelled=DomainConfig())
        base = budget.out / f"{ADAPTED}-0" / f"seed-{seed}"
        yield _planned(budget, SOURCE_ONLY, source_only(adapted))
        yield _planned(budget, ADAPTED, adapted)
        for count in budget.labels[1:]:
            names = tuple(budget.pool.names(seed, count))
            labelled = replace(adapted, target_labelled=budget.pool.labelled(names))
            if budget.from_start:
                yield _planned(budget, ADAPTED, labelled, names)
            else:
                yield _planned(budget, ADAPTED, going_on(labelled, base, budget.label_steps), names, base)
            yield _planned(budget, LABELS_ALONE, labels_alone(labelled, budget.alone), names)


def _planned(
    budget: Budget,
    arm: str,
    config: ExperimentConfig,
    names: tuple[str, ...] = (),
    goes_on_from: Path | None = None,
) -> PlannedRun:
    folder = arm if arm == SOURCE_ONLY else f"{arm}-{len(names)}"
    run = budget.out / folder / f"seed-{config.seed}"
    return PlannedRun(
        arm=arm, labels=len(names), seed=config.seed, names=names, config=config, run=run, goes_on_from=goes_on_from
    )


def source_only(config: ExperimentConfig) -> ExperimentConfig:
    """Return the experiment without adaptation: its network, data, λ_seg and iterations."""
    weights: Any = getattr(config.method, "lambda_seg", (1.0,) * config.model.levels)
    return replace(config, method=SourceOnlyConfig(lambda_seg=weights))


def going_on(config: ExperimentConfig, run: Path, steps: int) -> ExperimentConfig:
    """Return the experiment as it goes on from the weights of a run for some iterations, with a schedule of its own."""
    return replace(
        config,
        model=replace(config.model, weights=os.path.abspath(run)),
        train=replace(config.train, steps=steps, schedule_steps=None),
    )


def labels_alone(config: ExperimentConfig, alone: str) -> ExperimentConfig:
    """Return the experiment without its source, as `alone`, one of `ALONE`, says."""
    without = replace(config, source=DomainConfig())
    return source_only(without) if alone == SUPERVISED else without
