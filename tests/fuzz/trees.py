"""Inputs of the readers under test: good trees of files, and what damage makes of them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

import adaptseg.reports.compare
import adaptseg.reports.terminal  # noqa: F401
from tests.fuzz.mutations import Tree, mutate_tree


def damaged(trees: Callable[[], Sequence[Tree]], rng: Random) -> Tree:
    """Damage one of some good trees; one in fifty is left as it is."""
    tree = rng.choice(trees())
    return tree if rng.random() < 0.02 else mutate_tree(tree, rng)


def _files_of(folder: Path) -> Tree:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def built(build: Callable[[Path], Any]) -> Tree:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        return _files_of(Path(folder))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()
