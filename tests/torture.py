"""Kill trainings at random moments, resume them, and hold every checkpoint against an unbroken run, bit for bit.

    python -m tests.torture --kills 50 --seed 0        (or: make torture)

A killed training is started again with --resume, killed again, and so on; after its share of kills it may finish.
After each kill the newest checkpoint must be complete and equal the unbroken run's checkpoint of the same step:
networks and optimisers. At the end metrics and scores must be equal too.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from adaptseg.training.checkpoint import TRAINING_STATE, saved_checkpoints
from tests.conftest import PATIENCE, small_experiment
from tests.training.test_loop import metrics

STEPS = 150
METHODS = ("source_only", "adaptsegnet")
WORKERS = (0, 1, 4)


@dataclass
class Outcome:
    """What became of one training that was killed several times."""

    name: str
    kills: int = 0
    while_saving: int = 0
    """Kills that left a half-written checkpoint behind."""
    identical: int = 0
    """Kills after which the newest checkpoint was that of the unbroken run, and from which resuming went on."""
    faults: list[str] = field(default_factory=list)


def start(experiment: Path, run: Path, method: str, workers: int, keep: int) -> subprocess.Popen[bytes]:
    options = [f"--method.name={method}", f"--train.workers={workers}", f"--train.keep={keep}"]
    options += [f"--train.steps={STEPS}", "--train.checkpoint_every=1", "--train.evaluate_every=7", f"--out={run}"]
    options += ["--resume"] if saved_checkpoints(run) else []
    arguments = [sys.executable, "-m", "adaptseg", "train", str(experiment), *options]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> str:
    """Wait for the process's end and return what went wrong, nothing if all is well."""
    errors = process.communicate(timeout=PATIENCE)[1].decode()
    return f"exit {process.returncode}: {errors.strip()}" if process.returncode else ""


def kill_at_random(process: subprocess.Popen[bytes], run: Path, rng: random.Random) -> bool:
    """Let the process train for up to a second, then kill it; false where it ended before."""
    before = newest(run)
    while process.poll() is None and newest(run) == before:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.5))
    if process.poll() is not None:
        return False
    process.kill()
    process.communicate()
    return True


def newest(run: Path) -> str:
    saved = saved_checkpoints(run)
    return saved[-1].name if saved else ""


def state_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of a checkpoint: networks and optimisers."""
    files = checkpoint.glob("*.safetensors")
    state = {f"{file.name}.{name}": value for file in files for name, value in load_file(file).items()}
    return state | dict(tensors(torch.load(checkpoint / TRAINING_STATE, weights_only=True), "training"))


def tensors(value: Any, key: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, dict | list | tuple):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tensors(item, f"{key}.{name}")
    elif value is not None and not isinstance(value, str):
        yield key, torch.as_tensor(value)


def differing(actual: Path, expected: Path) -> str:
    """Return the name of a tensor that differs between two checkpoints, nothing if all are equal bit for bit."""
    a, b = state_of(actual), state_of(expected)
    if a.keys() != b.keys():
        return f"keys {sorted(a.keys() ^ b.keys())[:3]}"
    return next((name for name in a if not torch.equal(a[name], b[name])), "")


def torture(folder: Path, method: str, workers: int, kills: int, rng: random.Random) -> Outcome:
    """Train once unbroken, once with `kills` SIGKILLs, and compare."""
    outcome = Outcome(f"{method}, {workers} workers")
    experiment = folder / "own.yaml"
    unbroken, run = folder / f"unbroken-{method}", folder / f"killed-{method}-{workers}"
    if not (unbroken / "result.json").exists():
        fault = finish(start(experiment, unbroken, method, 0, keep=STEPS))
        assert not fault, fault
    while outcome.kills < kills:
        process = start(experiment, run, method, workers, keep=2)
        if not kill_at_random(process, run, rng):
            outcome.faults.append(f"ended before kill {outcome.kills + 1}: {finish(process)}")
            return outcome
        outcome.kills += 1
        outcome.while_saving += any((run / "checkpoints").glob(".step-*"))
        last = run / "checkpoints" / "last"
        fault = differing(last, unbroken / "checkpoints" / last.resolve().name)
        fault = fault or differing(saved_checkpoints(run)[-1], unbroken / "checkpoints" / newest(run))
        if fault:
            outcome.faults.append(f"after kill {outcome.kills}, {newest(run)}: {fault} differs")
        else:
            outcome.identical += 1
    fault = finish(start(experiment, run, method, workers, keep=2))
    if not fault and metrics(run) != metrics(unbroken):
        fault = "metrics differ"
    if not fault and (run / "result.json").read_text() != (unbroken / "result.json").read_text():
        fault = "result.json differs"
    outcome.faults += [fault] if fault else []
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill trainings at random moments and compare with unbroken ones.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    cases = list(product(METHODS, WORKERS))
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "own.yaml").write_text(yaml.safe_dump(small_experiment(Path(folder))))
        for index, (method, workers) in enumerate(cases):
            share = options.kills // len(cases) + (index < options.kills % len(cases))
            outcome = torture(Path(folder), method, workers, share, rng)
            outcomes.append(outcome)
            print(
                f"{outcome.name:<24} {outcome.kills:>3} kills ({outcome.while_saving} while a checkpoint was written),"
                f" {outcome.identical:>3} resumes bit-identical{''.join(f'; {fault}' for fault in outcome.faults)}",
                flush=True,
            )
    kills, identical = sum(o.kills for o in outcomes), sum(o.identical for o in outcomes)
    print(f"{'all':<24} {kills:>3} kills, {identical}/{kills} resumes bit-identical, seed {options.seed}")
    return int(any(o.faults for o in outcomes) or identical < options.kills)


if __name__ == "__main__":
    sys.exit(main())
