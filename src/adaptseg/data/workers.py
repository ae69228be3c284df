"""Processes that read data: which signals they leave to the training process."""

from __future__ import annotations

import signal
import sys
from types import TracebackType

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
"""SIGUSR1 and SIGUSR2 are what SLURM is usually told to send ahead of a time limit (`--signal=USR1@120`)."""


def leave_interrupts_to_parent(worker: int) -> None:
    """Make a loader worker ignore the signals that it has no need to die of.

    They reach a whole process group. SIGTERM does end it: that is how the training process ends its workers.
    """
    for number in set(STOP_SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.excepthook = say_unless_hung_up


def say_unless_hung_up(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Show an exception that nobody caught, but for a connection's end.

    The thread that hands batches over reports it where the training process leaves in between; torch sends a
    worker's own errors another way.
    """
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)
