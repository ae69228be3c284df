"""Several processes, one training: torchrun or SLURM starts them, each takes its share of every batch.

Networks are not wrapped: a step may call backward several times, and the gradients are averaged once, after the last.
In a single process every function here does nothing.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from adaptseg.errors import InputError

T = TypeVar("T")


def launched_processes() -> tuple[int, int]:
    """Return how many processes torchrun or `srun` started on each node, and on how many nodes; 1, 1 without.

    Raises:
        InputError: they are not as many on each node.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    # A batch script itself and a shell on a node are one process, whatever they may start: in them SLURM_PROCID and
    # SLURM_NTASKS, the job's, are set too. What `srun` starts has the step's numbers.
    if "SLURM_STEP_NUM_TASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        tasks, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment.get("SLURM_STEP_NUM_NODES", 1))
        if tasks % nodes:
            raise InputError(f"srun: {tasks} tasks on {nodes} nodes; start as many on each, with --ntasks-per-node")
        return tasks // nodes, nodes
    return 1, 1


def join_processes(device: torch.device, patience: timedelta | None = None) -> torch.device:
    """Meet the other processes that torchrun or `srun` started; alone, or where they have met already, do nothing.

    torchrun sets the meeting's address; of `srun` it is the first node, and a port made of the job's number, so
    that neighbouring jobs do not share it. MASTER_ADDR and MASTER_PORT, where they are set, hold.

    Args:
        device: cuda is one card for each process of a node, in their order.
        patience: how long to wait for the slowest where they share nothing but what was done, on the CPU; none: they
            train, and wait as long as torch does.

    Returns:
        This process's device.

    Raises:
        InputError: one card is named for several processes, there are fewer cards, or nobody is met.
    """
    local, nodes = launched_processes()
    if local * nodes == 1:
        return device
    slurm = "TORCHELASTIC_RUN_ID" not in os.environ
    names = ("SLURM_PROCID", "SLURM_LOCALID") if slurm else ("RANK", "LOCAL_RANK")
    number, local_number = (int(os.environ[name]) for name in names)
    if device.type == "cuda":
        device = _own_card(device, local, local_number, slurm)
    if distributed.is_initialized():
        return device
    if slurm:
        os.environ.setdefault("MASTER_ADDR", first_node(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")))
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])))
    try:
        backend = "nccl" if device.type == "cuda" and patience is None else "gloo"
        distributed.init_process_group(backend, rank=number, world_size=local * nodes, timeout=patience)
    except (RuntimeError, ValueError) as error:  # Of sockets and of names: each means that they do not meet.
        reason = str(error).splitlines()[0]
        raise InputError(f"process {number}: does not meet the others ({reason}); check MASTER_ADDR") from error
    atexit.register(distributed.destroy_process_group)
    return device


def _own_card(device: torch.device, processes: int, number: int, slurm: bool) -> torch.device:
    """Return and choose the card of a process, the `number`-th on its node."""
    if device.index is not None:
        raise InputError(f"device {device}: one card for {processes} processes; choose cuda, a card for each")
    if torch.cuda.device_count() == 1 and slurm:
        number = 0  # `--gpus-per-task=1` shows each process its own card alone.
    if number >= torch.cuda.device_count():
        raise InputError(f"{processes} processes on a node with {torch.cuda.device_count()} cards; start as many")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def first_node(nodes: str) -> str:
    """Return the first host of a list as SLURM writes it: `gpu[07-09,12],cpu1` -> `gpu07`."""
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes).replace(",", " ").split()[0]


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


def gathered(value: T) -> list[T]:
    """Return what each process gives, in their order.

    Raises:
        InputError: another process has ended before.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    try:
        distributed.all_gather_object(values, value)
    except RuntimeError as error:
        raise InputError(f"process {rank()}: another process has ended before its time; see what it says") from error
    return values


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
