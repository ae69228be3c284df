"""`adaptseg predict`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser


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
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images of equal size in one forward pass")
    return parser


def run(options: Namespace) -> None:
    """Write train ids, colours and overlays of images and videos."""
    from adaptseg.models.devices import choose_device
    from adaptseg.predict.inputs import find_inputs
    from adaptseg.predict.predictions import Settings, predict_cityscapes, predict_files
    from adaptseg.segmenter.inference import Views
    from adaptseg.segmenter.loading import load_model

    views = Views.parse(options.flip, options.scales, options.tiles)
    maps = tuple(options.maps.split(",")) if options.maps else ()
    settings = Settings(views, maps, options.batch, options.format == "frames", options.values)
    inputs = find_inputs(options.inputs)
    segmenter = load_model(options.model).to(choose_device(options.device))
    write = predict_cityscapes if options.format == "cityscapes" else predict_files
    write(segmenter, inputs, options.out, settings)
    kinds = ("labels", "colors", "overlays", *maps) if options.format != "cityscapes" else ("", *maps)
    folders = [str(options.out / kind) for kind in kinds if (options.out / kind).is_dir()]
    print(f"{len(inputs)} file{'s' if len(inputs) > 1 else ''} -> {', '.join(folders)}")
