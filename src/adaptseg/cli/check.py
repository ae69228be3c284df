"""`adaptseg check`."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg check",
        "Open every image and label of an experiment. Exit code 2 where training would fail.",
        (
            "adaptseg check mine.yaml",
            "adaptseg check gta5-cityscapes-multi --data /data --workers 8 --json check.json",
        ),
        keys="Every key of the experiment is an option, such as --source.root=FOLDER.",
    )
    parser.add_experiment()
    parser.add_workers()
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    return parser


def run(options: Namespace) -> None:
    """Open every image and label of an experiment, and say what is wrong with them."""
    from adaptseg.data.check import check
    from adaptseg.experiment import read_experiment
    from adaptseg.methods import uses_target
    from adaptseg.methods.configuration import build_config
    from adaptseg.models.devices import processors
    from adaptseg.reports.terminal import print_check
    from adaptseg.segmenter.pretrained import named_weights

    workers = processors() if options.workers is None else options.workers
    if workers < 1:
        raise InputError(f"--workers {workers}: give at least 1")
    config = build_config(read_experiment(options.experiment)[1], options.overrides)
    named_weights(config.model)  # Without its package training would not begin.
    try:
        report = check(config, uses_target(config), workers)
    except KeyboardInterrupt:
        print("adaptseg: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
    if options.json:
        write_text(options.json, json.dumps(report.to_dict(), indent=2) + "\n")
    print_check(report)
    if report.fails:
        raise SystemExit(2)
