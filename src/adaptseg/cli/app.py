"""`adaptseg app`."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg app",
        "Serve a page to try trained networks on photos: source only and adapted side by side.",
        (
            "adaptseg app runs/streets/seed-0",
            "adaptseg app runs/mine runs/mine-source --examples photos/",
            "adaptseg app runs/mine --host 0.0.0.0 --port 8000  # open to the network",
        ),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders to choose from")
    parser.add_argument(
        "--baseline", type=Path, metavar="RUN", help="source-only run; none: a given one, or one found beside the run"
    )
    parser.add_argument("--examples", metavar="FOLDER", help="images to pick from; none: embedded streets")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on: this machine's alone by default")
    parser.add_argument("--port", type=int, help="none: a free one from 7860 up")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_trust()
    return parser


def run(options: Namespace) -> None:
    """Serve a page: drop a photo, see it source only and adapted."""
    from adaptseg.errors import require_extra

    require_extra("app", "adaptseg app", "gradio")
    from adaptseg.app.result import read_choices
    from adaptseg.models.devices import choose_device

    choices = read_choices(options.runs, options.baseline, choose_device(options.device))
    with tempfile.TemporaryDirectory(prefix="adaptseg-app-") as folder:
        # Before gradio is imported: it keeps uploads there, and would ask its makers' server for newer versions.
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        from adaptseg.app.page import serve

        serve(choices, options.examples, Path(folder), options.host, options.port)
