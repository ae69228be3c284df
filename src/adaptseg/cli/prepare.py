"""`adaptseg prepare`."""

from __future__ import annotations

import sys
from argparse import Namespace

from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError
from adaptseg.text import plain


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg prepare",
        "Write images and labels at their training size; `train` with the same experiment reads them.",
        (
            "adaptseg prepare mine.yaml",
            "adaptseg prepare gta5-cityscapes-multi --data /data --prepared=/fast-disk/prepared --workers 16",
        ),
        keys="Keys of the experiment are options, such as --prepared=FOLDER. Called again, it goes on and checks.",
    )
    parser.add_experiment()
    parser.add_workers()
    return parser


def run(options: Namespace) -> None:
    """Decode and resize an experiment's images once, so that training reads pixels."""
    from adaptseg.data.prepare import prepare
    from adaptseg.experiment import read_experiment
    from adaptseg.methods import uses_target
    from adaptseg.methods.configuration import build_config
    from adaptseg.models.devices import processors

    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: give at least 1")
    config = build_config(read_experiment(options.experiment)[1], options.overrides)
    try:
        for line in prepare(config, uses_target(config), options.workers or processors()):
            print(plain(line), flush=True)
    except KeyboardInterrupt:
        print("adaptseg: interrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
