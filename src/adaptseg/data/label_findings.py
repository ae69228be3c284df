"""What labels look like that were resized, anti-aliased or misnamed: what training says before its first step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from adaptseg.data.dataset import Domain
from adaptseg.data.label_spaces import IGNORE_INDEX, VOID
from adaptseg.data.layouts.annotated import AnnotatedFiles
from adaptseg.data.layouts.label_map import BACKGROUND
from adaptseg.data.layouts.paired_files import Files
from adaptseg.data.layouts.pairing import few
from adaptseg.data.layouts.raw_labels import PictureLabels, evenly
from adaptseg.errors import InputError

LABELS_READ = 200
"""Labels of a domain that are read at most, until each class has been seen."""
LEAST_READ = 8
MOST_NAMED = 8
BLURRED = 0.15
"""Share of a label's borders that lie between two other values; of sharp labels at most 0.08 do, of blurred 0.3."""


def holds_values(layout: object) -> bool:
    """Tell whether a layout's raw values are those of pictures: colours and shapes have no values between them."""
    colors = isinstance(layout, Files) and isinstance(layout.decode, PictureLabels) and layout.decode.by_color
    return isinstance(layout, Files) and not isinstance(layout, AnnotatedFiles) and not colors


def borders(label: npt.NDArray[Any]) -> tuple[int, int]:
    """Return how many pixels of a label (H, W) lie between two other values, as interpolation makes them, and borders.

    A pixel counts where its neighbours to both sides, or above and below, have a smaller and a larger value.
    """
    between = np.zeros(label.shape, bool)
    edges = 0
    for values, marks in ((label, between), (label.T, between.T)):
        before, value, after = values[:-2], values[1:-1], values[2:]
        marks[1:-1] |= ((before < value) & (value < after)) | ((before > value) & (value > after))
        edges += int(np.count_nonzero(values[1:] != values[:-1]))
    return int(np.count_nonzero(between)), edges


def blurred_text(root: str, between: int, edges: int, pixels: int, labels: int) -> str | None:
    """Return the warning on labels whose borders have values between two others; none where they are sharp."""
    if not edges or between / edges < BLURRED:
        return None
    return (
        f"{root}: {100 * between / pixels:.1f} % of the pixels of {labels} labels lie on borders, with a value between"
        " those of both sides: labels that were resized by interpolation, or anti-aliased, name wrong classes there;"
        " write them anew with nearest neighbour"
    )


def absent_text(root: str, absent: Sequence[str], labels: str, values: Mapping[int, int], void: bool) -> str:
    """Return the sentence on classes to train without a pixel in the source.

    Args:
        root: of the source.
        absent: the classes.
        labels: how many labels were read.
        values: pixels of each raw value.
        void: whether 255 is `void` only because nothing else was said.
    """
    names = ", ".join(map(repr, absent[:3])) + (f" and {len(absent) - 3} more" if absent[3:] else "")
    text = f"{root}: no pixel in {labels} is of class {names}"
    if set(values) == {0, IGNORE_INDEX} and void:
        return f"{text}: the labels hold 0 and 255, and 255 is ignored; write label_map: {{0: NAME, 255: NAME}}"
    return f"{text}: it cannot be learnt; correct label_map, or leave the class out of label_space"


def only_labelled_text(root: str, names: Sequence[str], labels: str) -> str:
    """Return the sentence on classes without a pixel in the source that labelled target images show."""
    text = f"{root}: no pixel in {labels} is of class {', '.join(map(repr, names))}"
    return f"{text}, which is learnt from labelled target images alone"


def unshown_text(
    root: str, absent: Sequence[str], classes: Sequence[str], labels: str, pixels: Mapping[str, int]
) -> str:
    """Return the sentence on classes without a pixel in labelled target images, few of which may well lack some.

    Args:
        root: of the labelled images.
        absent: the classes.
        classes: all classes to train.
        labels: how many labels were read.
        pixels: of each name in the labels.
    """
    known = {*classes, BACKGROUND, VOID, ""}
    others = [repr(name) for name in sorted(pixels, key=lambda name: -pixels[name]) if name not in known]
    text = f"{root}: no pixel in {labels} is of {len(absent)} of {len(classes)} classes: {few([*map(repr, absent)])}"
    if not others:
        return f"{text}; learnt from the source alone"
    named = ", ".join(others[:MOST_NAMED]) + (", …" if others[MOST_NAMED:] else "")
    return f"{text}; in these labels are {named}, which are no class to train: correct the names where a class is meant"


