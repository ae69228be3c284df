"""Several processes, one training: torchrun or SLURM starts them, each takes its share of every batch.

Networks are not wrapped: a step may call backward several times, and the gradients are averaged once, after the last.
In a single process every function here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed, nn

from adaptseg.errors import InputError


def launched_processes() -> tuple[int, int]:
    """Return how many processes torchrun or `srun` started on each node, and on how many nodes; 1, 1 without."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    # `srun` sets the task's number; in a batch script itself and in a shell on a node there is one process.
    if "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        tasks, nodes = int(environment.get("SLURM_NTASKS", 1)), int(environment.get("SLURM_NNODES", 1))
        return tasks // nodes, nodes
    return 1, 1


def rank() -> int:
    """Return this process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes: log, checkpoints, results."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        distributed.barrier()


@cache
def _control_group() -> Any:
    """A group on the CPU: what it agrees on makes nobody wait for a GPU."""
    return distributed.new_group(backend="gloo")


def highest(number: int) -> int:
    """Return the highest of the processes' numbers."""
    if world_size() == 1:
        return number
    numbers = torch.tensor(number)
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=_control_group())
    return int(numbers)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return bool(highest(int(flag)))


@contextmanager
def all_or_none() -> Iterator[None]:
    """Leave the block together, all processes or none: where one fails, the others do not wait for it for ever.

    Raises:
        InputError: the block failed in another process, which says why.
    """
    try:
        yield
    except Exception:
        any_process(True)
        raise
    if any_process(False):
        raise another_failed()


def another_failed() -> InputError:
    """Return the error of a process that could go on, but for the others."""
    return InputError(f"process {rank()}: another process of this training cannot go on; see what it says")


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of a tensor over processes."""
    if world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over processes, as float32 where it was of integers; no gradient goes through it."""
    return value if world_size() == 1 else sum_over_processes(value.detach().float()) / world_size()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes, all in one transfer."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
        start += gradient.numel()


def share_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers: running statistics, of which each has seen another part."""
    if world_size() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
