"""Batches whose content is a pure function of (seed, step): resuming needs the step number alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaptseg.config import ExperimentConfig, TrainConfig
from adaptseg.data.augmentation import color_jitter, scaled_crop
from adaptseg.data.crops import ANYTHING, CropContents, crop
from adaptseg.data.dataset import Domain, Sample
from adaptseg.data.sampling import RareClassSampling, random_generator, sample_indices
from adaptseg.data.workers import leave_interrupts_to_parent
from adaptseg.errors import InputError


class _Placed(TypedDict, total=False):
    frame: Tensor
    """float32 (N, 4): where each image lies in its whole one: top, left, bottom, right as shares, see `Sample`."""


class Batch(_Placed):
    """Images of one domain."""

    image: Tensor
    """uint8 (N, 3, H, W) RGB."""
    label: Tensor | None
    """(N, H, W) train ids, 255 ignored, none without labels: uint8 as loaded, int64 on the device."""
    names: list[str]
    """One name per image."""


class StepDataset(Dataset[Batch]):
    """The batches of one domain, indexed by training step."""

    def __init__(
        self,
        domain: Domain,
        role: str,
        seed: int,
        settings: TrainConfig,
        sampling: RareClassSampling | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Keep what makes a batch from a step number.

        Args:
            domain: the samples.
            role: source, target or target_labelled; separates the random streams.
            seed: of the experiment.
            settings: its `batch`, `flip`, `crop` (none: the domain's box, or whole samples), `scale_jitter`, and of the
                source alone `source_jitter`, `crop_largest_class` and `rare_class_crops`; of labelled target images
                `labelled_batch`, `labelled_scale` and `labelled_jitter` instead.
            sampling: which samples a step takes; none: all alike, in a new order each epoch.
            share: number of this process and of all processes: each has its part of the batch, of the same batch.
        """
        self.domain, self.role, self.seed, self.sampling = domain, role, seed, sampling
        self.batch, self.flip, self.crop = settings.batch, settings.flip, settings.crop or domain.box
        self.scale_jitter = settings.scale_jitter
        contents = CropContents(settings.crop_largest_class, settings.rare_class_crops)
        self.contents = ANYTHING if role == "target" else contents
        self.color_jitter = settings.source_jitter if role == "source" else 0.0
        if role == "target_labelled":
            self.batch, self.scale_jitter = settings.labelled_batch, settings.labelled_scale
            self.color_jitter = settings.labelled_jitter
        each = self.batch // share[1]
        self.part = slice(share[0] * each, (share[0] + 1) * each)

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        if self.sampling is None:
            indices = sample_indices(self.seed, self.role, step, self.batch, len(self.domain))
            drawn: list[tuple[int, int | None]] = [(index, None) for index in indices]
        else:
            drawn = [*self.sampling.draw(self.seed, step, self.batch)]
        numbers = range(self.batch)[self.part]
        samples = [self._part(self.domain[drawn[number][0]], step, number, drawn[number][1]) for number in numbers]
        if self.color_jitter:
            samples = self._jittered(samples, step)
        sizes = {sample.image.shape[:2]: sample.name for sample in samples}
        if len(sizes) > 1:
            raise InputError(
                f"{self.role}: images of different sizes in one batch ({', '.join(sizes.values())});"
                f" set {self.role}.size, or train.batch to 1"
            )
        flips = random_generator(self.seed, self.role, "flip", step).random(self.batch)[self.part] < 0.5
        images, labels, frames = [], [], []
        for sample, flipped in zip(samples, flips, strict=True):
            mirror = self.flip and flipped
            images.append(cv2.flip(sample.image, 1) if mirror else sample.image)
            top, left, bottom, right = sample.frame
            frames.append((top, right, bottom, left) if mirror else sample.frame)
            if sample.label is not None:
                labels.append(cv2.flip(sample.label, 1) if mirror else sample.label)
        # The bytes stay in the order H, W, 3: the tensor is channels-last, as the device wants it.
        return Batch(
            image=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
            label=torch.from_numpy(np.stack(labels)) if labels else None,
            names=[sample.name for sample in samples],
            frame=torch.tensor(frames),
        )

    def _part(self, sample: Sample, step: int, number: int, rare_class: int | None) -> Sample:
        """Return the random part of sample `number` of the step's batch; of a source one that shows what it has to."""
        height, width = sample.image.shape[:2]
        if self.scale_jitter is not None:
            rng = random_generator(self.seed, self.role, "scale", step)
            factor = float(rng.uniform(*self.scale_jitter, self.batch)[number])
            cut = partial(scaled_crop, sample, self.crop or (width, height), factor)
        elif self.crop is not None:
            if self.crop[0] > width or self.crop[1] > height:
                raise InputError(
                    f"train.crop {self.crop[0]}x{self.crop[1]} is larger than {sample.name} of {width}x{height};"
                    f" lower it, or raise {self.role}.size"
                )
            rng = random_generator(self.seed, self.role, "crop", step)
            cut = partial(crop, sample, self.crop)
        else:
            return sample
        first = tuple(rng.random((self.batch, 2))[number].tolist())
        again = random_generator(self.seed, self.role, "another crop", step, number)
        return self.contents.choose(cut, first, again, rare_class)

    def _jittered(self, samples: list[Sample], step: int) -> list[Sample]:
        jittered = []
        for place, sample in enumerate(samples, self.part.start):
            rng = random_generator(self.seed, self.role, "jitter", step, place)
            jittered.append(replace(sample, image=color_jitter(sample.image, self.color_jitter, rng)))
        return jittered


def step_dataset(
    config: ExperimentConfig,
    domain: Domain,
    role: str,
    sampling: RareClassSampling | None = None,
    share: tuple[int, int] = (0, 1),
) -> StepDataset:
    """Return the batches of a role of an experiment; arguments as of `StepDataset`.

    A source that is the labelled target images gives whole batches of them, augmented as such.
    """
    settings = config.train
    if role == "source" and config.labels_alone:
        role, settings = "target_labelled", replace(settings, labelled_share=1.0)
    return StepDataset(domain, role, config.seed, settings, sampling, share)


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
    except (RuntimeError, EOFError, OSError) as error:
        # A worker that is just dying is told by its connection, or by torch as soon as it is dead.
        if not workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
            raise
        raise InputError(
            f"train.workers: {f'{type(error).__name__}: {error}'.splitlines()[0]}; was a worker short of memory? Lower"
            " train.workers or the images' size, and go on with --resume; earlier checkpoints are kept"
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
    """Return the batch with its tensors on `device`, labels int64, images channels-last (faster convolutions)."""
    label, behind = batch["label"], device.type == "cuda"  # MPS would read what is freed meanwhile.
    moved = Batch(
        image=batch["image"].to(device, non_blocking=behind, memory_format=torch.channels_last),
        label=None if label is None else label.to(device, non_blocking=behind).long(),
        names=batch["names"],
    )
    if "frame" in batch:
        moved["frame"] = batch["frame"].to(device, non_blocking=behind)
    return moved
