"""Train what a budget asks for, or take it as it lies there, and write what was found after each seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.reports.budget.plan import Budget, PlannedRun, plan, require_budget
from adaptseg.reports.budget.pool import open_pool
from adaptseg.reports.budget.precheck import precheck
from adaptseg.reports.budget.results import Findings, FinishedRun, how, write_findings
from adaptseg.reports.compare import is_finished, train_seeds
from adaptseg.training.checkpoint import saved_checkpoints


def open_budget(
    name: str,
    config: ExperimentConfig,
    labels: str,
    *,
    seeds: Sequence[int],
    out: Path,
    label_steps: int | None = None,
    from_start: bool = False,
    alone: str,
    choose: Path | None = None,
) -> Budget:
    """Return what is to be trained.

    Args:
        name: of the experiment.
        config: the experiment.
        labels: numbers of labels as text, such as `0,5,10,all`.
        seeds: a run of each arm for each.
        out: folder of runs and results.
        label_steps: iterations of a run with labels that goes on from the adapted one; none: half the experiment's.
        from_start: train with labels from the start instead, as many iterations as without.
        alone: `supervised` or `same-method`, see `plan.ALONE`.
        choose: file with the names to label, in order.

    Raises:
        InputError: the experiment does not adapt, has no labels to draw from or to score on, or fewer than asked for.
    """
    require_budget(config)
    if label_steps is not None and from_start:
        raise InputError("--label-steps is for runs that go on from the adapted one; leave it or --from-start out")
    if label_steps is not None and label_steps < 1:
        raise InputError(f"--label-steps {label_steps}: give at least 1 iteration")
    pool = open_pool(config, choose)
    return Budget(
        name=name,
        config=config,
        pool=pool,
        labels=pool.counts(labels),
        seeds=seeds,
        out=out,
        from_start=from_start,
        label_steps=label_steps or max(1, config.train.steps // 2),
        alone=alone,
    )


def overview(budget: Budget) -> Iterator[str]:
    """Yield a line for each run with its state and iterations, then how many are left to do; nothing is written.

    Raises:
        InputError: as `run_budget`, but for what training finds.
    """
    left = whole = 0
    precheck(budget)
    for planned in plan(budget):
        steps = planned.config.train.steps
        done = steps if is_finished(planned.run, planned.config) else _saved_step(planned.run)
        whole, left = whole + steps, left + max(0, steps - done)
        state = "finished" if done >= steps else f"goes on at {done}" if done else "to train"
        yield f"{planned.run}: {planned.title}, seed {planned.seed}, {steps} iterations, {state}"
    yield how(budget)
    yield f"{whole} iterations in all, {left} to do; labels are drawn from {len(budget.pool.digests)} images"


def _saved_step(run: Path) -> int:
    saved = saved_checkpoints(run)
    return int(saved[-1].name.removeprefix("step-")) if saved else 0


def run_budget(budget: Budget) -> tuple[Findings, list[Path]]:
    """Train or reuse every run; return what was found and the files, which are written after each seed.

    Raises:
        InputError: as `training.loop.train`, or a run there has another configuration, or the fewest labels of a seed
            show one class alone.
        Preempted: a signal asked to stop; the same call goes on.
    """
    precheck(budget)
    planned = list(plan(budget))
    done: list[FinishedRun] = []
    written: list[Path] = []
    for number, each in enumerate(planned, start=1):
        done.append(_train(each, f"[{number}/{len(planned)}]"))
        if number == len(planned) or planned[number].seed != each.seed:
            written = write_findings(Findings(budget, done))
    return Findings(budget, done), written


def _train(planned: PlannedRun, number: str) -> FinishedRun:
    name = f"{number} {planned.title}, {planned.config.train.steps} iterations"
    runs = train_seeds(name, planned.config, planned.run.parent, [planned.seed], reuse=True)
    return FinishedRun(planned, runs.results[0])
