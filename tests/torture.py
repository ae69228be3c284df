"""Kill trainings at random moments, resume them, and hold every checkpoint against an unbroken run, bit for bit.

    python -m tests.torture --kills 50 --ranks 24 --damages 10 --seed 0        (or: make torture)

A killed training is started again with --resume, killed again, and so on; after its share of kills it may finish.
After each kill the newest checkpoint must be complete and equal the unbroken run's checkpoint of the same step:
networks and optimisers. At the end metrics and scores must be equal too. Of two processes that torchrun started, one is
killed, or asked to stop by SIGUSR1. And every file of a checkpoint is damaged: what is then resumed from, or used, must
be refused, or be a whole checkpoint's.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from adaptseg.config import ExperimentConfig
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.checkpoint_card import checkpoint_name
from adaptseg.segmenter.loading import load_model
from adaptseg.training.checkpoint import (
    TRAINING_STATE,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    saved_checkpoints,
)
from adaptseg.training.loop import train
from tests.conftest import PATIENCE, small_experiment
from tests.processes import Command
from tests.training.test_loop import metrics

METHODS = ("source_only", "adaptsegnet")
WORKERS = (0, 1, 4)
Process = subprocess.Popen[str] | Command


@dataclass(frozen=True)
class Length:
    """How long a training is, and how long it goes on after a checkpoint, at most, until it is killed."""

    steps: int = 150
    seconds: float = 0.5


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


def start(experiment: Path, run: Path, method: str, workers: int, keep: int, steps: int, processes: int = 1) -> Process:
    options = [f"--method.name={method}", f"--train.workers={workers}", f"--train.keep={keep}"]
    options += [f"--train.steps={steps}", "--train.checkpoint_every=1", "--train.evaluate_every=7", f"--out={run}"]
    options += ["--resume"] if saved_checkpoints(run) else []
    arguments = ["train", str(experiment), *options]
    if processes == 1:
        return Command(*arguments)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "adaptseg"]
    command = [sys.executable, *launcher, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: Process) -> str:
    """Wait for the process's end and return what went wrong, nothing if all is well."""
    errors = process.communicate(timeout=PATIENCE)[1]
    return f"exit {process.returncode}: {errors.strip()}" if process.returncode else ""


def wait_at_random(process: Process, run: Path, rng: random.Random, seconds: float) -> bool:
    """Let the process train up to a new checkpoint and some seconds more; false where it ended before."""
    before = newest(run)
    while process.poll() is None and newest(run) == before:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, seconds))
    return process.poll() is None


def kill_at_random(process: Process, run: Path, rng: random.Random, seconds: float) -> bool:
    """Kill the process while it trains; false where it ended before."""
    if not wait_at_random(process, run, rng, seconds):
        return False
    process.kill()
    process.communicate()
    return True


def stop_a_rank(process: Process, run: Path, rng: random.Random, seconds: float) -> bool:
    """Kill one of the processes that torchrun started, or ask one of them to stop; then all have to end."""
    if not wait_at_random(process, run, rng, seconds):
        return False
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGUSR1])
    with suppress(ProcessLookupError):
        os.kill(int(rng.choice(ranks)), number)
    process.communicate(timeout=PATIENCE)
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


def torture(
    folder: Path,
    method: str,
    workers: int,
    kills: int,
    rng: random.Random,
    processes: int = 1,
    length: Length = Length(),
) -> Outcome:
    """Train once unbroken, once with `kills` SIGKILLs, and compare; of several processes one is killed or stopped."""
    outcome = Outcome(f"{method}, " + (f"{workers} workers" if processes == 1 else f"{processes} processes"))
    experiment = folder / "own.yaml"
    unbroken = folder / f"unbroken-{method}-{processes}"
    run = folder / f"killed-{method}-{workers}-{processes}"
    break_off = kill_at_random if processes == 1 else stop_a_rank
    if not (unbroken / "result.json").exists():
        fault = finish(start(experiment, unbroken, method, 0, length.steps, length.steps, processes))
        assert not fault, fault
    while outcome.kills < kills:
        process = start(experiment, run, method, workers, 2, length.steps, processes)
        if not break_off(process, run, rng, length.seconds):
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
    fault = finish(start(experiment, run, method, workers, 2, length.steps, processes))
    if not fault and metrics(run) != metrics(unbroken):
        fault = "metrics differ"
    if not fault and (run / "result.json").read_text() != (unbroken / "result.json").read_text():
        fault = "result.json differs"
    outcome.faults += [fault] if fault else []
    return outcome


