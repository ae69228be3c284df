"""`adaptseg init`."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from pathlib import Path

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg init",
        "Look at two folders and write an experiment for them: a YAML, and a page that shows what was found.",
        (
            "adaptseg init renderings photographs",
            "adaptseg init renderings dashcam.mp4 --evaluation labelled-photographs --out mine.yaml",
            "adaptseg init rgb photographs --labels annotations/instances.json",
            "adaptseg init renders photographs --labels 'renders/seg_{name}.png'",
        ),
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of images with labels")
    parser.add_argument("target", type=Path, metavar="TARGET", help="folder of images or films, or a film")
    parser.add_argument("--evaluation", type=Path, metavar="FOLDER", help="labelled images of the target's kind")
    parser.add_argument(
        "--labels", type=Path, metavar="PATH", help="where the source's labels are: folder, file, or {name}.png"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("mine.yaml"), help="none: mine.yaml")
    parser.add_argument("--recipe", choices=("laptop", "gpu"), help="size and length of the training; none: by device")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    return parser


def run(options: Namespace) -> None:
    """Look at two folders, write an experiment for them and a page of what was found."""
    from adaptseg.data.discovery.proposal import propose
    from adaptseg.data.discovery.write_yaml import as_yaml

    out = options.out
    if out.exists() and not options.force:
        raise InputError(f"{out}: is there already; add --force to write over it, or name another with --out")
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"--out {out}: give the name of a .yaml file")
    proposal = propose(options.source, options.target, options.evaluation, options.labels, options.recipe or _recipe())
    write_text(out, as_yaml(proposal, _command(options), out.absolute().parent))
    from adaptseg.experiment import read_experiment
    from adaptseg.methods.configuration import build_config
    from adaptseg.reports.discovery import summary, write_page

    config = build_config(read_experiment(str(out))[1], [])
    page = write_page(proposal, config, out.with_suffix(".html"))
    for line in summary(proposal):
        print(line)
    print(f"written: {out}, {page}")
    print(f"next: adaptseg check {out}", file=sys.stderr)


def _recipe() -> str:
    from adaptseg.models.devices import choose_device

    return "laptop" if choose_device("auto").type == "cpu" else "gpu"


def _command(options: Namespace) -> str:
    words = ["adaptseg", "init", str(options.source), str(options.target)]
    for key in ("evaluation", "labels"):
        if getattr(options, key):
            words += [f"--{key}", str(getattr(options, key))]
    return shlex.join(words)
