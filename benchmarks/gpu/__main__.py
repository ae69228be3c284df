"""`python -m benchmarks.gpu`: all parts in turn, one JSON, and the rows of docs/performance.md.

Begins without torch and without what adaptseg needs: wheels that travel along are installed first, offline.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adaptseg.atomic import write_text
from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError
from benchmarks.gpu.rows import markdown, with_shares
from benchmarks.gpu.settings import PARTS, Settings
from benchmarks.gpu.wheels import install

ROOT = Path(__file__).resolve().parents[2]


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "python -m benchmarks.gpu",
        "Measure adaptseg on a GPU: golden figures, training steps at the papers' sizes, a training, evaluation, input."
        " Each part is a process with its own time; what has been found is in the file after every part.",
        (
            "python -m benchmarks.gpu --out runs/gpu.json                # on a machine with CUDA; about 8 minutes",
            "python -m benchmarks.gpu step family --minutes 3",
            "python -m benchmarks.gpu --tiny --device cpu                # does the run itself work?",
            "python -m benchmarks.gpu --rows runs/gpu.json               # the tables again",
        ),
    )
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"{', '.join(PARTS)}; none: all, in this order")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no part goes on (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"), metavar="FILE", help="figures (%(default)s)")
    parser.add_argument("--wheels", type=Path, default=Path("wheels"), help="folder of wheels, if it is there")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and images")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="print the tables of a file, measure nothing")
    return parser


def run(options: Namespace) -> None:
    """Run the parts."""
    if options.rows:
        print("\n".join(markdown(read(options.rows))))
        return
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise InputError(f"PART {unknown[0]!r} is unknown; choose of {', '.join(PARTS)}")
    end = time.monotonic() + 60 * options.minutes
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "device": options.device,
        "tiny": options.tiny,
        "parts": {},
    }
    settings = Settings(device=options.device, tiny=options.tiny)
    with TemporaryDirectory() as folder:
        environment = with_paths(install(options.wheels, Path(folder, "site")))
        for name in options.parts or PARTS:
            # A tiny run asks whether all goes well, on whatever machine, not how fast.
            seconds = min(PARTS[name].seconds * (20 if options.tiny else 1), end - time.monotonic())
            told = replace(settings, seconds=max(0.0, seconds))
            result["parts"][name] = part_result(name, told, environment)
            with_shares(result)
            write_text(options.out, json.dumps(result, indent=2) + "\n")
    print("\n".join(markdown(result)))


def part_result(name: str, settings: Settings, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part in a process of its own; return its rows, its seconds, and why it ended where it did not finish."""
    if settings.seconds < 5:
        return {"rows": [], "seconds": 0.0, "ended": "left out: no time left"}
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        arguments = [name, str(file), json.dumps(asdict(settings))]
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", *arguments],
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(settings.seconds)
            ended = f"ended with code {code}" if code else ""
        except subprocess.TimeoutExpired:
            ended = f"stopped after {settings.seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # Its loader's workers too.
                process.wait()
        rows = json.loads(file.read_text()) if file.exists() else []
    return {"rows": rows, "seconds": time.monotonic() - began, "ended": ended}


def with_paths(site: Path | None) -> dict[str, str]:
    """Return the environment of a part: this repository's code first, then what was installed from wheels."""
    paths = [str(ROOT / "src"), *([str(site)] if site else []), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def read(file: Path) -> dict[str, Any]:
    """Return what a run has written; raises `InputError` where it is nothing of the kind."""
    try:
        result: dict[str, Any] = json.loads(file.read_text())
        assert set(result["parts"]) <= set(PARTS)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{file}: no figures of `python -m benchmarks.gpu` ({type(error).__name__})") from error
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run; bad input is one line on stderr and exit code 2."""
    try:
        run(parser().parse(list(sys.argv[1:] if arguments is None else arguments)))
    except InputError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