def bit(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def zeros(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content))
    content[begin:] = bytes(len(content) - begin)
    path.write_bytes(content)


def missing(path: Path, rng: random.Random) -> None:
    path.unlink()


def damage(folder: Path, method: str, each: int, rng: random.Random) -> tuple[int, int, list[str]]:
    """Damage every file of a run's newest checkpoint, `each` times in each way; resume from it, and use it.

    Returns:
        How often, how often nothing of the damage was used, and the faults. The one before may be resumed from.
    """
    config = build_config(read_experiment(str(folder / "own.yaml"))[1], [f"--method.name={method}", "--train.steps=4"])
    run, count, sound = folder / f"whole-{method}", 0, 0
    faults: list[str] = []
    train(config, run)
    whole = [*saved_checkpoints(run)]
    expected = {path.name: state_of(path) for path in whole}
    for file, way in product(sorted(path.name for path in whole[-1].iterdir()), (bit, zeros, missing)):
        for _ in range(1 if way is missing else each):
            copy = folder / f"damaged-{method}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy, symlinks=True)
            way(copy / "checkpoints" / whole[-1].name / file, rng)
            count += 1
            used = used_after_damage(copy, config)
            fault = next((name for name, state in used if not same(state, expected.get(name, {}))), "")
            faults += [f"{file}, {way.__name__}: {fault} differs"] if fault else []
            sound += not fault
    return count, sound, faults


def used_after_damage(run: Path, config: ExperimentConfig) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """Return the checkpoint that is resumed from, and what is read as a model, each with its tensors."""
    method = build_method(build_segmenter(config), config)
    state = TrainingState(config, method, method.optimizers())
    used = []
    with redirect_stderr(io.StringIO()), suppress(InputError):
        load_checkpoint(run, state)
        found = run / "again" / "checkpoints" / checkpoint_name(state.step)
        save_checkpoint(run / "again", state)
        used.append((found.name, state_of(found)))
    with redirect_stderr(io.StringIO()), suppress(InputError):
        network = load_model(run).network.state_dict()
        read = {f"segmenter.safetensors.{name}": value for name, value in network.items()}
        used.append((saved_checkpoints(run)[-1].name, read))
    return used


def same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    settled = {name: value for name, value in actual.items() if "param_groups" not in name}  # Rates are of the step.
    return all(name in expected and torch.equal(value, expected[name]) for name, value in settled.items())


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill trainings at random moments and compare with unbroken ones.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=24, help="kills of one of two processes")
    parser.add_argument("--damages", type=int, default=10, help="damages of each kind and file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    cases = list(product(METHODS, WORKERS))
    wanted = [options.kills // len(cases) + (index < options.kills % len(cases)) for index in range(len(cases))]
    plan = [(*case, share, 1) for case, share in zip(cases, wanted, strict=True) if share]
    plan += [(method, 0, options.ranks // len(METHODS), 2) for method in METHODS if options.ranks]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "own.yaml").write_text(yaml.safe_dump(small_experiment(Path(folder))))
        for method in METHODS if options.damages else ():
            count, sound, faults = damage(Path(folder), method, options.damages, rng)
            print(
                f"{method:<24} {count:>3} damages, {sound:>3} refused or without effect", *faults, sep="; ", flush=True
            )
            failed |= bool(faults)
        outcomes = []
        for method, workers, share, processes in plan:
            outcome = torture(Path(folder), method, workers, share, rng, processes)
            outcomes.append(outcome)
            print(
                f"{outcome.name:<24} {outcome.kills:>3} kills ({outcome.while_saving} while a checkpoint was written),"
                f" {outcome.identical:>3} resumes bit-identical{''.join(f'; {fault}' for fault in outcome.faults)}",
                flush=True,
            )
    kills, identical = sum(o.kills for o in outcomes), sum(o.identical for o in outcomes)
    print(f"{'all':<24} {kills:>3} kills, {identical}/{kills} resumes bit-identical, seed {options.seed}")
    return int(failed or any(o.faults for o in outcomes) or identical < sum(share for _, _, share, _ in plan))


if __name__ == "__main__":
    sys.exit(main())
