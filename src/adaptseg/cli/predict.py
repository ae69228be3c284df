"""`adaptseg predict`."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta
from pathlib import Path

from adaptseg.cli.parser import Parser

SLOWEST = timedelta(days=30)
"""Of several processes, each with its share of the files, all wait for the slowest."""


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg predict",
        "Predict images and videos: files, all in folders, or quoted patterns such as 'photos/**/*.jpg'.",
        (
            "adaptseg predict runs/mine photo.jpg --out predictions",
            "adaptseg predict runs/mine photos/ drive.mp4 --out predictions --device cpu",
            "adaptseg predict runs/mine 'photos/**/*.jpg' --out predictions --flip --scales 0.75,1,1.25 --maps entropy",
            "adaptseg predict runs/multi leftImg8bit/test --out submission --format cityscapes",
            "torchrun --nproc-per-node 8 -m adaptseg predict runs/mine photos/ --out predictions",
        ),
    )
    parser.add_model()
    parser.add_argument("inputs", metavar="IMAGE-OR-VIDEO-OR-FOLDER", nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="folder for the predictions")
    parser.add_argument(
        "--format",
        choices=("pictures", "frames", "cityscapes"),
        default="pictures",
        help="pictures: labels/ (train ids), colors/ and overlays/, of videos overlays/; frames: the same, of each"
        " video frame too; cityscapes: label ids for the benchmark server",
    )
    parser.add_argument(
        "--values",
        choices=("train-ids", "original", "colors"),
        default="train-ids",
        help="what labels/ holds: train ids, the values of the source's label files, or RGB colours; legend.csv names"
        " them",
    )
    parser.add_argument("--maps", metavar="NAMES", default="", help="also confidence/, entropy/: confidence,entropy")
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parser.add_argument("--scales", metavar="LIST", default="1", help="average over sizes, such as 0.75,1,1.25")
    parser.add_argument("--tiles", metavar="WxH", help="large images: see them at their own resolution, tile by tile")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="images of equal size in one forward pass; none: 8 on a GPU, else 1"
    )
    parser.add_argument(
        "--engine",
        choices=("torch", "onnxruntime"),
        default="torch",
        help="what runs the network; onnxruntime: faster on the CPU, needs pip install 'adaptseg[export]'",
    )
    return parser


def run(options: Namespace) -> None:
    """Write train ids, colours and overlays of images and videos."""
    import sys

    from adaptseg.distributed import barrier, is_main, join_processes
    from adaptseg.errors import InputError
    from adaptseg.models.devices import choose_device
    from adaptseg.predict.inputs import find_inputs, labels_notes
    from adaptseg.predict.pipeline import terminated_in_order
    from adaptseg.predict.predictions import Settings, predict_cityscapes, predict_files
    from adaptseg.segmenter.folding import fold_batch_norm
    from adaptseg.segmenter.inference import Views
    from adaptseg.segmenter.loading import load_model
    from adaptseg.text import plain

    views = Views.parse(options.flip, options.scales, options.tiles)
    maps = tuple(options.maps.split(",")) if options.maps else ()
    device = choose_device("cpu" if (options.device, options.engine) == ("auto", "onnxruntime") else options.device)
    batch = options.batch if options.batch is not None else 8 if device.type == "cuda" else 1
    settings = Settings(views, maps, batch, options.format == "frames", options.values)
    inputs = find_inputs(options.inputs, options.out, settings.frames)
    device = join_processes(device, patience=SLOWEST)
    for note in labels_notes(options.inputs, inputs) if is_main() else ():
        print(f"adaptseg: {plain(note)}", file=sys.stderr)
    segmenter = load_model(options.model).to(device)
    if options.engine == "onnxruntime":
        from adaptseg.export.engine import use_onnxruntime

        use_onnxruntime(segmenter)
    else:
        fold_batch_norm(segmenter)
    barrier()  # All have found the inputs, before there are outputs among them.
    write = predict_cityscapes if options.format == "cityscapes" else predict_files
    try:
        with terminated_in_order():
            write(segmenter, inputs, options.out, settings)
    except InputError:
        if is_main():
            raise
        raise SystemExit(2) from None  # The first process says it.
    if not is_main():
        return
    kinds = ("labels", "colors", "overlays", *maps) if options.format != "cityscapes" else ("", *maps)
    folders = [str(options.out / kind) for kind in kinds if (options.out / kind).is_dir()]
    print(f"{len(inputs)} file{'s' if len(inputs) > 1 else ''} -> {', '.join(folders)}")
