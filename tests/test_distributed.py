"""Several processes on the CPU, started as a user does: torchrun, gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from adaptseg.cli import main
from adaptseg.data.dataset import Domain
from adaptseg.distributed import (
    first_node,
    highest,
    join_processes,
    launched_processes,
    rank,
    sum_over_processes,
    world_size,
)
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.segmenter.weights import save_segmenter
from adaptseg.training.checkpoint import TrainingState, load_checkpoint, saved_checkpoints
from adaptseg.training.loop import train
from adaptseg.training.preemption import EXIT_RESUMABLE
from adaptseg.training.run_lock import run_lock
from tests.conftest import CLASSES, PATIENCE, write_images
from tests.processes import Command, ranks
from tests.training.test_loop import metrics, weights


@pytest.fixture
def folder(experiment: dict[str, Any], tmp_path: Path) -> Path:
    """An experiment of two levels; half of one label is ignored."""
    label = np.array(Image.open(tmp_path / "source" / "labels" / "a.png"))
    label[:30] = 255
    Image.fromarray(label).save(tmp_path / "source" / "labels" / "a.png")
    experiment["model"] |= {"levels": 2}
    experiment["method"] |= {"lambda_seg": [0.1, 1.0], "lambda_adv": [0.01, 0.05]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(experiment))
    return tmp_path


def config_of(folder: Path, *overrides: str) -> Any:
    return build_config(read_experiment(str(folder / "own.yaml"))[1], list(overrides))


def test_two_processes_are_one(folder: Path, experiment: dict[str, Any]) -> None:
    """Without batch statistics, an image at a time cannot be told from a batch; of labelled target images neither."""
    # A frozen network learns next to nothing from random weights: it starts from one that has learned a little.
    train(build_config(experiment, ["--train.steps=60", "--train.tensorboard=false"]), folder / "first")
    experiment["model"] |= {"batch_norm": "frozen", "weights": str(folder / "first")}
    write_images(folder / "labelled", ["p", "q", "r"], labels=True)
    experiment["target_labelled"] = {"root": str(folder / "labelled"), "classes": CLASSES}
    experiment["train"]["labelled_share"] = 1.0
    experiment["method"]["lambda_labelled"] = 0.05
    experiment["optimizer"] = {"name": "sgd", "lr": 0.002}
    (folder / "own.yaml").write_text(yaml.safe_dump(experiment))
    train(config_of(folder), folder / "one")
    processes = ranks(2, "train", folder / "own.yaml", f"--out={folder / 'two'}")
    printed = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert sum(stdout.count("mIoU") for stdout, _ in printed) == 1, "one process prints"
    expected, actual = weights(folder / "one"), weights(folder / "two")
    moved = weights(folder / "first")["layer4.0.conv1.weight"] - expected["layer4.0.conv1.weight"]
    assert moved.abs().max() > 5e-5, "something was learned"
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=2e-6, msg=name)
    for one, two in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    results = [json.loads((folder / run / "result.json").read_text()) for run in ("one", "two")]
    assert sum(map(sum, results[0]["confusion"])) == sum(map(sum, results[1]["confusion"]))
    assert results[0]["miou"] == pytest.approx(results[1]["miou"], abs=1e-3)


def test_a_signal_stops_all_processes_at_the_same_step(folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "adaptseg"]
    options = ["--train.steps=2000", "--train.checkpoint_every=2000", f"--out={folder / 'run'}"]
    command = [*launcher, "train", str(folder / "own.yaml"), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        log = folder / "run" / "metrics.jsonl"
        end = time.monotonic() + PATIENCE
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)  # The launcher hands it on.
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    (saved,) = saved_checkpoints(folder / "run")
    assert f"step-{int(metrics(folder / 'run')[-1]['step']):06d}" == saved.name
    assert "its checkpoint is complete" in errors


def main_when_slow(arguments: Sequence[str]) -> None:
    """Evaluate and save slowly; `evaluating` beside the run says that it has begun."""
    read = Domain.for_evaluation

    def for_evaluation(self: Domain, index: int) -> Any:
        Path(arguments[1]).with_name("evaluating").touch()
        time.sleep(1)
        return read(self, index)

    def save_slowly(*saved: Any) -> None:
        time.sleep(1)
        save_segmenter(*saved)

    slow = mock.patch("adaptseg.training.checkpoint.save_segmenter", save_slowly)
    with mock.patch.object(Domain, "for_evaluation", for_evaluation), slow:
        main(arguments)


def test_a_signal_to_one_process_during_an_evaluation(folder: Path) -> None:
    """All look after each image, and none leaves before the checkpoint, slowly written, is complete."""
    options = ["--train.evaluate_every=3", "--train.checkpoint_every=1000", f"--out={folder / 'run'}"]
    processes = ranks(2, "train", folder / "own.yaml", *options, call=main_when_slow)
    try:
        end = time.monotonic() + PATIENCE
        while not (folder / "evaluating").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(processes[1].pid, signal.SIGUSR1)
        errors = [process.communicate()[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [EXIT_RESUMABLE] * 2
    assert "after step 3; its checkpoint is complete" in "".join(errors)
    assert [path.name for path in saved_checkpoints(folder / "run")] == ["step-000003"]
    load_checkpoint(folder / "run", state_of(config_of(folder, "--train.evaluate_every=3")))


def state_of(config: Any) -> TrainingState:
    method = build_method(build_segmenter(config), config)
    return TrainingState(config, method, method.optimizers())


def test_a_lock_that_is_refused_ends_all_processes(folder: Path) -> None:
    with run_lock(folder / "run"):
        processes = ranks(2, "train", folder / "own.yaml", f"--out={folder / 'run'}")
        first, second = (process.communicate()[1] for process in processes)
    assert [process.returncode for process in processes] == [2, 2]
    assert f"process {os.getpid()} trains into this folder" in first
    assert "process 1: another process of this training cannot go on" in second


def test_a_batch_that_cannot_be_shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptseg.training.device.launched_processes", lambda: (2, 1))
    with pytest.raises(InputError, match=r"train\.batch is 3, to be shared by 2 processes; make it a multiple"):
        train(config_of(folder, "--train.batch=3"), folder / "run")
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("a-[3,5]", "a-3"),
        ("a3,b4", "a3"),
        ("a b", "a"),
        ("n[5]", "n5"),
    ],
)
def test_where_processes_of_a_job_meet(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


def meet(arguments: Sequence[str]) -> None:
    assert join_processes(torch.device("cpu")) == join_processes(torch.device("cpu")) == torch.device("cpu")
    print(rank(), world_size(), highest(rank()), int(sum_over_processes(torch.tensor(1))))


def test_processes_of_srun_meet() -> None:
    """By the variables that `srun` sets alone; the address is the first node's, the port the job's."""
    step = {"NUM_TASKS": "2", "NUM_NODES": "1", "NODELIST": "localhost"}
    job = {"SLURM_JOB_ID": str(os.getpid()), **{f"SLURM_STEP_{name}": value for name, value in step.items()}}
    job["SLURM_JOB_NAME"] = "train"
    processes = [
        Command(call=meet, environment={**job, "SLURM_PROCID": number, "SLURM_LOCALID": number}) for number in "01"
    ]
    assert [process.communicate()[0].strip() for process in processes] == ["0 2 1 2", "1 2 1 2"]


def test_one_card_is_not_for_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptseg.distributed.launched_processes", lambda: (2, 1))
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    with pytest.raises(InputError, match="one card for 2 processes; choose cuda"):
        join_processes(torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="2 processes on a node with 0 cards"):
        join_processes(torch.device("cuda"))


BATCH_SCRIPT = {
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NAME": "train",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        ({**BATCH_SCRIPT, "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, (4, 2)),
        ({**BATCH_SCRIPT, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, (1, 1)),
        (BATCH_SCRIPT, (1, 1)),
        ({**BATCH_SCRIPT, "SLURM_STEP_NUM_TASKS": "8", "SLURM_JOB_NAME": "bash"}, (1, 1)),
    ],
)
def test_what_started_this_process(
    environment: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched_processes() == expected


def test_nodes_share_the_tasks_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**BATCH_SCRIPT, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="3 tasks on 2 nodes; start as many on each"):
        launched_processes()


def test_torchrun_in_a_job_with_one_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch script's SLURM_LOCALID does not say that each process sees a card of its own."""
    torchrun_says = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
    for name, value in {**BATCH_SCRIPT, **torchrun_says, "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: pytest.fail("both processes would take one card"))
    with pytest.raises(InputError, match="2 processes on a node with 1 cards"):
        join_processes(torch.device("cuda"))


def test_labelled_images_that_cannot_be_shared(
    folder: Path, experiment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptseg.training.device.launched_processes", lambda: (2, 1))
    config = build_config({**experiment, "target_labelled": {"root": "labelled"}})
    with pytest.raises(InputError, match=r"train\.labelled_share x train\.batch is 1, to be shared by 2 processes"):
        train(config, folder / "run")
