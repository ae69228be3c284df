"""`python -m benchmarks.start`: CPU seconds to the first training step, and to one predicted photograph.

Each command runs in new processes with one thread; the figure is the median of the processor's time, user and system,
so that what else the machine does matters little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from adaptseg.cli.parser import Parser
from benchmarks.photographs import write_model, write_photographs

TRAINING = """
import json, os, sys, time
from adaptseg.cli import main
marks = {"the command line": time.process_time()}
import torch
marks["importing torch"] = time.process_time()
from adaptseg.training import loop
from adaptseg.reports import compare
marks["importing the training"] = time.process_time()
iterate, update = loop.Training.run_iterations, loop.Training.update

def run_iterations(self, *arguments):
    marks["configuration, networks, names"] = time.process_time()
    return iterate(self, *arguments)

def first(self, *arguments):
    marks["the first batch"] = time.process_time()
    update(self, *arguments)
    marks["the first step"] = time.process_time()
    print(json.dumps(marks), flush=True)
    os._exit(0)

loop.Training.run_iterations, loop.Training.update = run_iterations, first
main(sys.argv[1:])
"""


def command_seconds(arguments: Sequence[str]) -> float:
    """Return the CPU seconds of a Python process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=one_thread())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # It has been waited for.
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(arguments))
    return usage.ru_utime + usage.ru_stime


def training_seconds(preset: str, out: Path) -> dict[str, float]:
    """Return the CPU seconds of each phase up to the end of the first step."""
    command = [sys.executable, "-c", TRAINING, "train", preset, f"--out={out}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=one_thread())
    marks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    before = [0.0, *marks.values()]
    return {name: mark - earlier for (name, mark), earlier in zip(marks.items(), before, strict=False)}


def one_thread() -> dict[str, str]:
    """Return the environment of a process with one thread: idle threads turn round and count as work."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = Parser(
        "python -m benchmarks.start",
        "CPU seconds of adaptseg --help, of one predicted photograph, and of each phase before the first step.",
        ("python -m benchmarks.start --rounds 5",),
    )
    parser.add_argument("--preset", default="streets", help="what is trained (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each (%(default)s)")
    options = parser.parse(list(sys.argv[1:] if arguments is None else arguments))
    with TemporaryDirectory() as place:
        folder = Path(place)
        model = write_model(folder / "model.safetensors", (240, 180))
        (photograph,) = write_photographs(folder / "photographs", 1, (1920, 1080))
        commands = {
            "adaptseg --help": ["-m", "adaptseg", "--help"],
            "import torch": ["-c", "import torch"],
            "adaptseg predict, one photograph of 1920x1080": [
                *("-m", "adaptseg", "predict", str(model), str(photograph)),
                *("--out", str(folder / "out"), "--device", "cpu"),
            ],
        }
        for name, command in commands.items():
            seconds = median(command_seconds(command) for _ in range(options.rounds))
            print(f"{name}: {seconds:.2f} CPU s", flush=True)
        rounds = [training_seconds(options.preset, folder / str(number)) for number in range(options.rounds)]
    print(f"adaptseg train {options.preset}, to the end of the first step:")
    phases = {name: median(found[name] for found in rounds) for name in rounds[0]}
    for name, seconds in phases.items():
        print(f"  {name}: {seconds:.2f} CPU s")
    print(f"  all: {sum(phases.values()):.2f} CPU s")


if __name__ == "__main__":
    main()
