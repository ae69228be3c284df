"""The run's predictions for annotation programs, and how corrected labels come back: the lines of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from adaptseg.data.label_spaces import LabelSpace
from adaptseg.errors import InputError
from adaptseg.labelling import coco, cvat, label_studio, labelme
from adaptseg.labelling.annotations import ToLabel
from adaptseg.labelling.names import FORMATS


def chosen_formats(text: str) -> list[str]:
    """Return the formats of a list such as `cvat,coco`; raises `InputError` where one is unknown."""
    chosen = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in chosen:
        if name not in FORMATS:
            raise InputError(f"--format {name!r} is unknown; choose of {', '.join(FORMATS)}")
    return chosen


def refuse_unwritable(space: LabelSpace, formats: Sequence[str]) -> None:
    """Raise `InputError` where a format has no room for the name of a class."""
    if "cvat" in formats:
        cvat.refuse_names(space)


def write_formats(to_label: ToLabel, formats: Sequence[str], place: str) -> list[str]:
    """Write the predictions for annotation programs.

    Args:
        to_label: the images and their predictions; `labels/` is what the format png means.
        formats: of `FORMATS`.
        place: name of the folder as it will be.

    Returns:
        A line about each: its files, and the key with which it comes back.
    """
    writers = {
        "cvat": lambda: cvat.write(to_label),
        "coco": lambda: coco.write(to_label),
        "labelme": lambda: labelme.write(to_label),
        "labelstudio": lambda: label_studio.write(to_label, place),
    }
    return [writers[name]() for name in formats if name != "png"]


def yaml_block(out: Path, space: LabelSpace) -> str:
    """Return the lines of an experiment that train on the labels in a folder."""
    names = dict(enumerate(space.classes))
    content = {"layout": "folder", "root": str(out.absolute()), "label_map": names}
    text: str = yaml.safe_dump(
        {"target_labelled": content}, default_flow_style=None, sort_keys=False, allow_unicode=True, width=100
    )
    return text
