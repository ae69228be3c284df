"""The command line: one function per command. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from adaptseg.atomic import write_text
from adaptseg.errors import InputError
from adaptseg.preemption import EXIT_RESUMABLE, Preempted

DESCRIPTION = """\
Domain adaptation for semantic segmentation.

  adaptseg presets                                  what can be trained
  adaptseg train streets                            train on renderings, adapt to the camera's look
  adaptseg compare streets-source streets           without and with adaptation, table and picture
  adaptseg evaluate runs/streets/seed-0 --json out.json
  adaptseg predict runs/streets/seed-0 photos/ --out predictions
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as an `InputError`."""
        raise InputError(f"{message}; see `{self.prog} --help`")


def split_overrides(arguments: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Separate a command's own arguments from overrides of the experiment's keys.

    Overrides are `--key=value` or `--key value` with a key that `parser` does not have.
    """
    own: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--") or token.partition("=")[0] in parser._option_string_actions:
            own.append(token)
            continue
        overrides.append(token)
        if "=" not in token and rest and not rest[0].startswith("--"):
            overrides.append(rest.pop(0))
    return own, overrides


def train(arguments: Sequence[str]) -> None:
    """Train an experiment, write its run folder, print IoU per class."""
    parser = Parser(
        prog="adaptseg train",
        description="Train an experiment: a preset, a YAML file, or a run folder (the same again).",
        epilog="Every key of the experiment is an option, such as --train.steps=1000 --method.name=source_only.",
    )
    parser.add_argument("experiment", metavar="PRESET-OR-YAML")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--allow-changes", action="store_true", help="resume with a changed configuration")
    parser.add_argument("--init", metavar="RUN", help="start from the weights of another run; is --model.weights=RUN")
    parser.add_argument("--seeds", help="train once per seed: a number of seeds, or a list such as 1,5,7")
    parser.add_argument("--dry-run", action="store_true", help="read, build, take one small step; write nothing")
    parser.add_argument("--keys", action="store_true", help="list all keys of the experiment and leave")
    own, overrides = split_overrides(arguments, parser)
    options = parser.parse_args(own)

    from adaptseg import compare
    from adaptseg.experiment import build_config, experiment_parser, read_experiment
    from adaptseg.train import train as train_run

    if options.allow_changes and not options.resume:
        raise InputError("--allow-changes goes with --resume; add it, or leave both out")
    name, content = read_experiment(options.experiment)
    if options.init:
        overrides.append(f"--model.weights={options.init}")
    config = build_config(content, overrides)
    if options.keys:
        experiment_parser(config.method.name).print_help()
        return
    if options.dry_run:
        from adaptseg.dry_run import dry_run

        for line in dry_run(config, Path(config.out or Path("runs", name, f"seed-{config.seed}"))):
            print(line, flush=True)
        return
    from adaptseg.distributed import is_main
    from adaptseg.report import print_table

    if options.seeds:
        out = Path(config.out or Path("runs", name))
        columns = compare.train_seeds(name, config, out, compare.parse_seeds(options.seeds), reuse=options.resume)
        if is_main():
            compare.write_comparison([columns], out, config.train)
    else:
        out = Path(config.out or Path("runs", name, f"seed-{config.seed}"))
        train_run(config, out, resume=options.resume, allow_changes=options.allow_changes)
        columns = compare.SeedRuns(name, (out,), (json.loads((out / "result.json").read_text()),))
    if is_main():
        print_table([columns])
        print(f"written: {out}")
        if (out / "report.html").is_file():
            print(f"report: {out / 'report.html'}")


