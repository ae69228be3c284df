"""One run folder, one training process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptseg.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold the run folder's lock; the lock of a dead process is free.

    A POSIX record lock rather than flock: it belongs to the process alone, so that loader workers which outlive a
    killed parent for some seconds do not keep it.

    Raises:
        InputError: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with (run / ".lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                f"{run}: process {file.read().strip() or 'unknown'} trains into this folder;"
                " wait for it, or choose another folder with --out"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
