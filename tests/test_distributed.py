"""Several processes on the CPU, started as a user does: torchrun, gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from adaptseg.distributed import first_node, join_processes, launched_processes
from adaptseg.errors import InputError
from adaptseg.experiment import read_experiment
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.training.checkpoint import TrainingState, load_checkpoint, saved_checkpoints
from adaptseg.training.loop import train
from adaptseg.training.run_lock import run_lock
from tests.conftest import CLASSES, PATIENCE, write_images
from tests.training.test_loop import metrics, weights


def torchrun(folder: Path, run: str, *options: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "adaptseg"]
    return [*launcher, "train", str(folder / "own.yaml"), f"--out={folder / run}", *options]


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
    train(build_config(experiment, ["--train.steps=60"]), folder / "first")
    experiment["model"] |= {"batch_norm": "frozen", "weights": str(folder / "first")}
    write_images(folder / "labelled", ["p", "q", "r"], labels=True)
    experiment["target_labelled"] = {"root": str(folder / "labelled"), "classes": CLASSES}
    experiment["train"]["labelled_share"] = 1.0
    experiment["method"]["lambda_labelled"] = 0.05
    experiment["optimizer"] = {"name": "sgd", "lr": 0.002}
    (folder / "own.yaml").write_text(yaml.safe_dump(experiment))
    train(config_of(folder), folder / "one")
    done = subprocess.run(torchrun(folder, "two"), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mIoU") == 1, "one process prints"
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
    options = ["--train.steps=2000", "--train.checkpoint_every=2000"]
    process = subprocess.Popen(
        torchrun(folder, "run", *options), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
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
    (checkpoint,) = saved_checkpoints(folder / "run")
    assert f"step-{int(metrics(folder / 'run')[-1]['step']):06d}" == checkpoint.name
    assert "its checkpoint is complete" in errors


SLOW = """
import sys, time
from pathlib import Path
from adaptseg.cli import main
from adaptseg.data.dataset import Domain
from adaptseg.training import checkpoint

read, write = Domain.for_evaluation, checkpoint.save_segmenter

def for_evaluation(self, index):
    Path(sys.argv[1], "evaluating").touch()
    time.sleep(1)
    return read(self, index)

def save_segmenter(*arguments):
    time.sleep(1)
    write(*arguments)

Domain.for_evaluation, checkpoint.save_segmenter = for_evaluation, save_segmenter
main(sys.argv[2:])
"""


def test_a_signal_to_one_process_during_an_evaluation(folder: Path) -> None:
    """All look after each image, and none leaves before the checkpoint, slowly written, is complete."""
    (folder / "slow.py").write_text(SLOW)
    command = torchrun(folder, "run", "--train.evaluate_every=3", "--train.checkpoint_every=1000")
    command[command.index("-m", 3) :] = [str(folder / "slow.py"), str(folder), *command[command.index("train") :]]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE
        while not (folder / "evaluating").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(ranks[1]), signal.SIGUSR1)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "after step 3; its checkpoint is complete" in errors
    assert [path.name for path in saved_checkpoints(folder / "run")] == ["step-000003"]
    load_checkpoint(folder / "run", state_of(config_of(folder, "--train.evaluate_every=3")))


def state_of(config: Any) -> TrainingState:
    method = build_method(build_segmenter(config), config)
    return TrainingState(config, method, method.optimizers())


def test_a_lock_that_is_refused_ends_all_processes(folder: Path) -> None:
    with run_lock(folder / "run"):
        done = subprocess.run(torchrun(folder, "run"), stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 1  # torchrun's own
    assert f"process {os.getpid()} trains into this folder" in done.stderr
    assert "process 1: another process of this training cannot go on" in done.stderr


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


def test_processes_of_srun_meet() -> None:
    """By the variables that `srun` sets alone; the address is the first node's, the port the job's."""
    code = (
        "import torch; from adaptseg import distributed as d\n"
        "assert d.join_processes(torch.device('cpu')) == d.join_processes(torch.device('cpu')) == torch.device('cpu')\n"
        "print(d.rank(), d.world_size(), d.highest(d.rank()), int(d.sum_over_processes(torch.tensor(1))))"
    )
    step = {"NUM_TASKS": "2", "NUM_NODES": "1", "NODELIST": "localhost"}
    job = {"SLURM_JOB_ID": str(os.getpid()), **{f"SLURM_STEP_{name}": value for name, value in step.items()}}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **job, "SLURM_PROCID": number, "SLURM_LOCALID": number, "SLURM_JOB_NAME": "train"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    said = [process.communicate(timeout=PATIENCE)[0].strip() for process in processes]
    assert said == ["0 2 1 2", "1 2 1 2"]


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
