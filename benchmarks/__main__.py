"""`python -m benchmarks`: times adaptseg against the same work done plainly. For developers; `make bench` runs all."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError
from adaptseg.models.devices import choose_device, processors
from benchmarks.settings import PARTS, StepSettings
from benchmarks.table import bench


def parser() -> Parser:
    """Return the arguments."""
    default = StepSettings()
    parser = Parser(
        "python -m benchmarks",
        "Time adaptseg against the same work done plainly, in turns: the training step at each of its settings,"
        " evaluation after the network, and reading the input.",
        (
            "python -m benchmarks --threads 1 --json bench.json               # everything; up to 10 minutes and 10 GB",
            "python -m benchmarks step --backbone resnet18 --levels 1 --size 256x128 --batch 8 --no-compile",
            "python -m benchmarks input",
        ),
    )
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"{', '.join(PARTS)}; none: all")
    parser.add_argument("--size", default="320x160", help="width and height of the step's images (%(default)s)")
    parser.add_argument("--batch", type=int, default=default.batch, help="images of each domain (%(default)s)")
    parser.add_argument("--backbone", default=default.backbone, help="a ResNet or vgg16 (%(default)s)")
    parser.add_argument("--levels", type=int, default=default.levels, help="1 or 2 (%(default)s)")
    parser.add_argument("--width", type=int, default=default.width, help="channels, as model.width (%(default)s)")
    parser.add_argument("--iterations", type=int, default=default.iterations, help="timed steps (%(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU; none: all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser


def run(options: Namespace) -> None:
    """Time adaptseg against the same work done plainly."""
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise InputError(f"PART {unknown[0]!r} is unknown; choose of {', '.join(PARTS)}")
    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size {options.size!r}: give width and height in pixels, such as 320x160")
    settings = StepSettings(
        size=(int(width), int(height)),
        device=str(choose_device(options.device)),
        threads=processors() if options.threads is None else options.threads,
        **{key: getattr(options, key) for key in ("batch", "backbone", "levels", "width", "iterations")},
    )
    result = bench(options.parts or PARTS, settings, compiled=not options.no_compile)
    if options.json:
        write_text(options.json, json.dumps(result, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts; bad input is one line on stderr and exit code 2."""
    try:
        run(parser().parse(list(sys.argv[1:] if arguments is None else arguments)))
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
