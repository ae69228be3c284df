"""`python -m benchmarks.students`: what a small network costs and how good it is: mIoU, milliseconds, megabytes.

Trained runs are timed in PyTorch, exported ONNX files (float or int8) in ONNX Runtime, all on one thread, image by
image, in turns: each image goes through every model before the next one is read. The milliseconds are of the whole
way from an image to its classes, scaling included; reading the file is not.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.data.dataset import Domain
from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import label_space
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import Scores, confusion_matrix
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.weights import find_checkpoint, weight_files


class Contender(NamedTuple):
    """One row of the table."""

    name: str
    runtime: str
    """PyTorch, or ONNX Runtime with float or int8."""
    megabytes: float
    classes: tuple[str, ...]
    predict: Callable[[UInt8Array], UInt8Array]
    """(H, W, 3) to train ids (H, W)."""


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "python -m benchmarks.students",
        "mIoU, milliseconds per image on one thread, and megabytes of trained runs and exported ONNX files.",
        ("python -m benchmarks.students runs/large runs/small small.onnx small-int8.onnx --experiment small.yaml",),
        keys="Keys of the experiment are options, such as --evaluation.root=FOLDER.",
    )
    parser.add_argument("models", nargs="+", metavar="RUN-OR-ONNX", help="trained runs, exported .onnx files")
    parser.add_argument("--experiment", required=True, metavar="PRESET-OR-YAML", help="whose evaluation images")
    parser.add_argument("--images", type=int, metavar="N", help="the first N of them; none: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def contender(model: str) -> Contender:
    """Return a model ready to predict on one thread of the CPU; raises `InputError` where it is none."""
    path = Path(model)
    if path.suffix != ".onnx":
        segmenter = load_model(path)
        checkpoint = find_checkpoint(path)
        file = weight_files(checkpoint)[1] if checkpoint is not None else path
        return Contender(model, "PyTorch", file.stat().st_size / 1e6, segmenter.label_space.classes, segmenter.predict)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        facts = session.get_modelmeta().custom_metadata_map
        classes = tuple(json.loads(facts["classes"]))
    except Exception as error:  # ONNX Runtime raises many kinds.
        raise InputError(f"{model}: no ONNX file of adaptseg ({str(error).splitlines()[0]}); export one") from error

    def predict(image: UInt8Array) -> UInt8Array:
        labels: UInt8Array = session.run(["labels"], {"images": image[None]})[0][0]
        return labels

    kind = "int8" if facts.get("quantization") == "int8" else "float"
    return Contender(model, f"ONNX Runtime, {kind}", path.stat().st_size / 1e6, classes, predict)


def measure(contenders: Sequence[Contender], domain: Domain, count: int) -> list[dict[str, float | str | None]]:
    """Return each contender's name, runtime, mIoU (a fraction), median milliseconds per image, and megabytes."""
    classes = len(domain.label_space)
    confusions = [torch.zeros(classes, classes, dtype=torch.int64) for _ in contenders]
    times: list[list[float]] = [[] for _ in contenders]
    for index in range(count):
        image, label = domain.read(index)
        assert label is not None
        for place, model in enumerate(contenders):
            if index == 0:
                model.predict(image)  # The first call sets up what later ones use.
            start = time.perf_counter()
            predicted = model.predict(image)
            times[place].append(1000 * (time.perf_counter() - start))
            truth = torch.from_numpy(np.ascontiguousarray(label))
            confusions[place] += confusion_matrix(torch.from_numpy(predicted), truth, classes).cpu()
    return [
        {
            "model": model.name,
            "runtime": model.runtime,
            "miou": Scores(confusion, domain.label_space, domain.label_space).miou,
            "milliseconds": median(spent),
            "megabytes": model.megabytes,
        }
        for model, confusion, spent in zip(contenders, confusions, times, strict=True)
    ]


def run(options: Namespace) -> None:
    """Measure, print the table in Markdown, and write the figures."""
    torch.set_num_threads(1)
    config = build_config(read_experiment(options.experiment)[1], options.overrides)
    if not config.has_evaluation:
        raise InputError(f"{options.experiment}: names no labelled images; add --evaluation.root=FOLDER")
    contenders = [contender(model) for model in options.models]
    space = label_space(config.label_space)
    for model in contenders:
        if model.classes != space.classes:
            raise InputError(
                f"{model.name}: its classes are not those of {options.experiment}; take its own experiment"
            )
    domain = Domain(config.domain("evaluation"), space)
    figures = measure(contenders, domain, min(options.images or len(domain), len(domain)))
    print("| model | runtime | mIoU, % | ms per image | MB |\n| --- | --- | ---: | ---: | ---: |")
    for row in figures:
        miou = "–" if row["miou"] is None else f"{100 * float(row['miou']):.1f}"
        print(f"| {row['model']} | {row['runtime']} | {miou} | {row['milliseconds']:.1f} | {row['megabytes']:.2f} |")
    if options.json:
        write_text(options.json, json.dumps(figures, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure; bad input is one line on stderr and exit code 2."""
    try:
        run(parser().parse(list(sys.argv[1:] if arguments is None else arguments)))
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
