"""Label Studio's JSON: tasks with annotations of brushed masks, polygons and rectangles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from adaptseg.data.files import IMAGE_SUFFIXES
from adaptseg.data.layouts.shapes import Brush, Outline, Shape
from adaptseg.errors import InputError

KINDS = ("brushlabels", "polygonlabels", "rectanglelabels")
UPLOADED = re.compile(r"(/data/upload/(?:\d+/)?)[0-9a-f]{8}-(?=[^/]+$)")
"""What Label Studio puts before the name of an uploaded file; in local storage `20261127-0930.jpg` is a whole name."""
Annotated = tuple[tuple[int, int] | None, list[Shape]]
"""Width and height, none where nothing is drawn; and the shapes."""


def tasks(content: Any) -> dict[str, Annotated]:
    """Return the shapes of each task that is annotated, by its image's file; predictions are no labels.

    Raises:
        InputError: no task is annotated, or one twice, or a shape is none of `KINDS`.
    """
    found: dict[str, Annotated] = {}
    for task in content:
        file = image_file(task["data"])
        results = [entry["result"] for entry in _valid(task.get("annotations") or [], file)]
        if not results:
            continue
        if file in found:
            raise InputError(f"two annotated tasks are of {file}; delete one, or give the images different names")
        found[file] = _drawn(results[0], file)
    if not found:
        raise InputError("no task has an annotation; submit the corrected tasks, and export them as JSON")
    return found


def image_file(data: Mapping[str, Any]) -> str:
    """Return the file that a task's data name, without the address before it and the number of an upload."""
    texts = [data.get("image"), *data.values()]
    named = [text for text in texts if isinstance(text, str)]
    images = [path for text in named for path in _paths(text) if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"a task without an image ({', '.join(map(repr, named[:1]))}); export tasks of images")
    return UPLOADED.sub(r"\1", images[0])


def _paths(text: str) -> Iterator[str]:
    """Yield what an address may mean: itself without the query, which may be a signature, or the file in the query."""
    if text.lower().startswith(("http://", "https://")):
        yield unquote(text.partition("?")[0])
    yield unquote(re.split(r"[?&]d=", text)[-1])


def _valid(entries: list[Any], file: str) -> list[Any]:
    """Return the one annotation that counts, in a list, or nothing."""
    valid = [entry for entry in entries if not entry.get("was_cancelled")]
    if len(valid) > 1:
        valid = [entry for entry in valid if entry.get("ground_truth")]
        if len(valid) != 1:
            raise InputError(f"{file} has several annotations; delete all but one, or mark one as ground truth")
    return valid


def _drawn(results: list[Any], file: str) -> Annotated:
    size: tuple[int, int] | None = None
    shapes: list[Shape] = []
    for result in results:
        kind = result["type"]
        if not kind.endswith("labels"):  # Choices, texts, relations.
            continue
        if kind not in KINDS:
            raise InputError(f"{file}: {kind} have no area that is read; draw brush, polygons or rectangles")
        if result.get("image_rotation"):
            raise InputError(f"{file}: annotated while it was turned; turn it back in Label Studio")
        size = (int(result["original_width"]), int(result["original_height"]))
        shapes += _shapes(kind, result["value"], size, file)
    return size, shapes


def _shapes(kind: str, value: Mapping[str, Any], size: tuple[int, int], file: str) -> Iterator[Shape]:
    names = value[kind]
    if len(names) != 1:
        raise InputError(f"{file}: a shape of {len(names)} classes; give each shape one")
    name = str(names[0])
    if kind == "brushlabels":
        if value.get("format", "rle") != "rle":
            raise InputError(f"{file}: a brush of format {value['format']!r}; export as JSON, with rle")
        yield Brush(name, value["rle"], (size[1], size[0]))
        return
    if kind == "rectanglelabels":
        if value.get("rotation"):
            raise InputError(f"{file}: a turned rectangle; draw it as a polygon")
        x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
        points = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    else:
        points = value["points"]
    yield Outline(name, [(float(x) / 100, float(y) / 100) for x, y in points], relative=True)
