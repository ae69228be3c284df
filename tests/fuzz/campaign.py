"""Many inputs through the readers, in processes of their own: a crash, a hang or a flood of memory is seen."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from adaptseg.errors import InputError
from tests.fuzz.mutations import Tree

GOOD = ("accepted", "refused")
BAD = ("traceback", "unclear", "hang", "outside", "memory", "crash")
"""Another exception; a refusal of many lines or without a name; and what the names say."""
LONGEST_REFUSAL = 2100
"""Characters of what still is a line."""
BATCH = 50
"""Inputs between two reports of a process."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod")
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")


Read = Callable[[Path, Path], None]
"""Read the input in a folder; whatever is written goes to the other one."""


@dataclass(frozen=True)
class Target:
    """A reader. `make` and `read` are pickled by name, so they stand at the top of a module."""

    name: str
    make: Callable[[Random], Tree]
    """Return an input, the same for the same generator."""
    read: Read
    """Raises `InputError` for bad input and nothing else."""
    named: str = ""
    """Regular expression of what a refusal may name instead of a file of the input."""


@dataclass(frozen=True)
class Limits:
    """What one input may take."""

    seconds: float = 10.0
    memory: int = 2**30
    """Bytes of resident memory beyond what the process had before."""
    address_space: int = 8 * 2**30
    """Bytes that the process may ask for beyond those: the net below `memory`, for the machine's sake."""


@dataclass(frozen=True)
class Outcome:
    """What a reader did with one input."""

    target: str
    index: int
    kind: str
    """One of `GOOD` or `BAD`."""
    text: str = ""
    """The refusal, or what went wrong."""
    memory: int = 0
    """Bytes of resident memory at the peak, beyond those before."""
    seconds: float = 0.0
    kept: Path | None = None
    """Folder with a copy of the input, if the outcome is bad; what went wrong is in a file beside it."""


@dataclass
class Counts:
    """Outcomes of one target."""

    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*GOOD, *BAD), 0))
    memory: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.kinds[outcome.kind] += 1
        self.memory = max(self.memory, outcome.memory)
        self.seconds = max(self.seconds, outcome.seconds)


def make_input(target: Target, seed: int, index: int) -> Tree:
    """Return input `index` of a target: a pure function of its arguments."""
    return target.make(Random(f"{seed} {target.name} {index}"))


def write_tree(tree: Tree, folder: Path) -> None:
    """Write an input's files."""
    for name, data in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Writes:
    """Files changed and processes started from Python while it watches, but for those in one folder."""

    def __init__(self) -> None:
        """Start to listen; nothing is noted before `watch`."""
        self.outside: list[str] = []
        self._inside: str | None = None
        sys.addaudithook(self._hear)

    def watch(self, inside: Path | None) -> None:
        """Note what happens from now on, but for the folder `inside`; none: stop."""
        self._inside = None if inside is None else f"{inside.resolve()}{os.sep}"
        if inside is not None:
            self.outside.clear()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        inside = self._inside
        if inside is None:
            return
        if event in PROCESSES:
            self.outside.append(f"{event} {arguments[0]!r}")
        elif event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                place = os.path.abspath(os.fsdecode(path))
                if not f"{place}{os.sep}".startswith(inside) and place != os.devnull:
                    self.outside.append(f"{event} {place!r}")


