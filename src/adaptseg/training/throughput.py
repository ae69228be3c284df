"""How fast a training goes, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

WAITING = 0.2
"""Share of the time spent on waiting for data above which something is said."""


class Meter:
    """Images per second, share of the time that data were waited for, and memory, between lines of the log."""

    def __init__(self, start: int, images: int, workers: int, device: torch.device) -> None:
        """Begin after step `start`, at `images` images per iteration."""
        self._step, self._images, self._workers, self._device = start, images, workers, device
        self._began = time.perf_counter()
        self._waited, self._lines = 0.0, 0
        reset_peak_memory(device)

    def read(self, done: int) -> dict[str, float]:
        """Return the figures since the last call, by name."""
        now = time.perf_counter()
        seconds, steps = now - self._began, done - self._step
        figures = {
            "step_seconds": seconds / steps,
            "images_per_second": steps * self._images / seconds,
            "data_wait": self._waited / seconds,
            "memory_mb": peak_memory(self._device) / 1e6,
        }
        self._step, self._began, self._waited = done, now, 0.0
        self._lines += 1
        return figures

    def advice(self, figures: dict[str, float]) -> str | None:
        """Return what to say about figures of `read`: once, in its second interval, when the loader has settled."""
        if self._lines != 2 or figures["data_wait"] < WAITING:
            return None
        return (
            f"{100 * figures['data_wait']:.0f} % of the time goes on waiting for data; raise train.workers"
            f" (now {self._workers}), or let `adaptseg prepare` decode and resize image files once"
        )

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block's time as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the block out."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Return the most bytes that were in use: on a CUDA device by torch, elsewhere by this process (0: unknown)."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
        return 1024.0 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0
