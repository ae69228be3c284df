"""`adaptseg compare`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg compare",
        "Train each experiment (finished runs in --out are taken as they are), then compare them.",
        (
            "adaptseg compare streets-source streets                    # without and with adaptation",
            "adaptseg compare streets-source streets-fda streets-oracle --seeds 3 --out runs/fda",
            "adaptseg compare camvid-day-dusk-source camvid-day-dusk --data /data/camvid --train.steps=900",
        ),
        keys="Keys given as options, such as --data or --train.steps, hold for every experiment.",
    )
    parser.add_argument("experiments", metavar="PRESET-OR-YAML", nargs="+", help="presets, YAML files, or run folders")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of runs and results")
    parser.add_argument("--seeds", default="1", help="a number of seeds, or a list such as 1,5,7 or 5,")
    parser.add_trust()
    return parser


def run(options: Namespace) -> None:
    """Train or reuse several experiments, print and write one table and one picture."""
    from adaptseg.data.dataset import Domain
    from adaptseg.data.label_spaces import label_space
    from adaptseg.experiment import read_experiment
    from adaptseg.methods.configuration import build_config
    from adaptseg.reports.compare import compare, parse_seeds, write_comparison
    from adaptseg.reports.side_by_side import side_by_side
    from adaptseg.reports.terminal import print_table

    columns = compare(options.experiments, options.overrides, options.out, parse_seeds(options.seeds))
    config = build_config(read_experiment(options.experiments[0])[1], options.overrides)
    written = write_comparison(columns, options.out, config.train)
    picture = options.out / "side-by-side.png"
    side_by_side(columns, Domain(config.domain("evaluation"), label_space(config.label_space, config.colors)), picture)
    print_table(columns)
    print(f"written: {', '.join(map(str, [*written, picture]))}")
