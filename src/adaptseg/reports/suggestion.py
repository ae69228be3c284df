"""The page of `adaptseg suggest`: the photographs to label, what the run sees in them, and why these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adaptseg.data.files import UInt8Array
from adaptseg.data.label_spaces import LabelSpace
from adaptseg.reports.gallery import Gallery, Picture, Row, colour, heat_map, picture
from adaptseg.reports.page import render, save
from adaptseg.segmenter.images import overlay, rgb_array

MOST_ROWS = 100
"""Photographs that are shown."""
WIDTHS = {12: 440, 40: 300, MOST_ROWS: 200}
"""Width of the pictures where so many photographs are shown at most."""


def write_suggestion_page(folder: Path, space: LabelSpace, block: str, value_range: tuple[float, float] | None) -> Path:
    """Write `suggestion.html` beside what `write_suggestion` wrote.

    Args:
        folder: of the suggestion.
        space: the run's classes and colours.
        block: the YAML with which corrected labels are trained on.
        value_range: of images of more than 8 bits.

    Returns:
        The file.
    """
    content = json.loads((folder / "suggestion.json").read_text(encoding="utf-8"))
    shown = content["images"][:MOST_ROWS]
    width = next(pixels for most, pixels in WIDTHS.items() if len(shown) <= most)
    rows, seen = [], set()
    for entry in shown:
        train_ids = np.asarray(Image.open(folder / "labels" / f"{entry['name']}.png"))
        seen |= set(np.unique(train_ids).tolist())
        pictures = _pictures(folder, entry, train_ids, space, width, value_range)
        rows.append(Row(f"{entry['rank']}.", f"{entry['name']}: {_why(entry)}", None, pictures))
    legend = {space.classes[value]: colour(space, value) for value in sorted(seen)}
    page = render(
        "suggestion.html",
        title=f"{len(content['images'])} photographs to label",
        notes=[],
        content=content,
        gallery=Gallery(tuple(rows), legend, content["criterion"]),
        left=len(content["images"]) - len(shown),
        block=block,
    )
    return save(page, folder / "suggestion.html")


def _pictures(
    folder: Path,
    entry: dict[str, Any],
    train_ids: UInt8Array,
    space: LabelSpace,
    width: int,
    value_range: tuple[float, float] | None,
) -> tuple[Picture, ...]:
    image = rgb_array(folder / entry["image"], value_range)
    unsure = np.asarray(Image.open(folder / "entropy" / f"{entry['name']}.png"))
    return (
        picture("photograph", image, width),
        picture("the run's prediction", overlay(image, space.palette[train_ids]), width),
        picture("where it is unsure (bright)", heat_map(unsure), width),
    )


def _why(entry: dict[str, Any]) -> str:
    """Return the scores in words."""
    scores = {name: value for name, value in entry["scores"].items() if value is not None}
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
