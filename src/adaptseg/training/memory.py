"""Memory that one training step frees is kept for the next, not returned to the system and cleared anew."""

from __future__ import annotations

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of glibc's settings (mallopt(3))."""


def keep_freed_memory(device: torch.device) -> bool:
    """Let this process keep what it frees, where tensors are in glibc's memory: on the CPU, under Linux.

    The system clears every page that it hands out: at each step some hundred thousand of them otherwise.

    Returns:
        Whether there was anything to set; elsewhere nothing changes.
    """
    if device.type != "cpu":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Another libc, another system.
        return False
    # No blocks of their own for large tensors, and no return of the free end of the heap.
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
