"""`adaptseg drift`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg drift",
        "Compare new photographs with the target images that a run was adapted to: how many are unlike them, and in"
        " what. The exit code is 0 whatever is found.",
        (
            "adaptseg drift runs/mine photographs/tuesday",
            "adaptseg drift runs/mine 'photographs/**/*.jpg' --json drift.json",
        ),
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a finished training")
    parser.add_argument("inputs", metavar="NEW-FOLDER", nargs="+", help="folders, images, or quoted patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict and each image's distance")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_trust()
    return parser


def run(options: Namespace) -> None:
    """Say whether new photographs are like those that a run was adapted to."""
    import json

    from adaptseg.atomic import write_text
    from adaptseg.models.devices import choose_device
    from adaptseg.predict.drift import folder_drift
    from adaptseg.text import plain

    found, report, notes = folder_drift(options.run, options.inputs, choose_device(options.device))
    if options.json:
        write_text(options.json, json.dumps(report, indent=2) + "\n")
    print(found.verdict)
    for note in notes:
        print(plain(note))
