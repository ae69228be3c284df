"""The page of `adaptseg init`: pairs as they were matched, every label value with its share, name and a sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from adaptseg.config import ExperimentConfig
from adaptseg.data.dataset import Domain
from adaptseg.data.discovery.labelled import ClassFound, Labelled
from adaptseg.data.discovery.proposal import Proposal
from adaptseg.data.files import UInt8Array, resize_image
from adaptseg.data.label_spaces import VOID, LabelSpace, label_space
from adaptseg.data.layouts.label_map import configured_map
from adaptseg.data.layouts.pairing import few
from adaptseg.data.layouts.raw_labels import evenly
from adaptseg.errors import InputError
from adaptseg.reports.gallery import Picture, Row, colour, picture
from adaptseg.reports.page import render, save

PAIRS, PHOTOGRAPHS = 4, 8
"""Samples of a labelled domain, and of the target, that the page shows."""
WIDTH, CROP = 300, 132
"""Widths of their pictures, and of a class's."""
MOST_ROWS = 80
"""Values that get a row."""


@dataclass(frozen=True)
class ClassRow:
    """A value or colour of the labels."""

    raw: str
    swatch: str
    """Its colour on the page; empty where it is ignored."""
    name: str
    share: float
    fate: str
    """trained, not trained, ignored."""
    made_up: bool
    crop: Picture | None


@dataclass(frozen=True)
class Section:
    """A domain."""

    role: str
    found: Labelled
    rows: Sequence[ClassRow]
    left: int
    """Values that have no row."""
    pairs: Sequence[Row]
    problem: str
    """Why there are no pictures."""


def write_page(proposal: Proposal, config: ExperimentConfig, out: Path) -> Path:
    """Write the page of what was found, with the configuration that was written for it."""
    space = label_space(config.label_space)
    sections = [_section("source", proposal.source, config, space)]
    if proposal.evaluation is not None:
        sections.append(_section("evaluation", proposal.evaluation, config, space))
    pictures, problem = _photographs(config, space)
    page = render(
        "discovery.html",
        title=f"What was found: {out.stem}",
        notes=proposal.notes,
        sections=sections,
        target=proposal.target,
        photographs=pictures,
        problem=problem,
        proposal=proposal,
        swatches={name: colour(space, train_id) for train_id, name in enumerate(space.classes)},
    )
    return save(page, out)


def summary(proposal: Proposal) -> Iterator[str]:
    """Yield the lines for the terminal."""
    source, target = proposal.source, proposal.target
    yield _said("source", source)
    for note in source.notes:
        yield f"            {note}"
    kinds = [f"{len(target.images)} images"] * bool(target.images) + [f"{len(target.films)} films"] * bool(target.films)
    yield f"target      {' and '.join(kinds)}; size {proposal.size[0]}x{proposal.size[1]}"
    for note in target.notes:
        yield f"            {note}"
    if proposal.evaluation is not None:
        yield _said("evaluation", proposal.evaluation)
        for note in proposal.evaluation.notes:
            yield f"            {note}"
    for note in proposal.notes:
        yield f"note        {note}"
    yield f"classes     {', '.join(proposal.classes)}"
    untrained = [row for row in source.classes if row.share and row.name not in (*proposal.classes, VOID)]
    if untrained:
        shares = few([f"{row.name} ({100 * row.share:.1f} %)" for row in untrained])
        yield f"            not trained: {shares}; add to label_space in the YAML what should be"
    if source.unnamed:
        yield f"            {len(source.unnamed)} values have no name: rename {few(source.unnamed)} in the YAML"


def _said(role: str, found: Labelled) -> str:
    places = f"images {found.keys.get('images', 'images')}, labels {found.keys.get('labels', 'labels')}"
    named = "names made up" if found.named_by == "numbers" else f"names from {found.named_by}"
    return f"{role:<10}  {len(found.images)} images with labels ({places}); {named}; {found.read} labels read"


