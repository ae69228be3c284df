"""`adaptseg report`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg report",
        "Write one HTML file with all charts and pictures inside. The run may still go on.",
        (
            "adaptseg report runs/mine",
            "adaptseg report runs/mine --baseline runs/mine-source --out mine.html",
            "adaptseg report runs/compare/streets/seed-0 runs/compare/streets/seed-1 --out seeds.html",
        ),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders; several are compared")
    parser.add_argument("--out", type=Path, metavar="FILE", help="none: RUN/report.html; needed for several runs")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="source-only run; none: one found beside the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_trust()
    return parser


def run(options: Namespace) -> None:
    """Write a page on a run, or on several side by side: scores, curves, confusions, pictures."""
    from adaptseg.models.devices import choose_device
    from adaptseg.reports.comparison import write_report
    from adaptseg.reports.page import read_baseline
    from adaptseg.reports.runs import read_run
    from adaptseg.reports.trust import trust_at_the_end

    device = choose_device(options.device)
    if len(options.runs) == 1:
        found = read_run(options.runs[0])  # What is no run is refused once.
        if options.baseline:
            read_baseline(options.baseline, found)
        trust_at_the_end(found.path, device, options.baseline)
    written = write_report(options.runs, options.out, options.baseline, device)
    print(f"written: {written}")
