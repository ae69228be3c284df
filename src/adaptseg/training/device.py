"""The device of a training, and the precision of its forward passes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from adaptseg.config import ExperimentConfig
from adaptseg.distributed import join_processes, launched_processes
from adaptseg.errors import InputError
from adaptseg.models.devices import choose_device


def open_device(config: ExperimentConfig) -> torch.device:
    """Return the configured device, of several processes each its own, which have met then.

    Raises:
        InputError: there is no such device, or the batch cannot be shared.
    """
    processes, nodes = launched_processes()
    counts = {"train.batch": config.train.batch}
    if config.has_target_labelled and not config.labels_alone:
        counts["train.labelled_share x train.batch"] = config.train.labelled_batch
    for key, count in counts.items():
        if count % (processes * nodes):
            raise InputError(f"{key} is {count}, to be shared by {processes * nodes} processes; make it a multiple")
    try:
        return join_processes(choose_device(config.train.device))
    except InputError as error:
        raise InputError(f"train.device {config.train.device!r}: {error}") from error


def autocast(config: ExperimentConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of the forward passes: bfloat16 where `train.precision` says so."""
    mixed = config.train.precision == "bf16-mixed"
    return torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()
