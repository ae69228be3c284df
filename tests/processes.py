"""Commands in processes of their own that need not import torch: all are forked from one process that has."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptseg.cli import main
from tests.conftest import PATIENCE

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pytest", "adaptseg.training.loop", "adaptseg.predict.predictions", "jsonargparse", "torch.utils.tensorboard"]
)


class Command:
    """`adaptseg` in a process of its own; what a test does with it is as of `subprocess.Popen`."""

    def __init__(
        self,
        *arguments: object,
        call: Callable[[Sequence[str]], object] = main,
        environment: Mapping[str, str] | None = None,
        start_new_session: bool = False,
        largest_file: float | None = None,
    ) -> None:
        """Start it.

        Args:
            arguments: of the command line.
            call: what is called with them, a function of a module.
            environment: variables that are added.
            start_new_session: as of Popen.
            largest_file: megabytes beyond which writing is an error, as on a full disk.
        """
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        settings = (self._printed, dict(environment or {}), start_new_session, largest_file)
        self._process = CONTEXT.Process(target=_run, args=(call, [*map(str, arguments)], *settings))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = PATIENCE) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, "timed out"
        return self._process.exitcode

    def communicate(self, timeout: float | None = PATIENCE) -> tuple[str, str]:
        """Wait for its end, for ever without a timeout; return what it printed and what it said on stderr."""
        self.wait(timeout)
        stdout, stderr = (file.read_text() for file in self._printed)
        return stdout, stderr


def ranks(count: int, *arguments: object, **settings: Any) -> list[Command]:
    """Start a command in several processes that meet, as torchrun does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    meeting = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    meeting |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count))
    numbers = [dict.fromkeys(("RANK", "LOCAL_RANK"), str(number)) for number in range(count)]
    return [Command(*arguments, environment=meeting | number, **settings) for number in numbers]


def _run(
    call: Callable[[Sequence[str]], object],
    arguments: list[str],
    printed: list[Path],
    environment: dict[str, str],
    own_session: bool,
    largest_file: float | None,
) -> None:
    multiprocessing.set_start_method(None, force=True)  # Of its loader's workers: the system's own.
    os.environ.update(environment)
    if own_session:
        os.setsid()
    for number, file in enumerate(printed, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file * 1e6),) * 2)
    code: Any = 0
    try:
        call(arguments)
    except SystemExit as end:
        code = end.code
    atexit._run_exitfuncs()  # A process that was not forked calls them, when frames and their loaders are gone.
    raise SystemExit(code)
