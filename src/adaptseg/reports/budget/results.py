"""What a budget has found: `budget.json`, `budget.md` and a page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptseg.atomic import write_text
from adaptseg.data.label_spaces import label_space
from adaptseg.reports import charts
from adaptseg.reports.budget.plan import (
    ADAPTED,
    LABELS_ALONE,
    SAME_METHOD,
    SOURCE_ONLY,
    SUPERVISED,
    Budget,
    PlannedRun,
    title,
)
from adaptseg.reports.budget.verdict import above, verdict
from adaptseg.reports.comparison import class_cells
from adaptseg.reports.gallery import colour
from adaptseg.reports.page import points, render, save
from adaptseg.reports.seed_runs import SeedRuns, table_rows
from adaptseg.text import for_markdown
from adaptseg.training.run_log import training_cost

NAMES_SHOWN = 50
"""Names of labelled images on the page, for each seed."""
RULE = (
    "Two means differ where their difference is larger than the standard deviation over seeds of either, and than half"
    " a point."
)


@dataclass(frozen=True)
class FinishedRun:
    """A run with its result."""

    planned: PlannedRun
    result: dict[str, Any]
    """Content of its `result.json`."""

    @property
    def minutes(self) -> float:
        """Wall minutes of training as the log has them, without evaluations, with those of the run it goes on from."""
        before = self.planned.goes_on_from
        return sum(training_cost(run)["seconds"] / 60 for run in (self.planned.run, before) if run is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the run's entry of `budget.json`."""
        planned = self.planned
        return {
            "labels": planned.labels,
            "arm": planned.arm,
            "seed": planned.seed,
            "miou": self.result["miou"],
            "iou": self.result["iou"],
            "minutes": self.minutes,
            "iterations": planned.config.train.steps,
            "names": list(planned.names),
            "run": str(planned.run),
        }


@dataclass(frozen=True)
class Findings:
    """The finished runs of a budget, of all seeds or of the first few."""

    budget: Budget
    runs: Sequence[FinishedRun]

    def of(self, arm: str, labels: int) -> list[FinishedRun]:
        """Return the runs of an arm with a number of labels, one per seed."""
        return [run for run in self.runs if (run.planned.arm, run.planned.labels) == (arm, labels)]

    def scores(self, arm: str) -> dict[int, list[float]]:
        """Return mIoU of each seed by the number of labels, where there is any."""
        found = {n: [run.result["miou"] for run in self.of(arm, n)] for n in self.budget.labels}
        kept = {n: [score for score in scores if score is not None] for n, scores in found.items()}
        return {n: scores for n, scores in kept.items() if scores}

    def minutes(self, arm: str, labels: int) -> float | None:
        """Return the mean over seeds."""
        runs = self.of(arm, labels)
        return statistics.mean(run.minutes for run in runs) if runs else None

    def columns(self) -> list[SeedRuns]:
        """Return each arm with each number of labels, source only first."""
        order = [(arm, n) for arm in (SOURCE_ONLY, ADAPTED, LABELS_ALONE) for n in self.budget.labels]
        named = [(title(*key), self.of(*key)) for key in order]
        return [
            SeedRuns(name, tuple(run.planned.run for run in runs), tuple(run.result for run in runs))
            for name, runs in named
            if runs
        ]

    def sentences(self) -> list[str]:
        """Return what the scores say, the most useful first."""
        source_only = self.scores(SOURCE_ONLY).get(0, [])
        return verdict(source_only, self.scores(ADAPTED), self.scores(LABELS_ALONE))


HEAD = ("labels", "source only", "adapted", "labels alone", "difference", "min, adapted", "min, alone")


def score_table(findings: Findings) -> list[list[str]]:
    """Return the rows under `HEAD`: mIoU, mean ± standard deviation over seeds, and wall minutes of training."""
    arms = {arm: findings.scores(arm) for arm in (SOURCE_ONLY, ADAPTED, LABELS_ALONE)}
    rows = []
    for n in findings.budget.labels:
        adapted, alone = arms[ADAPTED].get(n, []), arms[LABELS_ALONE].get(n, [])
        difference = "–"
        if adapted and alone:
            difference = points(statistics.mean(adapted) - statistics.mean(alone))
            difference += "" if above(adapted, alone) else " (alike)"
        minutes = [findings.minutes(arm, n) for arm in (ADAPTED, LABELS_ALONE)]
        rows.append(
            [
                str(n),
                *(_mean_text(scores) for scores in (arms[SOURCE_ONLY].get(n, []), adapted, alone)),
                difference,
                *("–" if value is None else f"{value:.1f}" for value in minutes),
            ]
        )
    return rows


def _mean_text(scores: Sequence[float]) -> str:
    if not scores:
        return "–"
    spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{100 * statistics.mean(scores):.1f}{spread}"


