"""`python -m benchmarks.suggestion`: which images are worth labelling: `adaptseg suggest`'s criteria against chance.

For every run and criterion, N of the run's target images are chosen without looking at labels, the run is fine-tuned on
the labels of these alone, and evaluated. The target's labels must be on disk; `random` draws by each run's own seed.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.config import DomainConfig, ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.labelling.choice import select
from adaptseg.labelling.names import CRITERIA
from adaptseg.labelling.signals import Signals, measure
from adaptseg.methods.configuration import build_config
from adaptseg.reports.budget.plan import SUPERVISED, going_on, labels_alone
from adaptseg.reports.budget.pool import open_pool
from adaptseg.reports.compare import is_finished
from adaptseg.segmenter.loading import load_model
from adaptseg.training.checkpoint import saved_checkpoints
from adaptseg.training.loop import train


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "python -m benchmarks.suggestion",
        "mIoU after fine-tuning adapted runs on N labels, chosen by each criterion of `adaptseg suggest`, random too.",
        ("python -m benchmarks.suggestion runs/photos/streets-camvid-best/seed-* -n 10 --out runs/suggestion",),
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="adapted runs, one per seed")
    parser.add_argument("-n", type=int, default=10, help="labels (%(default)s)")
    parser.add_argument("--by", default=",".join(CRITERIA), help="criteria (%(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="iterations of fine-tuning (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="images per iteration (%(default)s)")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the fine-tuned runs")
    return parser


def fine_tuned(config: ExperimentConfig, run: Path, labelled: DomainConfig, options: Namespace) -> ExperimentConfig:
    """Return the experiment that goes on from a run with the labels of these images alone."""
    alone = labels_alone(replace(config, target_labelled=labelled), SUPERVISED)
    goes_on = going_on(alone, run, options.steps)
    return replace(
        goes_on,
        optimizer=replace(config.optimizer, lr=options.lr),
        train=replace(goes_on.train, batch=options.batch, rare_class_temperature=None, report=False, tensorboard=False),
    )


def target_signals(config: ExperimentConfig, run: Path) -> tuple[list[str], Signals]:
    """Return the names of a run's target images and what its network says of them."""
    target = Domain(replace(config.domain("target"), prepared=None), label_space(config.label_space)).layout
    return list(target.names), measure(load_model(run), (target.image(index) for index in range(len(target.names))))


def scores(run: Path, options: Namespace) -> dict[str, float]:
    """Return the mIoU of a run as it is (`before`) and after fine-tuning, by criterion; finished runs are taken.

    Raises:
        InputError: as `train`, or a run there has another configuration.
    """
    config = build_config(read_experiment(str(run))[1])
    names, signals = target_signals(config, run)
    pool, nothing = open_pool(config), signals.rows([])
    found = {"before": json.loads((run / "result.json").read_text())["miou"]}
    for by in options.by.split(","):
        out = options.out / by / f"{run.parent.name}-{run.name}"
        chosen = [names[each.place] for each in select(signals, options.n, by, config.seed, nothing).chosen]
        tuned = fine_tuned(config, run.absolute(), pool.labelled(chosen), options)
        if not is_finished(out, tuned):
            train(tuned, out, resume=bool(saved_checkpoints(out)))
        found[by] = json.loads((out / "result.json").read_text())["miou"]
    return found


def run(options: Namespace) -> None:
    """Measure, print the table in Markdown, and write the figures."""
    unknown = set(options.by.split(",")) - set(CRITERIA)
    if unknown:
        raise InputError(f"--by {unknown.pop()!r} is unknown; choose of {', '.join(CRITERIA)}")
    found = {str(path): scores(path, options) for path in options.runs}
    write_text(options.out / "suggestion-study.json", json.dumps(found, indent=2) + "\n")
    print("| labels chosen by | mIoU of each run, % | mean | against random |\n| --- | --- | ---: | ---: |")
    columns = {by: [100 * each[by] for each in found.values()] for by in next(iter(found.values()))}
    for by, values in columns.items():
        gain = f"{mean(values) - mean(columns['random']):+.1f}" if "random" in columns else ""
        print(f"| {by} | {', '.join(f'{value:.1f}' for value in values)} | {mean(values):.1f} | {gain} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure; bad input is one line on stderr and exit code 2."""
    try:
        run(parser().parse_args(arguments))
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
