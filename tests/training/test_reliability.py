"""What happens to a training when the machine misbehaves: signals, full disks, killed processes, two at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptseg.data.dataset import Domain
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods.configuration import build_config
from adaptseg.training.checkpoint import save_checkpoint, saved_checkpoints
from adaptseg.training.loop import train
from adaptseg.training.preemption import Preempted
from adaptseg.training.run_lock import run_lock
from tests.conftest import PATIENCE
from tests.processes import Command
from tests.torture import Length, torture
from tests.training.test_loop import metrics, weights


@pytest.fixture
def start(tmp_path: Path, experiment: dict[str, Any]) -> Iterator[Callable[..., Command]]:
    """Start `adaptseg train` on the small experiment in a process of its own."""
    started: list[Command] = []

    def run(name: str, *options: str, **settings: Any) -> Command:
        started.append(Command("train", tmp_path / "own.yaml", f"--out={tmp_path / name}", *options, **settings))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 1), (signal.SIGUSR1, 0)], ids=str)
def test_a_signal_ends_a_training_with_a_checkpoint(
    number: signal.Signals, workers: int, start: Callable[..., Command], tmp_path: Path
) -> None:
    options = ["--train.steps=400", "--train.checkpoint_every=1000", f"--train.workers={workers}"]
    process = start("run", *options, start_new_session=True)
    wait_for(lambda: lines_of(tmp_path / "run" / "metrics.jsonl") >= 3)
    os.killpg(process.pid, number)  # As a terminal's Ctrl-C or a batch system does: loader workers get it too.
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, errors
    assert number.name in errors.splitlines()[-1]
    assert "--resume" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    (checkpoint,) = saved_checkpoints(tmp_path / "run")
    done = int(checkpoint.name.removeprefix("step-"))
    assert done == metrics(tmp_path / "run")[-1]["step"]
    assert not (tmp_path / "run" / "result.json").exists()

    if number != signal.SIGTERM:
        return  # What is resumed from is the same after each.
    steps = f"--train.steps={done + 2}"
    train(build_config(tmp_yaml(tmp_path), [steps, "--train.schedule_steps=400"]), tmp_path / "run", resume=True)
    train(build_config(tmp_yaml(tmp_path), [steps, "--train.schedule_steps=400"]), tmp_path / "unbroken")
    expected, actual = weights(tmp_path / "unbroken"), weights(tmp_path / "run")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def tmp_yaml(tmp_path: Path) -> dict[str, Any]:
    return read_experiment(str(tmp_path / "own.yaml"))[1]


def test_a_second_signal_ends_at_once() -> None:
    code = """if True:
        import signal
        from adaptseg.training.preemption import StopRequest
        with StopRequest() as request:
            signal.raise_signal(signal.SIGTERM)
            print(request.signal.name, flush=True)
            signal.raise_signal(signal.SIGTERM)
            print("goes on")
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert (done.stdout, done.returncode) == ("SIGTERM\n", -signal.SIGTERM)


