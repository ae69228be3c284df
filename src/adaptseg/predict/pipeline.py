"""Results are written behind, while the network is at work on what comes next (`adaptseg.data.ahead` reads that).

Encoders and the network leave Python's lock while they work, so threads suffice. What waits is bounded, whatever the
number of files, and stays in order.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn

from adaptseg.models.devices import processors

WORK_BESIDE = 5000
"""A network's multiplications for a pixel that is read and written: twice the time of that, at 50 billion a second."""


def writing_threads() -> int:
    """Return how many threads encode, which takes longer than decoding: one on two cores, at most eight."""
    return max(1, min(8, processors() // 2))


class Behind:
    """Calls made by threads, in order where there is one thread; at the end of a `with` all are done.

    The error of a call is raised by a later one, or at the end. After an error what has not begun is left out; what
    has is waited for, so that it can clean up.
    """

    def __init__(self, threads: int) -> None:
        """Let as many calls wait as there are threads."""
        self._pool = ThreadPoolExecutor(threads, "writing")
        self._pending: deque[Future[None]] = deque()
        self._most = 2 * threads

    def __enter__(self) -> Behind:
        """Do nothing yet."""
        return self

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Make a call some time; wait while too many have not been made."""
        while len(self._pending) >= self._most:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(function, *arguments))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for all; raise the first error."""
        try:
            while self._pending and error is None:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def cores_shared(network: nn.Module, seen: int, pixels: int) -> Iterator[None]:
    """Within the block, leave a core of the CPU to decoding and encoding where the network has less to do than they.

    Threads of the network that wait for each other while another works on their core cost more than they bring. The
    rule is one of sizes, not of measured times: with other threads a network's results are rounded otherwise.

    Args:
        network: has about its parameters' number of multiplications for each 8x8 pixels.
        seen: pixels of an image as the network sees it.
        pixels: of the image, and of what is written of it.
    """
    threads = torch.get_num_threads()
    work = seen / 64 * sum(parameter.numel() for parameter in network.parameters())
    if work < WORK_BESIDE * pixels and 1 < threads == processors():
        torch.set_num_threads(threads - 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Within the block, SIGTERM ends the process as an exception does: what is half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
