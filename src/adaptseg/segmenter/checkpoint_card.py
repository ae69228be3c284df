"""`checkpoint.json`: what a checkpoint is of, and the checksum of each of its files, so that damage is never used."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xxhash import xxh3_128

from adaptseg.atomic import errors_naming, sync
from adaptseg.distributed import is_main
from adaptseg.errors import InputError

CHECKPOINT_CARD = "checkpoint.json"
CHECKPOINT_NAME = re.compile(r"step-(?!0\d{6})\d{6,}", re.ASCII)
"""Names of checkpoint folders, as `checkpoint_name` makes them and nothing else."""
FILES = "xxh3_128"
"""Key of the card: file name to digest; that of the card itself, without it, stands under the card's own name."""


def checkpoint_name(step: int) -> str:
    """Return the name of the checkpoint after `step` iterations."""
    return f"step-{step:06d}"


class CheckedFolder:
    """Writes files to disk, whole and synced, and keeps the digests of the bytes that it was given."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written yet; the folder is there."""
        self.folder = folder
        self.digests: dict[str, str] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[_HashedFile]:
        """Open a file for writing; raises `OSError`, which names it."""
        path = self.folder / name
        with errors_naming(path):
            with path.open("wb") as file:
                hashed = _HashedFile(file)
                yield hashed
            sync(path)
        self.digests[name] = hashed.digest.hexdigest()

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file; raises `OSError`, which names it."""
        with self.open(name) as file:
            file.write(content)

    def write_card(self, card: Mapping[str, Any]) -> None:
        """Write the card, last: with it the checkpoint is complete."""
        content = json.loads(json.dumps({**card, FILES: self.digests}))
        content[FILES][CHECKPOINT_CARD] = _digest_of(content)
        self.write_bytes(CHECKPOINT_CARD, (json.dumps(content, indent=2) + "\n").encode())


class _HashedFile:
    """What `torch.save` writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = xxh3_128()  # Against accidents, ten times as fast as a cryptographic one: 2 % of the disk's time.
        self._file = file

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a checkpoint.

    Raises:
        InputError: it is missing, broken, or not as it was written.
    """
    path = folder / CHECKPOINT_CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        files = card.get(FILES)
        if files is not None and files[CHECKPOINT_CARD] != _digest_of(card):
            raise ValueError("its checksum is another")
        return dict(card)
    except Exception as error:  # JSON may hold anything anywhere.
        raise damaged(path) from error


def check_files(folder: Path, names: Iterable[str] | None = None) -> None:
    """Hold files of a checkpoint against the digests of its card; of any other folder nothing is known.

    A checkpoint that was written before there were digests passes, with a note on stderr.

    Args:
        folder: the checkpoint.
        names: the files that will be used; none: all.

    Raises:
        InputError: a file is missing or not as it was written.
    """
    if not (folder / CHECKPOINT_CARD).is_file() and not CHECKPOINT_NAME.fullmatch(folder.resolve().name):
        return
    files = read_card(folder).get(FILES)
    if files is None:
        if is_main():
            print(f"adaptseg: {folder}: has no checksums, damage would not be seen", file=sys.stderr, flush=True)
        return
    for name in files if names is None else names:
        if name != CHECKPOINT_CARD and _digest_of_file(folder / name) != files.get(name):
            raise damaged(folder / name)


def damaged(path: Path) -> InputError:
    """Return the error for a file of a checkpoint that is not as it was written."""
    return InputError(f"{path}: missing, truncated or damaged; use an older checkpoint of the run")


def _digest_of(card: Mapping[str, Any]) -> str:
    files = {name: digest for name, digest in card[FILES].items() if name != CHECKPOINT_CARD}
    return xxh3_128(json.dumps({**card, FILES: files}, sort_keys=True).encode()).hexdigest()


def _digest_of_file(path: Path) -> str | None:
    digest = xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
