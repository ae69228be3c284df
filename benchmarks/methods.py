"""The training step of a preset's method at the preset's sizes, on random images, from random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from adaptseg.config import ExperimentConfig
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.data.loader import Batch
from adaptseg.experiment import read_experiment
from adaptseg.methods import build_method
from adaptseg.methods.base import Method, build_segmenter
from adaptseg.methods.configuration import build_config
from adaptseg.training.divergence import FiniteWatch


def preset(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Return a preset's configuration; its data and weights need not be there."""
    return build_config(read_experiment(name)[1], list(overrides))


def image_size(config: ExperimentConfig, role: str) -> tuple[int, int]:
    """Return width and height of the images that a step sees of a domain."""
    size = config.train.crop or config.domain(role).size
    assert size is not None
    return size


def random_batch(config: ExperimentConfig, role: str, device: torch.device) -> Batch:
    """Return random images, and for the source random labels in blocks of 32 pixels, a twentieth of them ignored."""
    (width, height), count = image_size(config, role), config.train.batch
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, device=device)
    batch = Batch(image=images.contiguous(memory_format=torch.channels_last), label=None, names=[])
    if role == "source":
        blocks = torch.randint(0, 20, (count, height // 32 + 1, width // 32 + 1), device=device)
        labels = blocks.masked_fill(blocks > 18, IGNORE_INDEX).repeat_interleave(32, 1).repeat_interleave(32, 2)
        batch["label"] = labels[:, :height, :width].contiguous()
    return batch


def prepared_method(config: ExperimentConfig, device: torch.device) -> Method:
    """Return a configuration's method in training mode, channels-last as `adaptseg train` has it."""
    if device.type == "meta":
        with device:
            return build_method(build_segmenter(config), config).train()
    method = build_method(build_segmenter(config), config).to(device).train()
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return method


def one_step(
    method: Method, batches: tuple[Batch, Batch | None], dtype: torch.dtype
) -> Callable[[], Mapping[str, Tensor]]:
    """Return a function that does what the training loop does between two batches, and returns the losses."""
    optimizers = method.optimizers()
    device = batches[0]["image"].device

    def step() -> Mapping[str, Tensor]:
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = method.iteration(*batches)
        FiniteWatch().see(0, losses, method.parameters(), [])
        for optimizer in optimizers.values():
            optimizer.step()
        return losses

    return step
