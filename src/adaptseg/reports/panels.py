"""Curves of a run's log, or of several together, each figure in a chart of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from adaptseg.reports import charts
from adaptseg.reports.charts import Curve
from adaptseg.reports.runs import Run

MOST_PANELS = 24
"""Charts of a kind that a page shows."""
LOSSES = {
    "seg": "segmentation",
    "adv": "adversarial",
    "d": "discriminator",
    "ent": "entropy of the prediction",
    "fd": "feature distance",
    "mix": "mixed images",
    "mask": "masked images",
}
"""What the losses of the methods are; a digit behind them is the level."""
TITLES = {
    "miou": "mIoU, %",
    "confidence": "share of pixels that the teacher is sure of",
    "data_wait": "share of the time that goes on waiting for data",
    "memory_mb": "memory, MB",
}


@dataclass(frozen=True)
class Panel:
    """A chart under its title."""

    title: str
    svg: Markup


def readable(key: str) -> str:
    """Return a figure's name in words: `selection/some_name` -> some name, `d1` -> discriminator (d1)."""
    kind, _, name = key.rpartition("/")
    if kind == "lr":
        return f"learning rate, {name}"
    loss = LOSSES.get(name.rstrip("0123456789"))
    return f"{loss} ({name})" if loss else TITLES.get(name, name.replace("_", " "))


def panels(
    name: str, runs: Sequence[Sequence[Run]], keys: Sequence[str], baseline: Run | None = None, small: bool = False
) -> list[Panel]:
    """Return a chart for each figure of the logs.

    Args:
        name: of the charts, the beginning of their ids.
        runs: a curve for each, those of one experiment in one colour.
        keys: of the figures; those that no log has are left out.
        baseline: one more run, drawn as what the others are compared with.
        small: for figures that are looked at less.
    """
    made = []
    for number, key in enumerate(keys):
        lines = [Curve(run.points(key), series) for series, seeds in enumerate(runs) for run in seeds]
        if any(line.points for line in lines):
            lines += [Curve(baseline.points(key), 0, is_reference=True)] if baseline else []
            title, is_miou = readable(key), key == "miou"
            svg = charts.curves(f"{name}-{number}", f"{title} over steps", lines, percent=is_miou, small=small)
            made.append(Panel(title, svg))
    return made


def miou_panels(run: Run, baseline: Run | None) -> list[Panel]:
    """Return mIoU and the label-free scores over steps, the chosen step marked; none where there is no curve."""
    keys = [key for key in run.keys("selection/") if run.points(key)][:MOST_PANELS]
    selection = (run.result or {}).get("selection") or {}
    marks = [choice["step"] for choice in [selection.get("chosen")] if choice]
    if not keys and len(run.points("miou")) < 2:
        return []
    made = []
    if run.points("miou"):
        lines = [Curve(run.points("miou"), 0)]
        if baseline:
            lines.append(Curve(baseline.points("miou"), 0, is_reference=True))
        made.append(Panel("mIoU, %", charts.curves("miou", "mIoU over steps", lines, percent=True, marks=marks)))
    for number, key in enumerate(keys):
        title = readable(key) + (" (chooses)" if readable(key) == readable(str(selection.get("criterion"))) else "")
        svg = charts.curves(f"selection-{number}", f"{title} over steps", [Curve(run.points(key), 1)], marks=marks)
        made.append(Panel(title, svg))
    return made
