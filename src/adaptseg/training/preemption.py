"""Signals that ask a training to stop: finish the iteration, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from adaptseg.data.workers import STOP_SIGNALS

T = TypeVar("T")

EXIT_RESUMABLE = 75
"""Exit code of a training that was stopped by a signal and can be resumed (EX_TEMPFAIL of sysexits.h)."""


class Preempted(Exception):
    """A training was stopped by a signal, which the message names."""


class StopRequest:
    """While entered, the first stop signal only sets `signal`; the second one ends the process at once."""

    def __init__(self) -> None:
        """Nothing is asked for yet."""
        self.signal: signal.Signals | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Take over the signals (only Python's main thread can)."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        return self

    def check(self, agree: Callable[[bool], bool] = bool) -> None:
        """Raise `Preempted` where a signal has come; `agree` says whether it has to any of several processes."""
        if agree(self.signal is not None):
            raise Preempted(f"stopped by {self.signal.name if self.signal else 'a signal to another process'}")

    def checked(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, but raise `Preempted` as soon as a signal has come."""
        for item in items:
            self.check()
            yield item
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
            signal.signal(other, signal.SIG_DFL)
