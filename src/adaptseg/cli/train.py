"""`adaptseg train`."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError
from adaptseg.text import plain


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg train",
        "Train an experiment: a preset, a YAML file, or a run folder (the same again).",
        (
            "adaptseg train streets                                     # run folder: runs/streets/seed-0",
            "adaptseg train mine.yaml --dry-run                         # what would happen, checked at small scale",
            "adaptseg train mine.yaml --out runs/mine --resume          # after an interruption",
            "adaptseg train streets --seeds 3 --train.steps=900 '--method.lambda_adv=[0.003]'",
        ),
        keys="Every key of the experiment is an option, such as --train.steps=1000 --method.name=source_only; --keys"
        " lists them.",
    )
    parser.add_experiment()
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--allow-changes", action="store_true", help="resume with a changed configuration")
    parser.add_argument("--init", metavar="RUN", help="start from the weights of another run; is --model.weights=RUN")
    parser.add_argument("--seeds", help="train once per seed: a number of seeds, or a list such as 1,5,7 or 5,")
    parser.add_argument("--dry-run", action="store_true", help="read, build, take one small step; write nothing")
    parser.add_argument("--keys", action="store_true", help="list all keys of the experiment and leave")
    parser.add_trust()
    return parser


def run(options: Namespace) -> None:
    """Train an experiment, write its run folder, print IoU per class."""
    from adaptseg.experiment import read_experiment
    from adaptseg.methods.configuration import build_config, experiment_parser
    from adaptseg.reports import compare
    from adaptseg.reports.seed_runs import SeedRuns

    if options.allow_changes and not options.resume:
        raise InputError("--allow-changes goes with --resume; add it, or leave both out")
    name, content = read_experiment(options.experiment)
    if options.init:
        options.overrides.append(f"--model.weights={options.init}")
    config = build_config(content, options.overrides)
    if options.keys:
        experiment_parser(config.method.name, described=True).print_help()
        return
    if options.dry_run:
        from adaptseg.training.dry_run import dry_run

        for line in dry_run(config, Path(config.out or Path("runs", name, f"seed-{config.seed}"))):
            print(plain(line), flush=True)
        return
    from adaptseg.distributed import is_main
    from adaptseg.reports.terminal import print_selection, print_table, print_trust

    if options.seeds:
        out = Path(config.out or Path("runs", name))
        columns = compare.train_seeds(name, config, out, compare.parse_seeds(options.seeds), reuse=options.resume)
        if is_main():
            compare.write_comparison([columns], out, config.train)
    else:
        out = Path(config.out or Path("runs", name, f"seed-{config.seed}"))
        compare.train_and_report(config, out, resume=options.resume, allow_changes=options.allow_changes)
        columns = SeedRuns(name, (out,), (json.loads((out / "result.json").read_text()),))
    if is_main():
        print_table([columns])
        print_selection(columns)
        print_trust(columns)
        print(f"written: {out}")
        if (out / "report.html").is_file():
            print(f"report: {out / 'report.html'}")