def _section(role: str, found: Labelled, config: ExperimentConfig, space: LabelSpace) -> Section:
    """Return a labelled domain, read as training reads it."""
    rows = found.classes[:MOST_ROWS]
    try:
        domain = Domain(config.domain(role), space)
        shown = _Shown(domain)
        pairs = [_pair(domain, index) for index in evenly(len(domain), PAIRS)]
        made = [_class_row(row, found, space, shown) for row in rows]
        problem = ""
    except InputError as error:
        made, pairs, problem = [_class_row(row, found, space, None) for row in rows], [], str(error)
    return Section(role, found, made, len(found.classes) - len(rows), pairs, problem)


class _Shown:
    """Crops of a domain's images that show a class."""

    def __init__(self, domain: Domain) -> None:
        self.layout: Any = domain.layout
        own = configured_map(domain.config)
        self.colors = list(own.colors) if own else []
        self.read = lru_cache(maxsize=8)(self._read)

    def _read(self, index: int) -> tuple[UInt8Array, npt.NDArray[Any]]:
        image, label = self.layout.image(index), self.layout.label(index)
        scale = min(1.0, 1000 / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return resize_image(image, size), cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)

    def crop(self, row: ClassFound) -> Picture | None:
        """Return where a class has most pixels in the image that has most of them, all else darkened."""
        files = list(self.layout.label_files)
        place = files.index(row.file) if row.file in files else -1
        if place < 0 or files.count(row.file) > 1:
            place = list(self.layout.names).index(row.file) if row.file in self.layout.names else -1
        if place < 0:
            return None
        image, label = self.read(place)
        mask = np.isin(label, self._codes(row)).astype(np.uint8)
        if not mask.any():
            return None
        count, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
        left, top, width, height = boxes[1 + int(boxes[1:count, cv2.CC_STAT_AREA].argmax())][:4].tolist()
        shown = image.copy()
        shown[mask == 0] = shown[mask == 0] // 3
        side = min(max(width, height) * 5 // 4 + 8, *image.shape[:2])
        side = max(side, min(24, *image.shape[:2]))
        x = min(max(0, left + width // 2 - side // 2), image.shape[1] - side)
        y = min(max(0, top + height // 2 - side // 2), image.shape[0] - side)
        return picture(row.name, np.ascontiguousarray(shown[y : y + side, x : x + side]), CROP)

    def _codes(self, row: ClassFound) -> list[int]:
        if isinstance(row.raw, tuple):
            return [self.colors.index(row.raw)] if row.raw in self.colors else []
        if isinstance(row.raw, int):
            return [row.raw]
        return [code for code, name in self.layout.raw_classes.items() if name == row.name]


def _class_row(row: ClassFound, found: Labelled, space: LabelSpace, shown: _Shown | None) -> ClassRow:
    is_trained = row.name in space.classes
    fate = (
        "trained" if is_trained else "ignored" if row.name == "void" or row.name in found.untrained else "not trained"
    )
    raw = ", ".join(map(str, row.raw)) if isinstance(row.raw, tuple) else str(row.raw)
    swatch = colour(space, space.classes.index(row.name)) if is_trained else ""
    crop = shown.crop(row) if shown is not None and row.share else None
    return ClassRow(raw, swatch, row.name, row.share, fate, row.name in found.unnamed, crop)


def _pair(domain: Domain, index: int) -> Row:
    image, label = domain.read(index)
    assert label is not None
    palette = domain.label_space.palette
    colors = palette[label]
    overlay = np.where((label == 255)[:, :, None], image // 2, (image.astype(np.uint16) + colors) // 2).astype(np.uint8)
    pictures = (
        picture("image", image, WIDTH),
        picture("label", label, WIDTH, palette),
        picture("both; what is ignored is dark", overlay, WIDTH),
    )
    return Row("", domain.layout.names[index], None, pictures)


def _photographs(config: ExperimentConfig, space: LabelSpace) -> tuple[list[Picture], str]:
    try:
        domain = Domain(config.domain("target"), space)
        places = evenly(len(domain), PHOTOGRAPHS)
        return [picture(domain.layout.names[place], domain.layout.image(place), WIDTH) for place in places], ""
    except InputError as error:
        return [], str(error)
