"""Which images and videos are meant by files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from adaptseg.data.files import is_image
from adaptseg.data.films import is_video
from adaptseg.errors import InputError
from adaptseg.segmenter.inference import MAPS

KINDS = ("labels", "colors", "overlays", *MAPS)
"""Folders of predictions."""


def find_inputs(inputs: Sequence[str], out: Path | None = None, frames: bool = False) -> list[tuple[Path, Path]]:
    """Return what `find_files` does, each name once.

    Args:
        inputs: the files, folders and patterns.
        out: as of `find_files`.
        frames: whether a video NAME is written as pictures NAME/000000, …

    Raises:
        InputError: as `find_files`, or two have the same name.
    """
    found = find_files(inputs, out)
    # A telephone's moving photograph is IMG_1.jpg beside IMG_1.mov.
    refuse_repeated(f"{name}.mp4" if is_video(path.name) else str(name) for path, name in found)
    videos = {name for path, name in found if is_video(path.name)} if frames else set()
    for path, name in found:
        if name.parent in videos and name.name.isdecimal() and not is_video(path.name):
            raise InputError(
                f"{path}: a frame of the video {name.parent} is written as {name} too; predict them into separate --out"
                " folders"
            )
    return found


def find_files(inputs: Sequence[str], out: Path | None = None) -> list[tuple[Path, Path]]:
    """Return (image or video, name for outputs without suffix) of files, folders, and patterns such as `a/**/*.jpg`.

    Folders are searched to the bottom, without hidden ones. Names are relative to the folder, or to a pattern's folders
    without wildcards.

    Args:
        inputs: the files, folders and patterns.
        out: folder for predictions. It is left out of folders and patterns around it, and so are its `KINDS`.

    Raises:
        InputError: an input does not exist or is an earlier prediction, or a folder or pattern gives no image.
    """
    found: list[tuple[Path, Path]] = []
    kinds = [os.path.realpath(out / kind) for kind in KINDS] if out else []
    left_out = frozenset([*kinds, os.path.realpath(out)] if out else [])
    for text in inputs:
        path = Path(text)
        if any(f"{os.path.realpath(path)}/".startswith(f"{kind}/") for kind in kinds):
            raise InputError(f"{path}: lies in --out {out}, where predictions are written; choose another --out")
        if os.path.isfile(path):  # Path.is_file raises where a name is too long.
            found.append((path, Path(path.stem)))
        elif os.path.isdir(path):
            images = list(_below(path, left_out))
            if not images:
                raise InputError(f"{path}: no images in it; give a folder with photographs or videos")
            found += [(image, image.relative_to(path).with_suffix("")) for image in images]
        elif glob.has_magic(text):
            found += _matches(text, left_out)
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
    return found


def photographs_of(text: str) -> str:
    """Return `images/` of a folder that has one, as it is read of a target's root; any other input as it is."""
    images = os.path.join(text, "images")
    return images if os.path.isdir(images) else text


def labels_notes(inputs: Sequence[str], found: Sequence[tuple[Path, Path]]) -> Iterator[str]:
    """Yield a line for each folder of which, beside those in `images/`, pictures in `labels/` were found."""
    for folder in filter(os.path.isdir, inputs):
        photographs = Path(photographs_of(folder))
        others = [path for path, _ in found if path.is_relative_to(folder) and not path.is_relative_to(photographs)]
        if any(path.is_relative_to(Path(folder, "labels")) for path in others):
            yield (
                f"{folder}: has images/ beside labels/, and {len(others)} files outside images/ are predicted too;"
                f" give {photographs} to predict the photographs alone"
            )


def _below(folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    """Yield the images and videos of a folder and the folders in it, in order."""
    found = []
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):  # As training does.
        real = os.path.realpath(place)
        if real in seen or (real in left_out and place != str(folder)):  # Seen: a link to a folder above.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    yield from sorted(path for path in found if (is_image(path.name) or is_video(path.name)) and path.is_file())


def _matches(pattern: str, left_out: frozenset[str]) -> list[tuple[Path, Path]]:
    parts = Path(pattern).parts
    fixed = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    paths: dict[Path, None] = {}

    @cache
    def in_outputs(folder: Path) -> bool:
        return folder != fixed and (os.path.realpath(folder) in left_out or in_outputs(folder.parent))

    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if in_outputs(path):
            continue
        if path.is_dir():
            paths.update(dict.fromkeys(_below(path, left_out)))
        elif is_image(match) or is_video(match):
            paths[path] = None
    if not paths:
        raise InputError(f"{pattern}: no image or video matches; check the pattern")
    return [(path, path.relative_to(fixed).with_suffix("")) for path in paths]


def refuse_repeated(names: Iterable[str]) -> None:
    """Raise `InputError` where two inputs would be written under one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"two images would both be written as {name}; predict them into separate --out folders")
        seen.add(name)
