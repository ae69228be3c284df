"""`adaptseg export`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser
from adaptseg.text import plain


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg export",
        "Write a model for use elsewhere, and compare it with PyTorch on images before it gets its name.",
        (
            "adaptseg export runs/mine --format onnx --out mine.onnx",
            "adaptseg export runs/mine/checkpoints/last --format torch-export --out mine.pt2 --check photos/",
            "adaptseg export runs/mine --format onnx --int8 --out mine-int8.onnx --calibrate camera-photos/",
            "adaptseg export runs/mine --format hub --out mine-hub --license cc-by-4.0",
        ),
    )
    parser.add_argument("model", metavar="RUN-OR-CHECKPOINT", help="run folder, checkpoint, released .pth, or its URL")
    parser.add_argument(
        "--format",
        choices=("onnx", "torch-export", "safetensors", "hub"),
        required=True,
        help="hub: a folder for the Hugging Face Hub",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE-OR-FOLDER")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="IMAGE-OR-FOLDER",
        help="what to compare with PyTorch on; none: the run's evaluation images, or else rendered streets",
    )
    parser.add_argument(
        "--int8", action="store_true", help="onnx: weights and activations in 8 bits, a quarter the size"
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="unlabelled target images on which --int8 measures ranges; none: the run's own",
    )
    parser.add_trust()
    parser.add_argument("--license", metavar="NAME", help="of the weights, such as apache-2.0; goes into the metadata")
    return parser


def run(options: Namespace) -> None:
    """Write a model for use elsewhere: ONNX, torch.export, safetensors, Hugging Face Hub."""
    from adaptseg.export.export import export

    for line in export(**vars(options)):
        print(plain(line), flush=True)
