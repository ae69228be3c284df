"""`adaptseg budget`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser
from adaptseg.text import plain


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg budget",
        "How many target images must be labelled? Train with more and more labels, with the source and without it, and"
        " draw the curve. Finished runs in --out are taken as they are, and what was interrupted goes on.",
        (
            "adaptseg budget streets --dry-run                          # which runs, how many iterations",
            "adaptseg budget streets --labels 0,5,10,25,50 --seeds 3 --out runs/budget",
            "adaptseg budget mine.yaml --target_labelled.root=labelled --labels 0,5,all --train.steps=400",
        ),
        keys="Keys given as options, such as --data or --train.steps, hold for every run.",
    )
    parser.add_experiment()
    parser.add_argument("--labels", default="0,5,10,25,50", metavar="N,N,…", help="numbers of labels; all: every one")
    parser.add_argument("--seeds", default="3", help="a number of seeds, or a list such as 1,5,7 or 5,")
    parser.add_argument("--out", type=Path, default=Path("runs/budget"), help="folder of runs and results")
    parser.add_argument(
        "--label-steps",
        type=int,
        metavar="N",
        help="iterations with labels, going on from the adapted run; none: half of train.steps",
    )
    parser.add_argument("--from-start", action="store_true", help="train with labels from the start instead")
    parser.add_argument(
        "--alone",
        choices=("supervised", "same-method"),
        default="supervised",
        help="labels without the source: they only, or by the experiment's method with the unlabelled rest",
    )
    parser.add_argument("--choose", type=Path, metavar="FILE", help="suggestion.json: label these, in its order")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their iterations; write nothing")
    parser.add_trust()
    return parser


def run(options: Namespace) -> None:
    """Train with more and more labels, with the source and without: how many are enough."""
    from adaptseg.experiment import read_experiment
    from adaptseg.methods.configuration import build_config
    from adaptseg.reports.budget.study import open_budget, overview, run_budget
    from adaptseg.reports.compare import parse_seeds

    name, content = read_experiment(options.experiment)
    budget = open_budget(
        name,
        build_config(content, options.overrides),
        options.labels,
        seeds=parse_seeds(options.seeds),
        out=options.out,
        label_steps=options.label_steps,
        from_start=options.from_start,
        alone=options.alone,
        choose=options.choose,
    )
    if options.dry_run:
        for line in overview(budget):
            print(plain(line), flush=True)
        return
    from adaptseg.reports.budget.terminal import print_findings

    findings, written = run_budget(budget)
    print_findings(findings)
    print(f"written: {', '.join(map(str, written))}")