def classes_shown(domain: Domain) -> set[str]:
    """Return the classes to train that have a pixel in a labelled domain, at most 200 labels of which are read.

    Raises:
        InputError: there is none, or a label is broken.
    """
    values = {value for index in evenly(len(domain), LABELS_READ) for value in np.unique(domain.label(index)).tolist()}
    shown = {name for value, name in enumerate(domain.label_space.classes) if value in values}
    if not shown:
        raise InputError(f"{domain.config.root}: no pixel of its labels is of a class to train; correct label_map")
    return shown


def label_warnings(
    role: str, domain: Domain, averaged: Sequence[str], elsewhere: Collection[str] = ()
) -> Iterator[str]:
    """Yield what a sample of a domain's labels gives to fear; nothing for rendered ones.

    Args:
        role: source, target_labelled or evaluation.
        domain: labelled.
        averaged: the classes that mIoU averages.
        elsewhere: classes that labelled target images beside the source show.

    Raises:
        InputError: fewer than two classes of both, or none of the evaluation, have a pixel; or a file is broken.
    """
    layout, root = domain.layout, str(domain.config.root)
    if not isinstance(layout, Files):
        return
    wanted = averaged if role == "evaluation" else domain.label_space.classes
    values: Counter[int] = Counter()
    between = edges = labels = 0
    for index in _spread(len(domain)):
        label = layout.label(index)
        counts = np.bincount(label.ravel())
        values.update({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
        if holds_values(layout):
            found = borders(label)
            between, edges = between + found[0], edges + found[1]
        labels += 1
        absent = [name for name in wanted if name not in {layout.raw_classes.get(value) for value in values}]
        if not absent and labels >= LEAST_READ:
            break
    blurred = blurred_text(root, between, edges, sum(values.values()), labels)
    if blurred:
        yield blurred
    read = f"{labels} labels" if labels == len(domain) else f"{labels} of {len(domain)} labels"
    only_labelled = [name for name in absent if name in elsewhere] if role == "source" else []
    if only_labelled:
        yield only_labelled_text(root, only_labelled, read)
    yield from _absences(role, domain, [name for name in absent if name not in only_labelled], read, values)


def _absences(role: str, domain: Domain, absent: Sequence[str], read: str, values: Mapping[int, int]) -> Iterator[str]:
    root, raw_classes = str(domain.config.root), domain.layout.raw_classes
    if role == "source" and absent:
        label_map = domain.config.label_map or {}
        void = raw_classes.get(IGNORE_INDEX) == VOID and IGNORE_INDEX not in label_map
        text = absent_text(root, absent, read, values, void)
        if len(domain.label_space) - len(absent) < 2:
            raise InputError(text)
        yield text
    elif role == "target_labelled" and absent:
        pixels: Counter[str] = Counter()
        for value, count in values.items():
            pixels[raw_classes.get(value, "")] += count
        yield unshown_text(root, absent, domain.label_space.classes, read, pixels)
    elif role == "evaluation":
        unnamed = [name for name in absent if name not in raw_classes.values()]
        if all(raw_classes.get(value) not in domain.label_space.classes for value in values):
            raise InputError(f"{root}: all pixels of {read} are ignored; correct the evaluation's label_map")
        if unnamed or (absent and "of" not in read):
            names = ", ".join(unnamed or absent)
            yield (
                f"{root}: no pixel is of class {names}: where it is predicted its IoU is 0, which is no result; leave"
                " it out with protocol, or add images with it"
            )


def _spread(count: int) -> list[int]:
    """Return the positions to read, evenly spaced, in an order that has the whole range soon."""
    positions = evenly(count, LABELS_READ)
    step = max(1, len(positions) // LEAST_READ)
    return [position for start in range(step) for position in positions[start::step]]