def check(arguments: Sequence[str]) -> None:
    """Open every image and label of an experiment, and say what is wrong with them."""
    parser = Parser(
        prog="adaptseg check",
        description="Open every image and label of an experiment. Exit code 2 where training would fail.",
        epilog="Every key of the experiment is an option, such as --source.root=FOLDER.",
    )
    parser.add_argument("experiment", metavar="PRESET-OR-YAML")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; none: one for each CPU core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    own, overrides = split_overrides(arguments, parser)
    options = parser.parse_args(own)

    from adaptseg.data_check import check as check_data
    from adaptseg.experiment import build_config, read_experiment
    from adaptseg.methods import METHODS
    from adaptseg.models.devices import processors
    from adaptseg.report import print_check

    workers = processors() if options.workers is None else options.workers
    if workers < 1:
        raise InputError(f"--workers {workers}: give at least 1")
    config = build_config(read_experiment(options.experiment)[1], overrides)
    try:
        report = check_data(config, METHODS[config.method.name][1].uses_target, workers)
    except KeyboardInterrupt:
        print("adaptseg: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
    if options.json:
        write_text(options.json, json.dumps(report.to_dict(), indent=2) + "\n")
    print_check(report)
    if report.fails:
        raise SystemExit(2)


def prepare(arguments: Sequence[str]) -> None:
    """Decode and resize an experiment's images once, so that training reads pixels."""
    parser = Parser(
        prog="adaptseg prepare",
        description="Write images and labels at their training size; `train` with the same experiment reads them.",
        epilog="Keys of the experiment are options, such as --prepared=FOLDER. Called again, it goes on and checks.",
    )
    parser.add_argument("experiment", metavar="PRESET-OR-YAML")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; none: one for each CPU core")
    own, overrides = split_overrides(arguments, parser)
    options = parser.parse_args(own)

    from adaptseg.experiment import build_config, read_experiment
    from adaptseg.models.devices import processors
    from adaptseg.prepare import prepare as prepare_domains

    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: give at least 1")
    config = build_config(read_experiment(options.experiment)[1], overrides)
    try:
        for line in prepare_domains(config, options.workers or processors()):
            print(line, flush=True)
    except KeyboardInterrupt:
        print("adaptseg: interrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None


def compare(arguments: Sequence[str]) -> None:
    """Train or reuse several experiments, print and write one table and one picture."""
    parser = Parser(
        prog="adaptseg compare",
        description="Train each experiment (finished runs in --out are taken as they are), then compare them.",
        epilog="Keys given as options, such as --data or --train.steps, hold for every experiment.",
    )
    parser.add_argument("experiments", metavar="PRESET-OR-YAML", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of runs and results")
    parser.add_argument("--seeds", default="1", help="a number of seeds, or a list such as 1,5,7")
    own, overrides = split_overrides(arguments, parser)
    options = parser.parse_args(own)

    from adaptseg.compare import compare as train_all
    from adaptseg.compare import parse_seeds, write_comparison
    from adaptseg.data.dataset import Domain
    from adaptseg.data.label_spaces import label_space
    from adaptseg.experiment import build_config, read_experiment
    from adaptseg.report import print_table, side_by_side

    columns = train_all(options.experiments, overrides, options.out, parse_seeds(options.seeds))
    config = build_config(read_experiment(options.experiments[0])[1], overrides)
    written = write_comparison(columns, options.out, config.train)
    picture = options.out / "side-by-side.png"
    side_by_side(columns, Domain(config.domain("evaluation"), label_space(config.label_space)), picture)
    print_table(columns)
    print(f"written: {', '.join(map(str, [*written, picture]))}")


def evaluate(arguments: Sequence[str]) -> None:
    """Score a run or checkpoint on labelled images."""
    parser = Parser(prog="adaptseg evaluate", description="IoU per class and mIoU of a run or checkpoint.")
    parser.add_argument("model", metavar="RUN-OR-CHECKPOINT", help="run folder, checkpoint, released .pth, or its URL")
    parser.add_argument(
        "--experiment",
        metavar="PRESET-OR-YAML",
        help="whose evaluation data; none: the run's own, and for weights without a run Cityscapes val in --data",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores")
    own, overrides = split_overrides(arguments, parser)
    options = parser.parse_args(own)

    from adaptseg.compare import SeedRuns
    from adaptseg.data.dataset import Domain
    from adaptseg.data.label_spaces import label_space
    from adaptseg.evaluate import evaluate as score
    from adaptseg.experiment import build_config, published_evaluation, read_experiment, run_folder
    from adaptseg.models.devices import choose_device
    from adaptseg.models.weights import load_model
    from adaptseg.progress import track
    from adaptseg.report import print_table

    segmenter = load_model(options.model).to(choose_device(options.device))
    experiment = options.experiment or run_folder(options.model)
    content = read_experiment(experiment)[1] if experiment else published_evaluation(segmenter.label_space)
    config = build_config(content, overrides)
    domain = Domain(config.domain("evaluation"), segmenter.label_space)
    protocol = label_space(config.protocol) if config.protocol else None
    result = score(segmenter, domain, protocol, lambda indices: track(indices, "evaluating")).to_dict()
    if options.json:
        write_text(options.json, json.dumps(result, indent=2) + "\n")
    model = Path(options.model)
    print_table([SeedRuns(model.name, (model,), (result,))])


def predict(arguments: Sequence[str]) -> None:
    """Write train ids, colours and overlays of images."""
    parser = Parser(prog="adaptseg predict", description="Predict images, or all images in folders.")
    parser.add_argument("model", metavar="RUN-OR-CHECKPOINT", help="run folder, checkpoint, released .pth, or its URL")
    parser.add_argument("images", metavar="IMAGE-OR-FOLDER", nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="folder for the predictions")
    parser.add_argument(
        "--format",
        choices=("pictures", "cityscapes"),
        default="pictures",
        help="pictures: labels/ (train ids), colors/ and overlays/; cityscapes: label ids for the benchmark server",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    options = parser.parse_args(arguments)

    from adaptseg.models.devices import choose_device
    from adaptseg.models.weights import load_model
    from adaptseg.predict import FORMATS, find_images

    images = find_images(options.images)
    segmenter = load_model(options.model).to(choose_device(options.device))
    count = FORMATS[options.format](segmenter, images, options.out)
    folders = ("labels", "colors", "overlays") if options.format == "pictures" else ("",)
    print(f"{count} images -> {', '.join(str(options.out / folder) for folder in folders)}")


def report(arguments: Sequence[str]) -> None:
    """Write a page on a run, or on several side by side: scores, curves, confusions, pictures."""
    parser = Parser(
        prog="adaptseg report",
        description="Write one HTML file with all charts and pictures inside. The run may still go on.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders; several are compared")
    parser.add_argument("--out", type=Path, metavar="FILE", help="none: RUN/report.html; needed for several runs")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="source-only run; none: one found beside the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    options = parser.parse_args(arguments)

    from adaptseg.models.devices import choose_device
    from adaptseg.reports.comparison import write_report

    written = write_report(options.runs, options.out, options.baseline, choose_device(options.device))
    print(f"written: {written}")


def presets(arguments: Sequence[str]) -> None:
    """List the presets."""
    Parser(prog="adaptseg presets", description="List the experiments that ship with adaptseg.").parse_args(arguments)

    from adaptseg.experiment import preset_description, preset_names

    names = preset_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {preset_description(name)}")


def bench(arguments: Sequence[str]) -> None:
    """Time adaptseg against the same work done plainly."""
    from adaptseg.benchmarks.step import StepSettings
    from adaptseg.benchmarks.table import PARTS
    from adaptseg.benchmarks.table import bench as measure
    from adaptseg.models.devices import choose_device, processors

    default = StepSettings()
    parser = Parser(
        prog="adaptseg bench",
        description="Time adaptseg against the same work done plainly, in turns: the training step at each of its"
        " settings, evaluation after the network, and reading the input.",
    )
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"{', '.join(PARTS)}; none: all")
    parser.add_argument("--size", default="320x160", help="width and height of the step's images (%(default)s)")
    parser.add_argument("--batch", type=int, default=default.batch, help="images of each domain (%(default)s)")
    parser.add_argument("--backbone", default=default.backbone, help="a ResNet or vgg16 (%(default)s)")
    parser.add_argument("--levels", type=int, default=default.levels, help="1 or 2 (%(default)s)")
    parser.add_argument("--width", type=int, default=default.width, help="channels, as model.width (%(default)s)")
    parser.add_argument("--iterations", type=int, default=default.iterations, help="timed steps (%(default)s)")
    parser.add_argument("--threads", type=int, default=processors(), help="of the CPU (%(default)s, all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise InputError(f"PART {unknown[0]!r} is unknown; choose of {', '.join(PARTS)}")
    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size {options.size!r}: give width and height in pixels, such as 320x160")
    settings = StepSettings(
        size=(int(width), int(height)),
        device=str(choose_device(options.device)),
        **{key: getattr(options, key) for key in ("batch", "backbone", "levels", "width", "iterations", "threads")},
    )
    result = measure(options.parts or PARTS, settings, compiled=not options.no_compile)
    if options.json:
        write_text(options.json, json.dumps(result, indent=2) + "\n")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "check": check,
    "train": train,
    "prepare": prepare,
    "compare": compare,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "presets": presets,
    "bench": bench,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; bad input is one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    parser = Parser(prog="adaptseg", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"adaptseg {version('adaptseg')}")
    commands = parser.add_argument_group("commands (each has --help; --debug shows tracebacks)")
    summaries = "\n".join(f"{name:<10} {(function.__doc__ or '')}" for name, function in COMMANDS.items())
    commands.description = summaries
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS, metavar="COMMAND")
    try:
        if not arguments:
            parser.print_help()
            return
        chosen = parser.parse_args(arguments[:1]).command
        COMMANDS[chosen](arguments[1:])
    except InputError as error:
        if debug:
            raise
        print(f"adaptseg: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Preempted as preempted:
        print(f"adaptseg: {preempted}; its checkpoint is complete, --resume goes on from there", file=sys.stderr)
        raise SystemExit(EXIT_RESUMABLE) from None
    except BrokenPipeError:
        # The reader of our output (head, less) has left; there is nobody to tell. 141 = 128 + SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        # Full disk, read-only folder, vanished file: what to do is plain from the system's own words.
        if debug or error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        cure = "free disk space" if error.errno == errno.ENOSPC else "make the place readable and writable"
        print(f"adaptseg: {place}{error.strerror}; {cure}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("adaptseg: interrupted; `adaptseg train … --resume` goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
