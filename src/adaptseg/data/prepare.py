"""`adaptseg prepare`: every image is decoded and resized once, training then reads pixels (data/prepared.py)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from torch.utils.data import DataLoader, Dataset

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.domains import list_domains
from adaptseg.data.prepared import Prepared, encode, prepared_samples
from adaptseg.data.workers import leave_interrupts_to_parent
from adaptseg.errors import InputError
from adaptseg.progress import track


@dataclass(frozen=True)
class Task(Dataset["bool | InputError | OSError"]):
    """The samples of one domain to be made."""

    role: str
    domain: Domain
    samples: Prepared

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.domain)

    def __getitem__(self, index: int) -> bool | InputError | OSError:
        """Make sample `index`; return whether it had to be written, or why it cannot be."""
        try:
            if self.samples.path(index).exists():
                try:
                    self.samples.read(index)
                    return False
                except InputError:  # Broken: made anew.
                    pass
            sample = self.domain[index]
            self.samples.write(index, sample.image, sample.label)
            return True
        except (InputError, OSError) as error:  # As a value: torch would bury the message in a worker's traceback.
            return error

    def missing_bytes(self) -> float:
        """Return about how many bytes are to be written; exactly, where all images have one size."""
        probes = {0, len(self) // 2, len(self) - 1}
        sizes = [len(encode(sample.image, sample.label)) for sample in map(self.domain.__getitem__, probes)]
        missing = sum(not self.samples.path(index).exists() for index in range(len(self)))
        return missing * sum(sizes) / len(sizes)


def prepare(config: ExperimentConfig, uses_target: bool, workers: int) -> Iterator[str]:
    """Write the prepared samples of an experiment's domains; yield a line on each, before and after.

    Samples that are there already are checked and kept, broken ones are made anew: after an interruption the same
    call goes on.

    Args:
        config: the experiment; its key `prepared` names the folder.
        uses_target: whether its method trains on the target.
        workers: processes that decode and resize.

    Raises:
        InputError: a file is broken, a label does not fit its map, the disk is too full, or another process writes
            the same samples.
    """
    tasks: dict[Path, Task] = {}
    domains = list_domains(config, uses_target)
    for role, domain in (domains.by_role() | {"evaluation": domains.evaluation}).items():
        if domain.config.prepared is None:
            raise InputError("prepared is null; name a folder, such as --prepared=prepared")
        samples = prepared_samples(domain.config, domain.layout, domain.table)
        if samples is None:
            yield f"{role:<11} is rendered, not read from files: nothing to prepare"
        elif samples.folder not in tasks:
            domain.prepared = None
            tasks[samples.folder] = Task(role, domain, samples)
    needed = {folder: task.missing_bytes() for folder, task in tasks.items()}
    for folder, task in tasks.items():
        yield f"{task.role:<11} {len(task)} images -> {folder}, {_gigabytes(needed[folder])} to write"
    _require_space(needed)
    for task in tasks.values():
        written = _run(task, workers)
        yield f"{task.role:<11} {written[True]} images written, {written[False]} were there and are sound"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _require_space(needed: dict[Path, float]) -> None:
    """Raise `InputError` where the disks do not have the bytes that each folder needs."""
    by_disk: Counter[Path] = Counter()
    for folder, size in needed.items():
        by_disk[next(path for path in folder.absolute().parents if path.is_dir())] += int(size)
    for place, size in by_disk.items():
        free = shutil.disk_usage(place).free
        if size > free:
            raise InputError(
                f"{place}: {_gigabytes(size)} are needed, {_gigabytes(free)} are free; free disk space,"
                " or name another folder with --prepared"
            )


def _run(task: Task, workers: int) -> Counter[bool]:
    """Make all samples of a task; return how many were written and how many were there."""
    task.samples.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(task.samples.folder / ".lock"), timeout=0)
    loader: DataLoader[bool | InputError | OSError] = DataLoader(
        task,
        batch_size=None,
        num_workers=min(workers, len(task)),
        worker_init_fn=leave_interrupts_to_parent if workers else None,
    )
    written: Counter[bool] = Counter()
    try:
        with lock:
            for answer in track(loader, f"preparing {task.role}"):
                if isinstance(answer, Exception):
                    raise answer
                written[answer] += 1
            task.samples.finish()
    except Timeout as error:
        raise InputError(f"{task.samples.folder}: another process prepares it; wait for it") from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"{task.samples.folder}: {str(error).splitlines()[0]}; was it short of memory? Call again with fewer"
            " --workers; what is written is kept"
        ) from error
    return written
