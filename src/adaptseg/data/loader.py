"""Batches whose content is a pure function of (seed, step): resuming needs the step number alone."""

from __future__ import annotations

import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaptseg.data.dataset import Domain
from adaptseg.errors import InputError
from adaptseg.preemption import leave_interrupts_to_parent


class Batch(TypedDict):
    """Images of one domain."""

    image: Tensor
    """uint8 (N, 3, H, W) RGB."""
    label: Tensor | None
    """int64 (N, H, W) train ids, 255 ignored; none without labels."""
    names: list[str]
    """One name per image."""


def random_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the generator for one purpose: same arguments, same numbers; different ones, independent numbers."""
    words = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in purpose]
    return np.random.default_rng([seed, *words])


def step_seed(seed: int, step: int) -> int:
    """Return the seed of torch's generators for a step: whatever is random in it is the same after resuming."""
    return int(random_generator(seed, "step", step).integers(2**63))


def sample_indices(seed: int, role: str, step: int, batch: int, count: int) -> list[int]:
    """Return which `batch` of `count` samples step `step` takes: a new permutation in every epoch."""
    indices = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        indices.append(int(random_generator(seed, role, "order", epoch).permutation(count)[place]))
    return indices


class StepDataset(Dataset[Batch]):
    """The batches of one domain, indexed by training step."""

    def __init__(self, domain: Domain, role: str, seed: int, batch: int, flip: bool) -> None:
        """Keep what makes a batch from a step number; `role` (source, target) separates the random streams."""
        self.domain, self.role, self.seed, self.batch, self.flip = domain, role, seed, batch, flip

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        indices = sample_indices(self.seed, self.role, step, self.batch, len(self.domain))
        samples = [self.domain[index] for index in indices]
        sizes = {sample.image.shape[:2]: sample.name for sample in samples}
        if len(sizes) > 1:
            raise InputError(
                f"{self.role}: images of different sizes in one batch ({', '.join(sizes.values())});"
                f" set {self.role}.size, or train.batch to 1"
            )
        flips = random_generator(self.seed, self.role, "flip", step).random(len(samples)) < 0.5
        images, labels = [], []
        for sample, flipped in zip(samples, flips, strict=True):
            columns = slice(None, None, -1) if self.flip and flipped else slice(None)
            images.append(torch.from_numpy(sample.image[:, columns].transpose(2, 0, 1).copy()))
            if sample.label is not None:
                labels.append(torch.from_numpy(sample.label[:, columns].astype(np.int64)))
        return Batch(
            image=torch.stack(images),
            label=torch.stack(labels) if labels else None,
            names=[sample.name for sample in samples],
        )


class _Answers(Dataset[Batch | InputError]):
    """A step's batch, or what is wrong with its files: torch would bury the message of an error in a traceback."""

    def __init__(self, dataset: StepDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, step: int) -> Batch | InputError:
        try:
            return self.dataset[step]
        except InputError as error:
            return error


def batches(dataset: StepDataset, first_step: int, steps: int, workers: int, pin_memory: bool) -> Iterator[Batch]:
    """Yield the batches of steps `first_step` to `steps` - 1, in order, whatever the number of workers."""
    loader: DataLoader[Batch | InputError] = DataLoader(
        _Answers(dataset),
        batch_size=None,
        sampler=range(first_step, steps),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=leave_interrupts_to_parent if workers else None,
    )
    try:
        with _deaths_found_when_waiting():
            answers = iter(loader)
        for answer in answers:
            if isinstance(answer, InputError):
                raise answer
            yield answer
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"train.workers: {str(error).splitlines()[0]}; was it short of memory? Lower train.workers or the images'"
            " size, and go on with --resume; the last checkpoint is kept"
        ) from error


@contextmanager
def _deaths_found_when_waiting() -> Iterator[None]:
    """Within the block, torch's loader does not install its signal handler for dead workers.

    It would raise in the midst of an iteration, with networks half updated. Without it a worker's death is found
    when its batch is waited for.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, handler)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with its tensors on `device`, images channels-last (faster convolutions, same results)."""
    label = batch["label"]
    return Batch(
        image=batch["image"].to(device, non_blocking=True, memory_format=torch.channels_last),
        label=None if label is None else label.to(device, non_blocking=True),
        names=batch["names"],
    )
