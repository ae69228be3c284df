"""The training loop: data, schedule, log, evaluation, checkpoints. What a step does is the method's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer

from adaptseg.atomic import write_text
from adaptseg.checkpoint import load_checkpoint, save_checkpoint, saved_checkpoints
from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import LabelSpace, label_space
from adaptseg.data.loader import Batch, StepDataset, batches, to_device
from adaptseg.errors import InputError
from adaptseg.evaluate import Scores, check_protocol, evaluate
from adaptseg.experiment import write_config
from adaptseg.methods import build_method
from adaptseg.methods.base import Method, build_segmenter
from adaptseg.models.initial_weights import initialise
from adaptseg.optimizers import poly_factor, set_learning_rates
from adaptseg.progress import Progress


@dataclass(frozen=True)
class Domains:
    """The data of an experiment."""

    source: Domain
    target: Domain | None
    """None for methods that do not use the target."""
    evaluation: Domain
    protocol: LabelSpace
    """The classes that mIoU averages."""


def open_domains(config: ExperimentConfig, uses_target: bool) -> Domains:
    """Find all files of an experiment and read a few of each domain: wrong data are refused before training.

    Raises:
        InputError: files are missing or broken, labels do not fit the label map, or a class to train or to average
            is in no label.
    """
    space = label_space(config.label_space)
    protocol = label_space(config.protocol) if config.protocol else space
    check_protocol(protocol, space)
    source = Domain(config.domain("source"), space)
    target = Domain(config.domain("target"), space) if uses_target else None
    evaluation = Domain(config.domain("evaluation"), space)
    missing = [name for name in space.classes if name not in source.layout.raw_classes.values()]
    if missing:
        raise InputError(
            f"label_space: no label of the source is named {missing[0]!r}, but"
            f" {', '.join(dict.fromkeys(source.layout.raw_classes.values()))}; correct the name, or leave the class out"
        )
    for domain in (source, target, evaluation):
        if domain is not None:
            for index in sorted({0, len(domain) // 2, len(domain) - 1}):
                domain.read(index)
    return Domains(source, target, evaluation, protocol)


def train(config: ExperimentConfig, run: Path, resume: bool = False) -> Scores:
    """Train an experiment into the folder `run` and evaluate the result.

    Args:
        config: the experiment.
        run: the run folder; written are config.yaml, metrics.jsonl, checkpoints/ and result.json.
        resume: go on from the folder's last checkpoint.

    Raises:
        InputError: data or configuration are wrong, the run exists already, or there is nothing to resume.
    """
    if not resume and saved_checkpoints(run):
        raise InputError(f"{run}: holds a run already; go on with --resume, or choose another folder with --out")
    fabric = open_fabric(config)
    torch.manual_seed(config.seed)
    segmenter = initialise(build_segmenter(config), config.model)
    method = build_method(segmenter, config).to(fabric.device)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    domains = open_domains(config, method.uses_target)
    optimizers = method.optimizers()
    start = load_checkpoint(run, method, optimizers, config) if resume else 0
    run.mkdir(parents=True, exist_ok=True)
    write_config(config, run / "config.yaml")
    if start < config.train.steps:
        (run / "result.json").unlink(missing_ok=True)  # Of fewer steps.
    log = RunLog(run, start, config.train.tensorboard)
    try:
        iterate(fabric, method, optimizers, domains, config, run, start, log)
    finally:
        log.close()
    scores = evaluate(method.segmenter, domains.evaluation, domains.protocol)
    write_result(run, config, scores)
    return scores


def open_fabric(config: ExperimentConfig) -> Fabric:
    """Return Fabric on the configured device; raises `InputError` where there is no such device."""
    accelerator, _, index = config.train.device.partition(":")
    try:
        devices: Any = [int(index)] if index else 1
        return Fabric(accelerator=accelerator, devices=devices, precision=config.train.precision)  # type: ignore[arg-type]
    except Exception as error:  # Fabric raises many kinds: each means that the device is not there.
        reason = str(error).splitlines()[0]
        raise InputError(f"train.device {config.train.device!r}: {reason}; choose auto, cpu, cuda or mps") from error


def iterate(
    fabric: Fabric,
    method: Method,
    optimizers: Mapping[str, Optimizer],
    domains: Domains,
    config: ExperimentConfig,
    run: Path,
    start: int,
    log: RunLog,
) -> None:
    """Run iterations `start` to `train.steps`, one update of each optimiser per iteration."""
    settings = config.train
    schedule_steps = settings.schedule_steps or settings.steps
    source_batches = domain_batches(domains.source, "source", config, start, fabric.device)
    target_batches = domain_batches(domains.target, "target", config, start, fabric.device) if domains.target else None
    method.train()
    images = settings.batch * (2 if target_batches else 1)
    with Progress(settings.steps, start) as progress:
        logged_at, logged_step = time.perf_counter(), start
        for step in range(start, settings.steps):
            for optimizer in optimizers.values():
                set_learning_rates(optimizer, poly_factor(step, schedule_steps, settings.power))
                optimizer.zero_grad(set_to_none=True)
            target = next(target_batches) if target_batches else None
            with fabric.autocast():
                losses = method.step(next(source_batches), target)
            for optimizer in optimizers.values():
                optimizer.step()

            done = step + 1
            if done % settings.log_every == 0 or done == settings.steps:
                now = time.perf_counter()
                rate = (done - logged_step) * images / (now - logged_at)
                values = read_losses(losses, done)
                rates = {f"lr/{name}": o.param_groups[0]["lr"] for name, o in optimizers.items()}
                log.write(done, {**values, **rates, "images_per_second": rate})
                progress.update(done, values, rate)
                logged_at, logged_step = now, done
            if settings.evaluate_every and done % settings.evaluate_every == 0 and done < settings.steps:
                began = time.perf_counter()
                log.write(done, {"miou": evaluate(method.segmenter, domains.evaluation, domains.protocol).miou})
                logged_at += time.perf_counter() - began
            if done % settings.checkpoint_every == 0 or done == settings.steps:
                read_losses(losses, done)  # A network that has broken down replaces no checkpoint.
                save_checkpoint(run, done, method, optimizers, config)


def domain_batches(
    domain: Domain, role: str, config: ExperimentConfig, start: int, device: torch.device
) -> Iterator[Batch]:
    """Yield the batches of one domain from step `start`, on the device."""
    settings = config.train
    dataset = StepDataset(domain, role, config.seed, settings.batch, settings.flip)
    loaded = batches(dataset, start, settings.steps, settings.workers, pin_memory=device.type == "cuda")
    return (to_device(batch, device) for batch in loaded)


def read_losses(losses: Mapping[str, Tensor], step: int) -> dict[str, float]:
    """Return the losses as numbers, the only place where the loop waits for the device.

    Raises:
        InputError: a loss is not finite.
    """
    values = {name: float(loss) for name, loss in losses.items()}
    for name, value in values.items():
        if not abs(value) < float("inf"):
            raise InputError(
                f"step {step}: loss {name} is {value}; lower optimizer.lr or method.lambda_adv;"
                " the last checkpoint is kept"
            )
    return values


class RunLog:
    """`metrics.jsonl` and TensorBoard events of a run."""

    def __init__(self, run: Path, start: int, tensorboard: bool) -> None:
        """Open for a run that goes on after step `start`; lines of later steps are dropped."""
        path = run / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= start]
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._board = TensorBoardLogger(run, name="", version="tensorboard") if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.log_metrics(dict(values), step)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.finalize("success")


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except ValueError:
        return float("inf")  # Half a line: the machine went down while it was written.


def write_result(run: Path, config: ExperimentConfig, scores: Scores) -> None:
    """Write `result.json`, complete or not at all."""
    result = {
        **scores.to_dict(),
        "step": config.train.steps,
        "seed": config.seed,
        "method": config.method.name,
        "description": config.description,
    }
    write_text(run / "result.json", json.dumps(result, indent=2) + "\n")
