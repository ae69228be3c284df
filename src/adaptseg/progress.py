"""Progress on the terminal, stderr: a live bar, or plain lines where the output is a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from adaptseg.text import plain

SECONDS_BETWEEN_LINES = 20.0


def _bar(*columns: ProgressColumn, shown: bool = True) -> RichProgress:
    """A live bar and columns beside it; nothing is shown where stderr is no terminal."""
    console = Console(stderr=True)
    return RichProgress(*columns, console=console, disable=not (shown and console.is_terminal))


class Progress:
    """Shows step, losses, images per second and time left."""

    def __init__(self, steps: int, start: int, shown: bool = True) -> None:
        """Prepare for steps `start` to `steps`."""
        self.steps, self.start = steps, start
        self._bar = _bar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            shown=shown,
        )
        self._live = self._bar.console.is_terminal
        self._task = self._bar.add_task("train", total=steps, completed=start, text="")
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> Progress:
        """Start the live display."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the live display."""
        self._bar.stop()

    def update(self, done: int, losses: Mapping[str, float], images_per_second: float) -> None:
        """Show the state after `done` steps."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        text = f"{text}  {images_per_second:.1f} images/s"
        self._bar.update(self._task, completed=done, text=text)
        now = time.monotonic()
        if not self._live and (done == self.steps or now - self._printed > SECONDS_BETWEEN_LINES):
            left = (now - self._began) / max(1, done - self.start) * (self.steps - done)
            print(f"step {done}/{self.steps}  {text}  {left:.0f} s left", file=sys.stderr, flush=True)
            self._printed = now

    def say(self, line: str) -> None:
        """Print a line beside the display."""
        self._bar.console.print(f"adaptseg: {plain(line)}", highlight=False, soft_wrap=True, markup=False)


T_co = TypeVar("T_co", covariant=True)


class Counted(Sized, Iterable[T_co], Protocol[T_co]):
    """What can be gone through and counted: a list, a range."""


def track(items: Counted[T_co], text: str) -> Iterator[T_co]:
    """Yield the items with a live bar beside `text`."""
    with counted(text, len(items)) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def counted(text: str, total: int | None, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Give a function that counts further items on a live bar.

    Of a transfer `in_bytes`, one line says `text` where stderr is no terminal.
    """
    numbers = DownloadColumn() if in_bytes else MofNCompleteColumn()
    with _bar(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), numbers, TimeRemainingColumn()
    ) as bar:
        if in_bytes and not bar.console.is_terminal:
            print(
                f"adaptseg: {plain(text)}" + (f" ({total / 1e6:.0f} MB)" if total else ""), file=sys.stderr, flush=True
            )
        task = bar.add_task(plain(text), total=total)
        yield lambda count: bar.advance(task, count)