def test_a_signal_during_evaluation(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation is given up at once and made anew on resuming: the run ends as an unbroken one."""
    config = build_config(experiment, ["--train.evaluate_every=3", "--train.checkpoint_every=4"])
    train(config, tmp_path / "unbroken")
    original = Domain.for_evaluation

    def asked_to_stop_at(image: int) -> Any:
        images = iter(range(100))

        def for_evaluation(self: Domain, index: int) -> Any:
            if next(images) == image:
                signal.raise_signal(signal.SIGTERM)
            return original(self, index)

        return for_evaluation

    # In the evaluation of step 3; then, after its two images, in that of the end.
    for image, stopped_at in ((0, "stopped by SIGTERM after step 3"), (2, "stopped by SIGTERM$")):
        with monkeypatch.context() as patched:
            patched.setattr(Domain, "for_evaluation", asked_to_stop_at(image))
            with pytest.raises(Preempted, match=stopped_at):
                train(config, tmp_path / "run", resume=bool(saved_checkpoints(tmp_path / "run")))
        assert not (tmp_path / "run" / "result.json").exists()
    train(config, tmp_path / "run", resume=True)
    results = [(tmp_path / run / "result.json").read_text() for run in ("unbroken", "run")]
    assert results[0] == results[1]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_while_no_data_come(
    workers: int, experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, hangs = Domain.__getitem__, tmp_path / "hangs"

    def hang_at_step_2(self: Domain, index: int) -> Any:
        if saved_checkpoints(tmp_path / "run"):
            hangs.touch()
            time.sleep(PATIENCE)
        return original(self, index)

    def ask_to_stop() -> None:
        wait_for(hangs.exists)
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(Domain, "__getitem__", hang_at_step_2)
    began = time.monotonic()
    asking = threading.Thread(target=ask_to_stop)
    asking.start()
    options = [f"--train.workers={workers}", "--train.checkpoint_every=1", "--train.steps=400"]
    with pytest.raises(Preempted, match=r"stopped by SIGUSR1 after step \d+"):
        train(build_config(experiment, options), tmp_path / "run")
    asking.join()
    assert time.monotonic() - began < PATIENCE
    assert saved_checkpoints(tmp_path / "run")


def test_a_killed_loader_worker(experiment: dict[str, Any], tmp_path: Path, start: Callable[..., Command]) -> None:
    process = start("run", "--train.steps=400", "--train.checkpoint_every=2", "--train.workers=1")
    wait_for(lambda: lines_of(tmp_path / "run" / "metrics.jsonl") >= 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    worker = next(child for child in children if Path(f"/proc/{child}/cmdline").read_bytes() == line)
    os.kill(int(worker), signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "train.workers" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert saved_checkpoints(tmp_path / "run")


@pytest.mark.parametrize("megabytes", [0.02, 0.3, 1.2])
def test_a_disk_that_fills_up_keeps_the_last_checkpoint(
    megabytes: float, start: Callable[..., Command], experiment: dict[str, Any], tmp_path: Path
) -> None:
    train(build_config(tmp_yaml(tmp_path), ["--train.steps=2", "--train.schedule_steps=4"]), tmp_path / "run")
    before = weights(tmp_path / "run")
    process = start("run", "--train.steps=4", "--train.schedule_steps=4", "--resume", largest_file=megabytes)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert "File too large" in errors.splitlines()[-1]
    assert "inline_container" not in errors
    after = weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob(".*")] == []


def test_a_folder_that_cannot_be_written_to(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    from adaptseg.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["train", str(tmp_path / "own.yaml"), f"--out={tmp_path / 'file' / 'run'}"])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_data_that_vanish_during_training(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_then_lose(*arguments: Any) -> Path:
        saved = save_checkpoint(*arguments)
        for path in (tmp_path / "target").rglob("*.png"):
            path.unlink()
        return saved

    monkeypatch.setattr("adaptseg.training.loop.save_checkpoint", save_then_lose)
    with pytest.raises(InputError, match=r"target.*\.png"):
        train(build_config(experiment), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last").resolve().name == "step-000002"


def test_two_trainings_in_one_folder(experiment: dict[str, Any], tmp_path: Path, start: Callable[..., Command]) -> None:
    process = start("run", "--train.steps=4000", "--train.checkpoint_every=4000")
    wait_for(lambda: lines_of(tmp_path / "run" / "metrics.jsonl") >= 1)
    config = build_config(experiment)
    with pytest.raises(InputError, match=f"run: process {process.pid} trains into this folder"):
        train(config, tmp_path / "run")
    assert process.poll() is None
    process.kill()
    process.wait()
    train(config, tmp_path / "run")  # The lock of a dead process is free.
    with run_lock(tmp_path / "run"):
        pass


@pytest.mark.usefixtures("experiment")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """The short form of `make torture`."""
    outcome = torture(tmp_path, "adaptsegnet", 1, kills=2, rng=random.Random(0), length=Length(24, 0.05))
    assert outcome.faults == []
    assert outcome.identical == 2