def how(budget: Budget) -> str:
    """Return in a sentence how the runs with labels were trained."""
    steps, labels = budget.config.train.steps, budget.label_steps
    adapted = (
        f"Adapted with labels: trained from the start, {steps} iterations, as without labels."
        if budget.from_start
        else f"Adapted with labels: goes on from the seed's adapted run ({steps} iterations) for {labels} more; its"
        " minutes include that run's."
    )
    alone = (
        "supervised, on the labelled images only"
        if budget.alone == SUPERVISED
        else f"{budget.config.method.name}, on the labelled images and the unlabelled rest"
    )
    order = "in the order of a suggestion" if budget.pool.chosen else "at random by the seed, fewer among more"
    said = f"{adapted} Labels alone: no source, {alone}, {steps} iterations. Images are drawn {order}."
    weights, teachers = budget.config.model.weights, getattr(budget.config.method, "teachers", [])
    if weights not in (None, "imagenet"):
        said += f" All begin with the weights {weights}: what these have seen, labels alone have seen too."
    if teachers and budget.alone == SAME_METHOD:
        said += " Labels alone learn from the teachers too, and so from what those have seen."
    return said


def write_findings(findings: Findings) -> list[Path]:
    """Write `budget.json`, `budget.md` and `budget.html`; return the files."""
    out, budget = findings.budget.out, findings.budget
    content = {
        "experiment": budget.name,
        "sentences": findings.sentences(),
        "labels": list(budget.labels),
        "seeds": list(budget.seeds),
        "from_start": budget.from_start,
        "label_steps": None if budget.from_start else budget.label_steps,
        "alone": budget.alone,
        "pool": len(budget.pool.digests),
        "chosen": list(budget.pool.chosen) if budget.pool.chosen else None,
        "arms": [column.summary() for column in findings.columns()],
        "runs": [run.to_dict() for run in findings.runs],
    }
    write_text(out / "budget.json", json.dumps(content, indent=2) + "\n")
    write_text(out / "budget.md", _markdown(findings))
    return [out / "budget.json", out / "budget.md", save(page(findings), out / "budget.html")]


def _markdown(findings: Findings) -> str:
    first, *rest = findings.sentences() or ["No scores"]
    columns = findings.columns()
    classes = [
        f"| IoU, % | {' | '.join(for_markdown(column.name) for column in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(f"| {for_markdown(name)} | {' | '.join(texts)} |" for name, texts in table_rows(columns)),
    ]
    scores = [
        f"| {' | '.join(HEAD)} |",
        f"|{' ---: |' * len(HEAD)}",
        *(f"| {' | '.join(row)} |" for row in score_table(findings)),
    ]
    parts = [f"# How many labels: {for_markdown(findings.budget.name)}", f"**{first}**", *rest, "\n".join(scores)]
    parts += [for_markdown(how(findings.budget)), RULE, *_unfinished(findings), "\n".join(classes)]
    return "\n\n".join(parts) + "\n"


def _unfinished(findings: Findings) -> list[str]:
    budget = findings.budget
    done = len({run.planned.seed for run in findings.runs})
    if done == len(budget.seeds):
        return []
    return [f"{done} of {len(budget.seeds)} seeds are finished; the same command goes on."]


def page(findings: Findings) -> str:
    """Return the HTML of the page."""
    budget, columns = findings.budget, findings.columns()
    config = budget.config
    lines = {"adapted": findings.scores(ADAPTED), "labels alone": findings.scores(LABELS_ALONE)}
    level = findings.scores(SOURCE_ONLY).get(0, [])
    space = label_space(config.label_space, config.colors)
    most = {run.planned.seed: run.planned.names for run in findings.runs if run.planned.arm == ADAPTED}
    first, *rest = findings.sentences() or ["No scores"]
    return render(
        "budget.html",
        title=first,
        rest=rest,
        notes=_unfinished(findings),
        facts={
            "experiment": f"{budget.name}: {config.description}" if config.description else budget.name,
            "method": config.method.name,
            "seeds": ", ".join(map(str, budget.seeds)),
            "labelled images to draw from": str(len(budget.pool.digests)),
        },
        how=how(budget),
        rule=RULE,
        lines=list(lines),
        chart=charts.label_curves("curve", "mIoU over the number of labels", list(lines.values()), level),
        head=HEAD,
        scores=score_table(findings),
        names=[column.name for column in columns],
        classes=class_cells(columns),
        colours={name: colour(space, train_id) for train_id, name in enumerate(space.classes)},
        images={seed: names[:NAMES_SHOWN] for seed, names in most.items()},
        more={seed: max(0, len(names) - NAMES_SHOWN) for seed, names in most.items()},
    )
