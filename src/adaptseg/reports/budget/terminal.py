"""What a budget has found, on the terminal."""

from __future__ import annotations

from rich.table import Table

from adaptseg.reports.budget.results import HEAD, Findings, how, score_table
from adaptseg.reports.terminal import Console
from adaptseg.text import for_rich


def print_findings(findings: Findings) -> None:
    """Print the scores over the number of labels, how they came about, and what they say."""
    console = Console()
    table = Table(title=for_rich(f"mIoU in %, {findings.budget.name}"))
    for name in HEAD:
        table.add_column(name, justify="right")
    for row in score_table(findings):
        table.add_row(*row)
    console.print(table)
    console.print(for_rich(how(findings.budget)), style="dim")
    for sentence in findings.sentences():
        console.print(for_rich(sentence), soft_wrap=True)
