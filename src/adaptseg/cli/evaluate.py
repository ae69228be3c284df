"""`adaptseg evaluate`."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg evaluate",
        "IoU per class and mIoU of a run or checkpoint.",
        (
            "adaptseg evaluate runs/mine --json scores.json",
            "adaptseg evaluate runs/mine/checkpoints/step-002000 --device cuda:1",
            "adaptseg evaluate runs/mine --experiment other.yaml        # on another experiment's evaluation images",
            "adaptseg evaluate GTA2Cityscapes_multi-ed35151c.pth --data /data/cityscapes",
        ),
        keys="Keys of the experiment are options, such as --evaluation.root=FOLDER or '--protocol=[road,car]'.",
    )
    parser.add_model()
    parser.add_argument(
        "--experiment",
        metavar="PRESET-OR-YAML",
        help="whose evaluation data; none: the run's own, and for weights without a run Cityscapes val in --data",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores")
    return parser


def run(options: Namespace) -> None:
    """Score a run or checkpoint on labelled images."""
    from adaptseg.data.dataset import Domain
    from adaptseg.data.domains import with_value_range
    from adaptseg.data.label_spaces import label_space
    from adaptseg.evaluation.evaluate import evaluate
    from adaptseg.evaluation.published import published_evaluation
    from adaptseg.experiment import read_experiment, run_folder
    from adaptseg.methods.configuration import build_config
    from adaptseg.models.devices import choose_device
    from adaptseg.progress import track
    from adaptseg.reports.seed_runs import SeedRuns
    from adaptseg.reports.terminal import print_table
    from adaptseg.segmenter.loading import load_model

    segmenter = load_model(options.model).to(choose_device(options.device))
    experiment = options.experiment or run_folder(options.model)
    content = read_experiment(experiment)[1] if experiment else published_evaluation(segmenter.label_space)
    config = build_config(content, options.overrides)
    if not config.has_evaluation:
        raise InputError(
            f"{experiment}: names no labelled images to evaluate on; add --evaluation.root=FOLDER and its"
            " --evaluation.label_map"
        )
    domain = Domain(with_value_range(config.domain("evaluation"), segmenter.value_range), segmenter.label_space)
    protocol = label_space(config.protocol) if config.protocol else None
    result = evaluate(segmenter, domain, protocol, lambda indices: track(indices, "evaluating")).to_dict()
    if options.json:
        write_text(options.json, json.dumps(result, indent=2) + "\n")
    model = Path(options.model)
    print_table([SeedRuns(model.name, (model,), (result,))])
