"""The training loop: data, schedule, log, evaluation, checkpoints. What a step does is the method's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from adaptseg.atomic import write_text
from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.domains import Domains, open_domains
from adaptseg.data.files import UInt8Array
from adaptseg.data.loader import Batch, batches, step_dataset, to_device
from adaptseg.data.sampling import CLASS_PIXELS, RareClassSampling, rare_class_sampling, step_seed
from adaptseg.distributed import (
    all_or_none,
    another_failed,
    any_process,
    average_gradients,
    barrier,
    highest,
    is_main,
    mean_over_processes,
    rank,
    share_buffers,
    world_size,
)
from adaptseg.errors import InputError
from adaptseg.evaluation.evaluate import Scores, evaluate
from adaptseg.evaluation.selection import PREFIX, best_snapshot, open_scorer, selection_result
from adaptseg.experiment import write_config
from adaptseg.methods import build_method
from adaptseg.methods.base import build_segmenter
from adaptseg.methods.optimizers import poly_factor, set_learning_rates
from adaptseg.models.own_network import use_channels_last
from adaptseg.predict.predictions import prediction_strip
from adaptseg.progress import Progress
from adaptseg.segmenter.checkpoint_card import checkpoint_name
from adaptseg.segmenter.initial_weights import initialise
from adaptseg.segmenter.loading import load_model
from adaptseg.segmenter.pretrained import license_of
from adaptseg.training.checkpoint import (
    TrainingState,
    chosen_checkpoint,
    load_checkpoint,
    point_chosen,
    save_checkpoint,
    saved_checkpoints,
    set_aside_newer,
)
from adaptseg.training.device import autocast, open_device
from adaptseg.training.divergence import CollapseWatch, FiniteWatch
from adaptseg.training.memory import keep_freed_memory
from adaptseg.training.preemption import Preempted, StopRequest
from adaptseg.training.run_lock import run_lock
from adaptseg.training.run_log import RunLog, read_log
from adaptseg.training.throughput import Meter

Stream: TypeAlias = Iterator[Batch | None]
"""The batches of one domain; none at every step, where there is no such domain."""
READY, FAILED, STOP = range(3)
"""What a process is when its batch should be there; what is worst in any holds for all."""


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
    device = open_device(config)
    keep_freed_memory(device)
    torch.manual_seed(config.seed)
    segmenter = initialise(build_segmenter(config), config.model)
    if is_main() and license_of(config.model):
        terms = license_of(config.model)
        print(f"adaptseg: initial weights {config.model.weights}, licence {terms}", file=sys.stderr, flush=True)
    method = build_method(segmenter, config).to(device)
    use_channels_last(method)
    domains = open_domains(config, method.uses_target)
    method.segmenter.values = domains.source.class_values()
    method.segmenter.value_range = domains.value_range
    if domains.value_range is not None and domains.target is not None:  # Whoever evaluates the run sees the same.
        config = replace(config, target=replace(config.target, value_range=domains.value_range))
    with ExitStack() as held:
        with all_or_none():
            if is_main():
                held.enter_context(run_lock(run))
            if not resume:
                refuse_existing(run)  # Another process may have finished one meanwhile.
        stop = held.enter_context(StopRequest(any_process if world_size() > 1 else None))
        training = Training(device, TrainingState(config, method, method.optimizers()), domains, run, stop)
        if resume:
            training.load(allow_changes)
        barrier()
        scores = training.iterate()
        selection = training.selection()
        if is_main():
            write_result(run, config, scores, selection, domains.target_labelled)
        barrier()
    return scores


def refuse_existing(run: Path) -> None:
    """Raise `InputError` where the folder holds a run."""
    if saved_checkpoints(run):
        raise InputError(f"{run}: holds a run already; go on with --resume, or choose another folder with --out")


class Training:
    """The loop: one update of each optimiser per iteration, with its schedule, log and checkpoints."""

    def __init__(
        self, device: torch.device, state: TrainingState, domains: Domains, run: Path, stop: StopRequest
    ) -> None:
        """Take what a training needs; nothing is written yet."""
        self.device, self.state, self.domains, self.run, self.stop = device, state, domains, run, stop
        self.config, self.method = state.config, state.method
        self.finite = FiniteWatch()
        self.collapse = CollapseWatch(self.method.guessing_loss)
        self.scorer = open_scorer(self.config, domains.source)
        self.saved: int | None = None
        """Step of the newest checkpoint."""

    def load(self, allow_changes: bool) -> None:
        """Restore the run's last checkpoint."""
        with all_or_none():
            load_checkpoint(self.run, self.state, allow_changes)
        self.saved = step = self.state.step
        if highest(step) != -highest(-step):
            raise InputError(f"{self.run}: processes found different checkpoints whole; look at the disk, try again")
        if is_main():
            set_aside_newer(self.run, step)

    def iterate(self) -> Scores:
        """Run the iterations up to `train.steps`, and score the result.

        Raises:
            InputError: the training diverges, or a file is wrong; the last checkpoint is kept.
            Preempted: as `train`.
        """
        settings, start = self.config.train, self.state.step
        if is_main():
            write_config(self.config, self.run / "config.yaml")
            if start < settings.steps:
                (self.run / "result.json").unlink(missing_ok=True)  # Of fewer steps.
        sampling = rare_class_sampling(self.domains.source, settings, self.run / CLASS_PIXELS)

        def stream(role: str, domain: Domain | None, sampling: RareClassSampling | None = None) -> Stream:
            if domain is None:
                return repeat(None)
            return domain_batches(domain, role, self.config, start, self.device, sampling)

        streams = (
            stream("source", self.domains.source, sampling),
            stream("target", self.domains.target),
            stream("target_labelled", self.domains.beside_source),
        )
        log = RunLog(self.run, start, self.config, writes=is_main())
        if start:
            self.choose()  # As at that step: the run may have gone further, or ended there.
        try:
            self.run_iterations(streams, log)
            log.picture(settings.steps, self.target_picture)
            scores = self.evaluate()
            self.score_snapshot(log, scores)
            return scores
        finally:
            log.close()

    def run_iterations(self, streams: Sequence[Stream], log: RunLog) -> None:
        """Run the iterations that are left, with their log, snapshots and checkpoints."""
        settings, start = self.config.train, self.state.step
        snapshot_every = settings.evaluate_every or (settings.checkpoint_every if self.scorer else 0)
        self.method.train()
        try:
            with Progress(settings.steps, start, shown=is_main()) as progress:
                images = settings.batch * (2 if self.domains.target else 1)
                images += settings.labelled_batch if self.domains.beside_source else 0
                meter = Meter(start, images, settings.workers, self.device)
                for step in range(start, settings.steps):
                    if snapshot_every and step and step % snapshot_every == 0:
                        with meter.paused():
                            self.score_snapshot(log, self.evaluate() if settings.evaluate_every else None)
                            log.picture(step, self.target_picture)
                    with meter.waiting():
                        batches = self.next_batches(streams)
                    losses = self.update(batches)
                    self.state.step = done = step + 1
                    if done % settings.log_every == 0 or done == settings.steps:
                        self.log(log, progress, meter, losses)
                    if done % settings.checkpoint_every == 0 or done == settings.steps:
                        self.save()
        except Preempted as preempted:
            self.save()
            raise Preempted(f"{preempted} after step {self.state.step}") from None

    def next_batches(self, streams: Sequence[Stream]) -> list[Batch | None]:
        """Return a batch of each domain: source, target and labelled target, none where there is none.

        Raises:
            Preempted: a signal has come to any of the processes, perhaps while this one waited for data.
            InputError: a file is wrong, of this process's batch or of another's.
        """
        found: list[Batch | None] | None = None
        failure: Exception = another_failed()
        try:
            with self.stop.interrupting():
                found = [next(stream) for stream in streams]
        except Preempted:
            pass
        except InputError as error:  # Perhaps of the same signal: it may have ended the loader's workers.
            failure = error
        state = STOP if self.stop.signal else FAILED if found is None else READY
        worst = highest(state)
        if worst == STOP:
            raise self.stop.preempted()
        if worst == FAILED or found is None:
            raise failure
        return found

    def update(self, batches: Sequence[Batch | None]) -> dict[str, Tensor]:
        """Take an iteration; return its losses on the device, none where the iteration was left out."""
        settings, step = self.config.train, self.state.step
        factor = poly_factor(step, settings.schedule_steps or settings.steps, settings.power)
        factor *= min(1.0, (step + 1) / (settings.warmup_steps + 1))
        for optimizer in self.state.optimizers.values():
            set_learning_rates(optimizer, factor)
            optimizer.zero_grad(set_to_none=True)
        kept = [buffer.clone() for buffer in self.running_statistics()] if settings.skip_nonfinite else []
        torch.manual_seed(step_seed(self.config.seed, step, rank()))
        with autocast(self.config, self.device):
            source, target, labelled = batches
            assert source is not None
            losses = self.method.iteration(source, target, labelled)
        average_gradients(self.method.parameters())
        names = [name for batch in batches if batch for name in batch["names"]]
        self.finite.see(step + 1, losses, self.method.parameters(), names)
        if self.state.skipped < settings.skip_nonfinite and any_process(not self.finite.last_is_finite()):
            self.state.skipped += 1
            for buffer, value in zip(self.running_statistics(), kept, strict=True):
                buffer.copy_(value)  # They would stay NaN for ever.
            return {}
        for optimizer in self.state.optimizers.values():
            optimizer.step()
        return losses

    def running_statistics(self) -> list[Tensor]:
        """Return batch norm's buffers; counts, such as a teacher's updates, are right in a step that is left out."""
        return [buffer for buffer in self.method.buffers() if buffer.is_floating_point()]

    def evaluate(self) -> Scores:
        """Score the segmenter as it is now; each process takes its share of the images."""
        share_buffers(self.method)
        return evaluate(self.method.segmenter, self.domains.evaluation, self.domains.protocol, self.stop.checked)

    def score_snapshot(self, log: RunLog, scores: Scores | None) -> None:
        """Log the segmenter as it is now: mIoU where it was evaluated, and its label-free scores where one chooses."""
        self.finite.check()
        values = {} if scores is None or scores.miou is None else {"miou": scores.miou}
        if self.scorer is not None:
            share_buffers(self.method)
            with autocast(self.config, self.device):
                found = self.scorer(self.method.segmenter, self.stop.checked)
            values |= {PREFIX + name: score for name, score in found.items()}
        log.write(self.state.step, values)
        self.choose()

    def choose(self) -> None:
        """Point `checkpoints/chosen` to the best snapshot of the log that is kept; the current one is kept for that."""
        if self.scorer is None:
            return
        best = None
        if is_main():
            kept = {checkpoint_name(self.state.step), *(path.name for path in saved_checkpoints(self.run))}
            lines = [line for line in read_log(self.run) if checkpoint_name(line["step"]) in kept]
            best = best_snapshot(lines, self.config.train.selection)
        if any_process(best == self.state.step):
            self.save()
        if is_main():
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
            segmenter = load_model(self.run / "checkpoints" / name).to(self.device)
            miou = evaluate(segmenter, self.domains.evaluation, self.domains.protocol, self.stop.checked).miou
        return selection_result(lines, self.config.train.selection, {"step": step, "miou": miou})

    def target_picture(self) -> UInt8Array:
        """Return a picture of target images with their predictions; of evaluation images where no target is used."""
        return prediction_strip(self.method.segmenter, self.domains.target or self.domains.evaluation)

    def log(self, log: RunLog, progress: Progress, meter: Meter, losses: dict[str, Tensor]) -> None:
        """Write a line of the log: the only place, beside checkpoints, where the loop waits for the device."""
        self.finite.check()
        done = self.state.step
        values = {name: float(mean_over_processes(loss)) for name, loss in losses.items()}
        figures = meter.read(done)
        rates = {f"lr/{name}": o.param_groups[0]["lr"] for name, o in self.state.optimizers.items()}
        skipped = {"skipped": self.state.skipped} if self.state.skipped else {}
        log.write(done, {**values, **rates, **skipped, **figures})
        progress.update(done, values, figures["images_per_second"])
        for line in (*self.collapse.advice(done, values), meter.advice(figures)):
            if line and is_main():
                progress.say(line)

    def save(self) -> None:
        """Write a checkpoint, unless it is there, while the other processes wait; a broken network replaces none."""
        self.finite.check()
        if self.state.step != self.saved:
            with all_or_none():
                if is_main():
                    save_checkpoint(self.run, self.state)
        self.saved = self.state.step


def domain_batches(
    domain: Domain,
    role: str,
    config: ExperimentConfig,
    start: int,
    device: torch.device,
    sampling: RareClassSampling | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one domain from step `start`, on the device; all samples alike where `sampling` is none."""
    dataset = step_dataset(config, domain, role, sampling, share=(rank(), world_size()))
    loaded = batches(dataset, start, config.train.steps, config.train.workers, pin_memory=device.type == "cuda")
    return (to_device(batch, device) for batch in loaded)


def write_result(
    run: Path, config: ExperimentConfig, scores: Scores, selection: dict[str, Any] | None, labelled: Domain | None
) -> None:
    """Write `result.json`, complete or not at all: scores of the last iteration, and which snapshot was chosen.

    Labelled target images are counted there, where there are some.
    """
    result = {
        **scores.to_dict(),
        "step": config.train.steps,
        "seed": config.seed,
        "method": config.method.name,
        "description": config.description,
        **({"labelled": len(labelled)} if labelled is not None else {}),
        **({"selection": selection} if selection else {}),
    }
    write_text(run / "result.json", json.dumps(result, indent=2) + "\n")