def _resident() -> int:
    """Bytes of the largest resident memory since the last call, where the system tells; else since the start."""
    with suppress(OSError):
        text = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
        return int(re.findall(r"VmHWM:\s*(\d+)", text)[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_input(target: Target, index: int, folder: Path, writes: Writes, limits: Limits) -> Outcome:
    """Read the input that lies in `folder`/input."""
    out = folder / "out"
    _resident()
    before, started = _resident(), time.monotonic()
    kind, text = "accepted", ""
    writes.watch(out)
    try:
        target.read(folder / "input", out)
    except InputError as error:
        kind, text = "refused", str(error)
    except Exception:
        kind, text = "traceback", traceback.format_exc()
    finally:
        writes.watch(None)
    seconds, memory = time.monotonic() - started, _resident() - before
    if kind == "refused" and (problem := unclear(text, folder / "input", target.named)):
        kind, text = "unclear", f"{problem}: {text}"
    if writes.outside:
        kind, text = "outside", "; ".join(writes.outside)
    if memory > limits.memory:
        kind, text = "memory", f"{memory} bytes; {text}"
    if seconds > limits.seconds:
        kind, text = "hang", f"{seconds:.1f} s; {text}"
    return Outcome(target.name, index, kind, text, memory, seconds)


def unclear(text: str, folder: Path, named: str) -> str:
    """Say what is wrong with a refusal; empty: nothing."""
    if text.splitlines() != [text] or any(unicodedata.category(character) == "Cc" for character in text):
        return "not one line, or control characters"
    if str(folder) not in text and not (named and re.search(named, text)):
        return "names no file and no key"
    if len(text) > LONGEST_REFUSAL:
        return f"{len(text)} characters"
    return ""


def _work(connection: Connection, folder: Path, seed: int, limits: Limits) -> None:
    """Answer (target, index) with an `Outcome` until the connection closes. Runs in a process of its own."""
    log = (folder / "log").open("w")
    for stream in (1, 2):  # Decoders written in C speak for themselves.
        os.dup2(log.fileno(), stream)
    sys.dont_write_bytecode = True
    tempfile.tempdir = str(folder / "out")
    os.chdir(folder)
    with suppress(OSError, ValueError):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + limits.address_space, resource.RLIM_INFINITY))
    faulthandler.enable(log)
    writes = Writes()
    while True:
        try:
            target, index = connection.recv()
        except EOFError:
            return
        log.seek(0)
        log.truncate()
        for name in ("input", "out"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        tree = make_input(target, seed, index)
        write_tree(tree, folder / "input")
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=log)
        outcome = run_input(target, index, folder, writes, limits)
        faulthandler.cancel_dump_traceback_later()
        connection.send(outcome)


class Worker:
    """A process that reads one input after the other; a new one takes its place when it dies."""

    def __init__(self, seed: int, limits: Limits) -> None:
        """Start nothing yet."""
        self._seed, self._limits = seed, limits
        self.folder = Path(tempfile.mkdtemp(prefix="adaptseg-fuzz-")).resolve()
        self._process: Any = None
        self._connection: Connection | None = None

    def run(self, target: Target, index: int) -> Outcome:
        """Read one input; the files stay in `folder`/input until the next one."""
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            arguments = (theirs, self.folder, self._seed, self._limits)
            self._process = context.Process(target=_work, args=arguments, daemon=True)
            self._process.start()
            theirs.close()
        self._connection.send((target, index))
        try:
            # Starting and making the input take their time too; the process ends itself after `limits.seconds`.
            if self._connection.poll(self._limits.seconds + 60):
                outcome: Outcome = self._connection.recv()
                return outcome
        except (EOFError, ConnectionError):
            pass
        text = (self.folder / "log").read_text(errors="replace")
        self.close(keep=True)
        return Outcome(target.name, index, "hang" if "Timeout (" in text else "crash", text or "no answer")

    def close(self, keep: bool = False) -> None:
        """End the process and, unless `keep`, delete its folder."""
        if self._connection is not None:
            self._connection.close()
            self._process.join(2)
            self._process.kill()
            self._process.join()
            self._connection = None
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def run(
    targets: Sequence[Target],
    jobs: Iterable[int],
    seed: int,
    failures: Path,
    processes: int = 2,
    limits: Limits | None = None,
) -> Iterator[Outcome]:
    """Yield the outcome of input numbers `jobs` of every target, as they come.

    A bad outcome's input is copied to `failures`/TARGET-SEED-INDEX.
    """
    todo = iter([(target, index) for index in jobs for target in targets])
    workers = [Worker(seed, limits or Limits()) for _ in range(processes)]

    def share(worker: Worker) -> list[Outcome]:
        outcomes = []
        for target, index in islice(todo, BATCH):
            outcome = worker.run(target, index)
            if outcome.kind in BAD:
                outcome = replace(outcome, kept=keep(outcome, worker.folder / "input", failures, seed))
            outcomes.append(outcome)
        return outcomes

    with ThreadPoolExecutor(processes) as pool:
        try:
            while any(results := list(pool.map(share, workers))):
                for outcomes in results:
                    yield from outcomes
        finally:
            for worker in workers:
                worker.close()


def keep(outcome: Outcome, tree: Path, failures: Path, seed: int) -> Path:
    """Copy a bad outcome's input, and write beside it what went wrong and how to see it again."""
    place = failures / f"{outcome.target.replace(' ', '-')}-{seed}-{outcome.index}"
    shutil.copytree(tree, place, dirs_exist_ok=True)
    again = f"python -m tests.fuzz --seed {seed} --only {json.dumps(outcome.target)} --first {outcome.index} --inputs 1"
    note = f"{outcome.kind}\n{again}\n{outcome.text}\n"
    place.with_suffix(".txt").write_text(note, errors="backslashreplace")
    return place
