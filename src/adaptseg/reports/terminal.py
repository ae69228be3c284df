"""Tables and lines on the terminal that say what a run achieved and what a check found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import console as rich_console
from rich.table import Table

from adaptseg.data.check import Report
from adaptseg.reports.seed_runs import SeedRuns, cost_rows, table_rows
from adaptseg.text import for_rich, plain

LINES_OF_A_KIND = 10
"""Findings of one kind and domain that the terminal shows."""


class Console(rich_console.Console):
    """A console whose reader (head, less) may leave."""

    def on_broken_pipe(self) -> None:
        """Leave it to the command line, as for any output: rich would end the process with 1."""
        raise BrokenPipeError


def print_table(columns: Sequence[SeedRuns], console: rich_console.Console | None = None) -> None:
    """Print IoU per class and mIoU, a column per experiment, in per cent."""
    console = console or Console()
    if not any(column.mious for column in columns):
        console.print("not evaluated: the experiment names no labelled images")
        return
    seeds = len(columns[0].results)
    over = f", mean over {seeds} seeds" if seeds > 1 else ""
    table = Table(title=for_rich(f"IoU in %, protocol {columns[0].summary()['protocol']}{over}"))
    table.add_column("class", no_wrap=True)
    for column in columns:
        table.add_column(for_rich(column.name), justify="right", overflow="fold")  # Cut off, names would look alike.
    rows = list(table_rows(columns))
    for name, texts in rows:
        if name == rows[-1][0]:
            table.add_section()
        table.add_row(for_rich(name), *texts, style="bold" if name == rows[-1][0] else "")
    if len(columns) > 1:
        table.add_section()
        for name, texts in cost_rows(columns):
            table.add_row(name, *texts, style="dim")
    console.print(table)


def print_selection(column: SeedRuns) -> None:
    """Print of each run the last snapshot, the one chosen without labels and the labels' best, unless they are one."""
    for run, result in zip(column.runs, column.results, strict=True):
        selection = result.get("selection") or {}
        named = {
            "last": "last",
            "chosen": f"chosen without labels ({str(selection.get('criterion')).replace('_', ' ')})",
            "best_by_labels": "best by labels (no fair choice)",
        }
        found = {name: selection[key] for key, name in named.items() if selection.get(key)}
        if len({at["step"] for at in found.values()}) > 1:
            print(
                f"{plain(str(run))}: "
                + "; ".join(f"{name}: step {at['step']}{_miou(at)}" for name, at in found.items())
            )


def print_trust(column: SeedRuns) -> None:
    """Print what the last step of each run's training says of its result without labels of the target."""
    for run, result in zip(column.runs, column.results, strict=True):
        for line in (result.get("trust") or {}).get("lines") or ():
            print(plain(f"{run}: {line}"))


def _miou(snapshot: Mapping[str, Any]) -> str:
    return "" if snapshot["miou"] is None else f", {100 * snapshot['miou']:.1f}"


def print_check(report: Report, console: rich_console.Console | None = None) -> None:
    """Print what a check found: class frequencies, then one line for each finding."""
    console = console or Console()
    table = Table(title="labelled pixels in %, and images")
    table.add_column("class")
    labelled = {role: domain for role, domain in report.domains.items() if domain.class_shares}
    for role in labelled:
        table.add_column(role, justify="right")
        table.add_column("images", justify="right")
    for name in next(iter(labelled.values())).class_shares:
        cells = [(_percent(d.class_shares[name]), str(d.class_images[name])) for d in labelled.values()]
        table.add_row(for_rich(name), *(cell for pair in cells for cell in pair))
    console.print(table)
    for role, domain in report.domains.items():
        sizes = ", ".join(f"{count} of {size}" for size, count in list(domain.sizes.items())[:4])
        more = f" and {len(domain.sizes) - 4} more sizes" if len(domain.sizes) > 4 else ""
        ignored = f"; {100 * domain.ignored:.1f} % of pixels of no class to train" if domain.class_shares else ""
        console.print(f"{role:<11} {domain.images} images: {sizes}{more}{ignored}", highlight=False, soft_wrap=True)
    for (role, fatal, kind), group in groupby(report.findings, lambda found: (found.role, found.fatal, found.kind)):
        texts = [finding.text for finding in group]
        left_out = len(texts) - LINES_OF_A_KIND
        shown = texts[:LINES_OF_A_KIND]
        if left_out > 0:
            shown.append(f"{left_out} more of these ({kind}); --json FILE writes all")
        level = "[bold red]error  [/]" if fatal else "[yellow]warning[/]"
        for text in shown:
            # The terminal breaks the line, not we: it can be searched for and copied.
            console.print(f"{level} {role:<11}", for_rich(text), highlight=False, soft_wrap=True)
    errors = sum(finding.fatal for finding in report.findings)
    warnings = len(report.findings) - errors
    verdict = "training would fail" if report.fails else "training can begin"
    console.print(f"{errors} errors, {warnings} warnings: {verdict}", highlight=False)


def _percent(share: float) -> str:
    """A share in per cent; what is there is not shown as 0."""
    return "–" if share == 0 else "<0.01" if share < 1e-4 else f"{100 * share:.2f}"
