"""Signals that ask a training to stop: finish the iteration, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Any

from adaptseg.data.workers import STOP_SIGNALS

EXIT_RESUMABLE = 75
"""Exit code of a training that was stopped by a signal and can be resumed (EX_TEMPFAIL of sysexits.h)."""


class Preempted(Exception):
    """A training was stopped by a signal, which the message names."""


class StopRequest:
    """While entered, the first stop signal only sets `signal`, but for `interrupting`.

    The second one ends the process at once. Of several processes it is ignored: their launcher repeats each signal, and
    kills them itself where they take too long.
    """

    def __init__(self, agree: Callable[[bool], bool] | None = None) -> None:
        """Nothing is asked for yet; `agree` says whether a signal has come to any of several processes."""
        self.signal: signal.Signals | None = None
        self._agree = agree
        self._raises = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Take over the signals (only Python's main thread can)."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        return self

    def check(self) -> None:
        """Raise `Preempted`, in all processes, where a signal has come to one."""
        asked = self.signal is not None
        if self._agree(asked) if self._agree else asked:
            raise self.preempted()

    def preempted(self) -> Preempted:
        """Return the exception for the signal that has come, here or to another process."""
        return Preempted(f"stopped by {self.signal.name if self.signal else 'a signal to another process'}")

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise `Preempted` at once when a signal comes to this process: what it waits for may never come."""
        if self.signal is not None:
            raise self.preempted()
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def checked(self, items: range) -> Iterator[int]:
        """Yield the items, but raise `Preempted` as soon as a signal has come.

        Args:
            items: the share of this process, range(rank, count, number of processes): all look after each round.
        """
        with nullcontext() if self._agree else self.interrupting():
            for number in range(len(range(0, items.stop, items.step))):
                self.check()
                if number < len(items):
                    yield items[number]
            self.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN if self._agree else signal.SIG_DFL)
        if self._raises:
            raise self.preempted()
