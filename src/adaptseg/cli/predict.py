"""`adaptseg predict`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg predict",
        "Predict images, or all images in folders.",
        (
            "adaptseg predict runs/mine photo.jpg --out predictions",
            "adaptseg predict runs/mine photos/ more-photos/ --out predictions --device cpu",
            "adaptseg predict runs/multi leftImg8bit/test --out submission --format cityscapes",
        ),
    )
    parser.add_model()
    parser.add_argument("images", metavar="IMAGE-OR-FOLDER", nargs="+", help="images, or folders of images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the predictions")
    parser.add_argument(
        "--format",
        choices=("pictures", "cityscapes"),
        default="pictures",
        help="pictures: labels/ (train ids), colors/ and overlays/; cityscapes: label ids for the benchmark server",
    )
    return parser


def run(options: Namespace) -> None:
    """Write train ids, colours and overlays of images."""
    from adaptseg.models.devices import choose_device
    from adaptseg.models.weights import load_model
    from adaptseg.predict import FORMATS, find_images

    images = find_images(options.images)
    segmenter = load_model(options.model).to(choose_device(options.device))
    count = FORMATS[options.format](segmenter, images, options.out)
    folders = ("labels", "colors", "overlays") if options.format == "pictures" else ("",)
    print(f"{count} images -> {', '.join(str(options.out / folder) for folder in folders)}")
