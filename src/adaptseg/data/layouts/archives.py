"""Zip archives read in place, as the publishers ship them: nothing is unpacked."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from adaptseg.data.files import FileTree, FolderTree
from adaptseg.errors import InputError

MAX_MEMBER_BYTES = 256 * 2**20
"""Larger members are refused before they are unpacked (zip bombs); the largest published PNG has 20 MB."""


class ZipTree:
    """The files of one zip archive below `prefix`, a folder inside it (empty, or ending in `/`).

    Safe to use after a fork and to send to another process: each process opens the archive for itself,
    since two processes must not share one file position.
    """

    def __init__(self, archive: Path, prefix: str = "") -> None:
        """Read the archive's table of contents.

        Raises:
            InputError: no zip archive, a truncated one, or a member whose path leaves the archive.
        """
        self.root = archive / prefix if prefix else archive
        self._archive, self._prefix = archive, prefix
        self._handle: zipfile.ZipFile | None = None
        self._owner = -1
        self._sizes: dict[str, int] = {}
        for info in self._open().infolist():
            _refuse_name(archive, info.filename)
            hidden = any(part.startswith(".") for part in info.filename.split("/"))
            if not info.is_dir() and not hidden and info.filename.startswith(prefix):
                self._sizes[info.filename.removeprefix(prefix)] = info.file_size

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file."""
        return {**self.__dict__, "_handle": None, "_owner": -1}

    def _open(self) -> zipfile.ZipFile:
        if self._handle is None or self._owner != os.getpid():
            try:
                self._handle = zipfile.ZipFile(self._archive)
            except Exception as error:  # zipfile trusts what it reads: a broken archive fails in any way.
                raise _broken(self._archive, error) from error
            self._owner = os.getpid()
        return self._handle

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names below `folder`, relative to the prefix, hidden ones left out."""
        below = f"{folder}/" if folder else ""
        return sorted(name for name in self._sizes if name.startswith(below))

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            InputError: the archive has no such file, the file is damaged, encrypted, or too large.
        """
        size = self._sizes.get(name)
        if size is None:
            raise InputError(f"{self.where(name)}: no such file in the archive; download it again")
        if size > MAX_MEMBER_BYTES:
            raise InputError(
                f"{self.where(name)}: {size} bytes unpacked, more than {MAX_MEMBER_BYTES};"
                " no image is that large: remove it from the archive"
            )
        try:
            with self._open().open(self._prefix + name) as member:
                return member.read(size)
        except NotImplementedError as error:
            raise InputError(
                f"{self.where(name)}: cannot be unpacked in place ({error}); unpack the archive"
            ) from error
        except Exception as error:
            if isinstance(error, RuntimeError) and "password" in str(error):
                raise InputError(f"{self.where(name)}: encrypted; unpack the archive with its password") from error
            raise _broken(self._archive, error) from error

    def stamp(self, name: str) -> str:
        """Return a file's size and checksum, as the table of contents has them; raises `InputError` as `read` does."""
        if name not in self._sizes:
            raise InputError(f"{self.where(name)}: no such file in the archive; download it again")
        return f"{self._sizes[name]} {self._open().getinfo(self._prefix + name).CRC}"

    def where(self, name: str) -> str:
        """Return where a file lies: the archive's path, then the path inside it."""
        return str(self.root / name)


class JoinedTree:
    """Several trees with one set of names, such as ten archives that each hold a part of `images/`."""

    def __init__(self, root: Path, trees: Sequence[FileTree]) -> None:
        """Join the trees; of files with one name, the first tree's counts."""
        self.root = root
        self._tree_of = {name: tree for tree in reversed(trees) for name in tree.names("")}

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of all files below `folder`, in whichever tree."""
        below = f"{folder}/" if folder else ""
        return sorted(name for name in self._tree_of if name.startswith(below))

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises `InputError` where no tree has it."""
        return self._tree(name).read(name)

    def _tree(self, name: str) -> FileTree:
        if name not in self._tree_of:
            raise InputError(f"{self.root / name}: no such file in the folder or its archives; restore it")
        return self._tree_of[name]

    def stamp(self, name: str) -> str:
        """Return a file's stamp; raises `InputError` where no tree has it."""
        return self._tree(name).stamp(name)

    def where(self, name: str) -> str:
        """Return where a file lies."""
        return self._tree_of[name].where(name) if name in self._tree_of else str(self.root / name)


def _refuse_name(archive: Path, name: str) -> None:
    if not name:
        raise _broken(archive, zipfile.BadZipFile("a member without a name"))
    if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or ":" in name[:2]:
        raise InputError(f"{archive}: member {name!r} points outside the archive; download the official archive")


def _broken(archive: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError | PermissionError):
        return InputError(f"{archive}: cannot be read ({error.strerror}); check the path and its permissions")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{archive}: damaged or truncated zip archive ({reason}); download it again")


def enclosing_archive(root: Path) -> tuple[Path, str] | None:
    """Split `data/all.zip/Rome` into archive and folder in it; none if no part of `root` is a zip file."""
    for path in (root, *root.parents):
        if path.suffix.lower() == ".zip" and path.is_file():
            inside = root.relative_to(path).as_posix()
            return path, "" if inside == "." else f"{inside}/"
    return None


def holds(root: Path, folder: str, archives: Sequence[str]) -> bool:
    """Tell whether `root` has `folder`, an unpacked archive with it, or one of the archives (patterns)."""
    return (root / folder).is_dir() or bool(_pieces(root, folder, archives))


def _pieces(root: Path, folder: str, archives: Sequence[str]) -> dict[str, Path]:
    """Archive's stem -> the folder it was unpacked to, or the archive."""
    pieces = {path.stem: path for pattern in archives for path in sorted(root.glob(pattern)) if path.is_file()}
    for pattern in archives:
        # Unpacking leftImg8bit_trainvaltest.zip often leaves leftImg8bit_trainvaltest/leftImg8bit.
        unpacked = sorted(root.glob(pattern.removesuffix(".zip")))
        pieces |= {path.name: path for path in unpacked if (path / folder).is_dir()}
    return pieces


def find_tree(root: Path, folder: str, archives: Sequence[str]) -> FileTree | None:
    """Return the tree in which `folder` lies.

    That is `root` itself where it has the folder; else the official archives in `root`, each read in place
    or, where it was unpacked to a folder of its own name, from there; else, for a root such as
    `data/all.zip/Rome`, the archive. A folder around the contents of an archive is passed over.

    Args:
        root: The folder that the configuration names.
        folder: Path below the data set's root, with `/`.
        archives: Patterns of the official archives' names; each ends in `.zip`.

    Returns:
        The tree, or none where the folder is nowhere.

    Raises:
        InputError: an archive is broken.
    """
    enclosing = enclosing_archive(root)
    if enclosing is not None:
        return _archive_tree(enclosing[0], folder, enclosing[1])
    if (root / folder).is_dir():
        return FolderTree(root)
    pieces = [path for _, path in sorted(_pieces(root, folder, archives).items())]
    found = [FolderTree(path) if path.is_dir() else _archive_tree(path, folder) for path in pieces]
    trees = [tree for tree in found if tree is not None]
    return trees[0] if len(trees) == 1 else JoinedTree(root, trees) if trees else None


def _archive_tree(archive: Path, folder: str, within: str = "") -> FileTree | None:
    """Return the archive from the level on at which it has `folder`, at or below `within`."""
    for name in ZipTree(archive).names():
        position = f"/{name}".find(f"/{folder}/") if name.startswith(within) else -1
        if position >= 0:
            return ZipTree(archive, name[:position])
    return None
