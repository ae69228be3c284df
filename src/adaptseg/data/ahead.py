"""Reading ahead: threads decode what comes next while the network is at work.

Decoders and the network leave Python's lock while they work, so threads suffice. What waits is bounded, whatever the
number of files, and stays in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, repeat
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_END: Any = object()


def ahead(items: Iterable[T], waiting: int) -> Iterator[T]:
    """Yield the items; a thread makes up to `waiting` of them beyond the one in use, one after the other."""
    source = iter(items)
    for item in mapped_ahead(lambda _: next(source, _END), repeat(None), 1, waiting):
        if item is _END:
            return
        yield item


def mapped_ahead(function: Callable[[T], R], items: Iterable[T], threads: int, waiting: int) -> Iterator[R]:
    """Yield `function` of each item, in order; threads work on up to `waiting` of them beyond the one in use."""
    rest = iter(items)
    pool = ThreadPoolExecutor(threads, "reading")
    pending: deque[Future[R]] = deque()
    try:
        while True:
            pending.extend(pool.submit(function, item) for item in islice(rest, waiting + 1 - len(pending)))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
