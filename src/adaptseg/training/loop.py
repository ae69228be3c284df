"""The training loop: data, schedule, log, evaluation, checkpoints. What a step does is the method's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.domains import Domains, open_domains
from adaptseg.data.files import UInt8Array
from adaptseg.data.loader import Batch, StepDataset, batches, to_device
from adaptseg.data.sampling import RareClassSampling, rare_class_sampling, step_seed
from adaptseg.distributed import (
    any_process,
    average_gradients,
    barrier,
    is_main,
    launched_processes,
    mean_over_processes,
    rank,
    share_buffers,
    world_size,
)
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import Scores, evaluate
from adaptseg.evaluation.selection import PREFIX, best_snapshot, selection_result
from adaptseg.evaluation.snapshot_scores import find_scorer
from adaptseg.experiment import write_config
from adaptseg.methods import build_method
from adaptseg.methods.base import Method, build_segmenter
from adaptseg.methods.fourier import with_target_style
from adaptseg.methods.optimizers import poly_factor, set_learning_rates
from adaptseg.methods.teacher import Teacher
from adaptseg.predict.predictions import prediction_strip
from adaptseg.progress import Progress
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.segmenter.loading import load_model
from adaptseg.training.checkpoint import (
    checkpoint_name,
    chosen_checkpoint,
    load_checkpoint,
    point_chosen,
    save_checkpoint,
    saved_checkpoints,
)
from adaptseg.training.divergence import CollapseWatch, FiniteWatch
from adaptseg.training.memory import keep_freed_memory
from adaptseg.training.preemption import Preempted, StopRequest
from adaptseg.training.run_lock import run_lock
from adaptseg.training.run_log import RunLog, read_log
from adaptseg.training.throughput import Meter

AVERAGE_MOMENTUM = 0.99
"""Of the averaged weights by which snapshots are scored, where the method has no teacher of its own."""


def train(config: ExperimentConfig, run: Path, resume: bool = False, allow_changes: bool = False) -> Scores:
    """Train an experiment into the folder `run` and evaluate the result.

    Started by torchrun or `srun`, all processes train one network, and the first one writes.

    Args:
        config: the experiment.
        run: the run folder; written are config.yaml, metrics.jsonl, checkpoints/ and result.json.
        resume: go on from the folder's last checkpoint.
        allow_changes: resume although the configuration is another one.

    Raises:
        InputError: data or configuration are wrong, the run exists already, another process trains into it, there
            is nothing to resume, or the training diverges.
        Preempted: a signal asked to stop; a checkpoint of the last finished iteration is written.
    """
    if not resume:
        refuse_existing(run)
    fabric = open_fabric(config)
    keep_freed_memory(fabric.device)
    torch.manual_seed(config.seed)
    segmenter = initialise(build_segmenter(config), config.model)
    method = build_method(segmenter, config).to(fabric.device)
    if config.train.sync_batch_norm and world_size() > 1:
        method = synchronised(method)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    domains = open_domains(config, method.uses_target)
    method.segmenter.values = domains.source.class_values()
    with run_lock(run) if is_main() else nullcontext(), StopRequest() as stop:
        if not resume:
            refuse_existing(run)  # Another process may have finished one meanwhile.
        training = Training(fabric, method, method.optimizers(), domains, config, run, stop)
        resumed = training.load(allow_changes) if resume else None
        barrier()
        scores = training.iterate(resumed)
        selection = training.selection()
        if is_main():
            write_result(run, config, scores, selection)
        barrier()
    return scores


def refuse_existing(run: Path) -> None:
    """Raise `InputError` where the folder holds a run."""
    if saved_checkpoints(run):
        raise InputError(f"{run}: holds a run already; go on with --resume, or choose another folder with --out")


def open_fabric(config: ExperimentConfig) -> Fabric:
    """Return Fabric on the configured device; raises `InputError` where there is no such device."""
    accelerator, _, index = config.train.device.partition(":")
    processes, nodes = launched_processes()
    if config.train.batch % (processes * nodes):
        raise InputError(
            f"train.batch is {config.train.batch}, to be shared by {processes * nodes} processes; make it a multiple"
        )
    try:
        devices: Any = [int(index)] if index else processes
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if processes * nodes > 1 else "auto",
            precision=config.train.precision,  # type: ignore[arg-type]
        )
        fabric.launch()
        return fabric
    except Exception as error:  # Fabric raises many kinds: each means that the device is not there.
        reason = str(error).splitlines()[0]
        raise InputError(f"train.device {config.train.device!r}: {reason}; choose auto, cpu, cuda or mps") from error


def synchronised(method: Method) -> Method:
    """Return the method with batch statistics over all processes; raises `InputError` on a CPU, which has none."""
    if next(method.parameters()).device.type != "cuda":
        raise InputError("train.sync_batch_norm needs CUDA devices; leave it out")
    converted: Method = nn.SyncBatchNorm.convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
    return converted


class Training:
    """The loop: one update of each optimiser per iteration, with its schedule, log and checkpoints."""

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        optimizers: dict[str, Optimizer],
        domains: Domains,
        config: ExperimentConfig,
        run: Path,
        stop: StopRequest,
    ) -> None:
        """Take what a training needs; nothing is written yet."""
        self.fabric, self.method, self.optimizers, self.domains = fabric, method, optimizers, domains
        self.config, self.run, self.stop = config, run, stop
        self.finite = FiniteWatch()
        self.collapse = CollapseWatch(getattr(config.method, "gan", "vanilla"))
        self.skipped = 0
        self.scorer = find_scorer(config, domains.source, method.uses_target)
        teacher = getattr(method, "teacher", None)
        averages = self.scorer is not None and teacher is None
        self.average = Teacher(method.segmenter, AVERAGE_MOMENTUM, statistics=True) if averages else None
        self.teacher: Teacher | None = teacher or self.average
        """What snapshots have to agree with; none where they are not scored."""
        self.saved: int | None = None
        """Step of the newest checkpoint."""

    def load(self, allow_changes: bool) -> int:
        """Restore the run's last checkpoint, and return the number of finished iterations."""
        return load_checkpoint(self.run, self.method, self.optimizers, self.config, allow_changes, self.average)

    def iterate(self, resumed: int | None) -> Scores:
        """Run the iterations up to `train.steps`, and score the result.

        Args:
            resumed: number of iterations that the loaded checkpoint has behind it; none for a new run.

        Raises:
            InputError: the training diverges, or a file is wrong; the last checkpoint is kept.
            Preempted: as `train`.
        """
        settings = self.config.train
        start, self.saved = resumed or 0, resumed
        if is_main():
            write_config(self.config, self.run / "config.yaml")
            if start < settings.steps:
                (self.run / "result.json").unlink(missing_ok=True)  # Of fewer steps.
        sampling = rare_class_sampling(self.domains.source, settings, self.run / "class_pixels.npy")
        source = domain_batches(self.domains.source, "source", self.config, start, self.fabric.device, sampling)
        target = None
        if self.domains.target:
            target = domain_batches(self.domains.target, "target", self.config, start, self.fabric.device)
        log = RunLog(self.run, start, self.config, writes=is_main())
        if resumed:
            self.choose()  # As at that step: the run may have gone further, or ended there.
        try:
            self.run_iterations(start, source, target, log)
            log.picture(settings.steps, self.target_picture)
            scores = self.evaluate()
            self.score_snapshot(log, settings.steps, scores)
            return scores
        finally:
            log.close()

    def run_iterations(self, start: int, source: Iterator[Batch], target: Iterator[Batch] | None, log: RunLog) -> None:
        """Run the iterations from `start` on, with their log, snapshots and checkpoints."""
        settings = self.config.train
        snapshot_every = settings.evaluate_every or (settings.checkpoint_every if self.scorer else 0)
        self.method.train()
        step = start
        try:
            with Progress(settings.steps, start, shown=is_main()) as progress:
                images = settings.batch * (2 if target else 1)
                meter = Meter(start, images, settings.workers, self.fabric.device)
                for step in range(start, settings.steps):
                    self.stop.check(any_process)
                    if snapshot_every and step and step % snapshot_every == 0:
                        with meter.paused():
                            self.score_snapshot(log, step, self.evaluate() if settings.evaluate_every else None)
                            log.picture(step, self.target_picture)
                    with meter.waiting():
                        batches = self.next_batches(source, target)
                    with meter.first_step():
                        losses = self.update(step, *batches)
                    done = step + 1
                    if done % settings.log_every == 0 or done == settings.steps:
                        self.log(log, progress, meter, done, losses)
                    if done % settings.checkpoint_every == 0 or done == settings.steps:
                        self.save(done)
        except Preempted as preempted:
            self.save(step)
            raise Preempted(f"{preempted} after step {step}") from None

    def next_batches(self, source: Iterator[Batch], target: Iterator[Batch] | None) -> tuple[Batch, Batch | None]:
        """Return a batch of each domain."""
        try:
            return next(source), next(target) if target else None
        except InputError:
            self.stop.check()  # The same signal may have ended the loader's workers.
            raise

    def update(self, step: int, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        """Take iteration `step`; return its losses on the device, none where the iteration was left out."""
        settings = self.config.train
        factor = poly_factor(step, settings.schedule_steps or settings.steps, settings.power)
        factor *= min(1.0, (step + 1) / (settings.warmup_steps + 1))
        for optimizer in self.optimizers.values():
            set_learning_rates(optimizer, factor)
            optimizer.zero_grad(set_to_none=True)
        kept = [buffer.clone() for buffer in self.method.buffers()] if settings.skip_nonfinite else []
        torch.manual_seed(step_seed(self.config.seed, step, rank()))
        if self.config.method.fourier_beta and target:
            styled = with_target_style(source["image"], target["image"], self.config.method.fourier_beta)
            source = Batch(image=styled, label=source["label"], names=source["names"])
        with self.fabric.autocast():
            losses = self.method.step(source, target)
        average_gradients(self.method.parameters())
        names = source["names"] + (target["names"] if target else [])
        self.finite.see(step + 1, losses, self.method.parameters(), names)
        if settings.skip_nonfinite and self.skipped < settings.skip_nonfinite and not self.finite.last_is_finite():
            self.skipped += 1
            for buffer, value in zip(self.method.buffers(), kept, strict=True):
                buffer.copy_(value)  # Batch norm's running statistics would stay NaN for ever.
            return {}
        for optimizer in self.optimizers.values():
            optimizer.step()
        if self.average is not None:
            self.average.follow(self.method.segmenter)
        return losses

    def evaluate(self) -> Scores:
        """Score the segmenter as it is now; each process takes its share of the images."""
        share_buffers(self.method)
        return evaluate(self.method.segmenter, self.domains.evaluation, self.domains.protocol, self.stop.checked)

    def score_snapshot(self, log: RunLog, step: int, scores: Scores | None) -> None:
        """Log the snapshot after `step` iterations: mIoU where it was evaluated, and its label-free scores."""
        self.finite.check()
        values = {} if scores is None or scores.miou is None else {"miou": scores.miou}
        if self.scorer is not None and self.teacher is not None:
            share_buffers(self.method)
            share_buffers(self.teacher)
            with self.fabric.autocast():
                found = self.scorer(self.method.segmenter, self.teacher.segmenter, self.stop.checked)
            values |= {PREFIX + name: score for name, score in found.items()}
        log.write(step, values)
        self.choose(step)

    def choose(self, current: int | None = None) -> None:
        """Point `checkpoints/chosen` to the best snapshot of the log that is kept; the current one is kept for that."""
        if self.scorer is None or not is_main():
            return
        kept = {path.name for path in saved_checkpoints(self.run)} | ({checkpoint_name(current)} if current else set())
        lines = [line for line in read_log(self.run) if checkpoint_name(line["step"]) in kept]
        best = best_snapshot(lines, self.config.train.selection)
        if best is not None and best == current:
            self.save(best)
        point_chosen(self.run, best)

    def selection(self) -> dict[str, Any] | None:
        """Return what `result.json` says of the choice; none where nothing was chosen."""
        barrier()  # The first process has chosen.
        name = chosen_checkpoint(self.run)
        if self.scorer is None or name is None:
            return None
        lines = read_log(self.run)
        step = int(name.removeprefix("step-"))
        miou = next((line["miou"] for line in lines if line["step"] == step and "miou" in line), None)
        if miou is None:
            segmenter = load_model(self.run / "checkpoints" / name).to(self.fabric.device)
            miou = evaluate(segmenter, self.domains.evaluation, self.domains.protocol, self.stop.checked).miou
        return selection_result(lines, self.config.train.selection, {"step": step, "miou": miou})

    def target_picture(self) -> UInt8Array:
        """Return a picture of target images with their predictions; of evaluation images where no target is used."""
        return prediction_strip(self.method.segmenter, self.domains.target or self.domains.evaluation)

    def log(self, log: RunLog, progress: Progress, meter: Meter, done: int, losses: dict[str, Tensor]) -> None:
        """Write a line of the log: the only place, beside checkpoints, where the loop waits for the device."""
        self.finite.check()
        values = {name: float(mean_over_processes(loss)) for name, loss in losses.items()}
        figures = meter.read(done)
        rates = {f"lr/{name}": o.param_groups[0]["lr"] for name, o in self.optimizers.items()}
        skipped = {"skipped": self.skipped} if self.skipped else {}
        log.write(done, {**values, **rates, **skipped, **figures})
        progress.update(done, values, figures["images_per_second"])
        for line in (*self.collapse.advice(done, values), meter.advice(figures)):
            if line and is_main():
                progress.say(line)

    def save(self, done: int) -> None:
        """Write the checkpoint after `done` iterations, unless it is there; a broken network replaces none."""
        self.finite.check()
        if done != self.saved and is_main():
            save_checkpoint(self.run, done, self.method, self.optimizers, self.config, self.average)
        self.saved = done


def domain_batches(
    domain: Domain,
    role: str,
    config: ExperimentConfig,
    start: int,
    device: torch.device,
    sampling: RareClassSampling | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one domain from step `start`, on the device; all samples alike where `sampling` is none."""
    settings = config.train
    share = (rank(), world_size())
    dataset = StepDataset(
        domain,
        role,
        config.seed,
        settings.batch,
        settings.flip,
        settings.crop,
        settings.scale_jitter,
        settings.source_jitter,
        sampling,
        share,
    )
    loaded = batches(dataset, start, settings.steps, settings.workers, pin_memory=device.type == "cuda")
    return (to_device(batch, device) for batch in loaded)


def write_result(run: Path, config: ExperimentConfig, scores: Scores, selection: dict[str, Any] | None) -> None:
    """Write `result.json`, complete or not at all: scores of the last iteration, and which snapshot was chosen."""
    result = {
        **scores.to_dict(),
        "step": config.train.steps,
        "seed": config.seed,
        "method": config.method.name,
        "description": config.description,
        **({"selection": selection} if selection else {}),
    }
    write_text(run / "result.json", json.dumps(result, indent=2) + "\n")
