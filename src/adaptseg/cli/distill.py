"""`adaptseg distill`."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from adaptseg.cli import train
from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg distill",
        "Train a small network on the source's labels and on what trained ones say of the target.",
        (
            "adaptseg distill runs/large --into small.yaml --out runs/small",
            "adaptseg distill runs/large/seed-* --into small.yaml --out runs/small --method.temperature=2",
        ),
        keys="Keys of the student's experiment are options, such as --train.steps=2000; `method` is distill.",
    )
    parser.add_argument("teachers", nargs="+", metavar="RUN", help="trained runs; several are averaged")
    parser.add_argument("--into", required=True, metavar="PRESET-OR-YAML", help="the student: its network and its data")
    parser.add_argument("--out", required=True, metavar="DIR", help="the student's run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, with the same teachers")
    parser.add_trust()
    parser.add_argument("--dry-run", action="store_true", help="read, build, take one small step; write nothing")
    return parser


def run(options: Namespace) -> None:
    """Train a small network to do what large ones do; a run as of train."""
    teachers = [str(Path(teacher).absolute()) for teacher in options.teachers]
    overrides = ["--method.name=distill", f"--method.teachers={json.dumps(teachers)}", f"--out={options.out}"]
    rest = vars(train.parser().parse([options.into]))
    rest |= {"overrides": [*options.overrides, *overrides], "resume": options.resume, "dry_run": options.dry_run}
    train.run(Namespace(**rest))
