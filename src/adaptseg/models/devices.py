"""Which device a network runs on where no training loop chooses it, copies to it, and how fast it multiplies."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adaptseg.errors import InputError


def choose_device(name: str) -> torch.device:
    """Return the device of a name: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.

    A card of a number is torch's current one from now on: pinned memory would take room on the first card otherwise.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in counts or (index and not index.isdigit()):
        raise InputError(f"device {name!r} is unknown; choose auto, cpu, cuda, cuda:N or mps")
    if int(index or 0) >= counts[kind]:
        raise InputError(f"device {name!r}: this machine has {counts[kind]} of kind {kind}; choose auto or cpu")
    if kind == "cuda" and index:
        torch.cuda.set_device(int(index))
    return torch.device(name)


def sent(array: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return an array of bytes on a device; the processor does not wait for the copy to a CUDA device."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)  # MPS would read what is freed meanwhile.
    # Only memory that stays where it is can be read while the processor goes on.
    return tensor.pin_memory().to(device, non_blocking=True)


def processors() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reading_threads(device: torch.device) -> int:
    """Return how many threads decode images for a network on a device.

    Beside a GPU half the cores, eight at most; a network on the CPU needs them itself: one of four, four at most.
    """
    share, most = (4, 4) if device.type == "cpu" else (2, 8)
    return max(1, min(most, processors() // share))


def processor_name() -> str:
    """Return what the CPU calls itself, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return (names or [platform.machine()])[0]


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int, seconds: float = 0.0) -> float:
    """Return the TFLOP/s of products of square matrices, side x side, over some seconds: of one product at least."""

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    left, right = torch.randn(2, side, side, device=device).to(dtype)
    product = left @ right
    synchronize()
    count, began = 0, time.perf_counter()
    while not count or time.perf_counter() - began < seconds:
        torch.mm(left, right, out=product)
        synchronize()
        count += 1
    return 2 * side**3 * count / (time.perf_counter() - began) / 1e12
