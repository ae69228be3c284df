"""The paper's evaluation, for released weights that come without an experiment."""

from __future__ import annotations

from typing import Any

from adaptseg.data.label_spaces import CITYSCAPES_19, LabelSpace
from adaptseg.errors import InputError


def published_evaluation(space: LabelSpace) -> dict[str, Any]:
    """Return the paper's evaluation as an experiment: the 500 images of Cityscapes' val, seen at 1024x512.

    The folder is the key `data`. What is averaged are the model's own classes: 19, 16 or 13.

    Raises:
        InputError: the model has classes that Cityscapes does not have.
    """
    others = [name for name in space.classes if name not in CITYSCAPES_19]
    if others:
        raise InputError(
            f"label space {space.name} has class {others[0]!r}, which Cityscapes does not; name the evaluation data"
            " with --experiment PRESET-OR-YAML"
        )
    return {
        "label_space": list(space.classes),
        "source": {},
        "evaluation": {
            "layout": "cityscapes",
            "root": "{data}",
            "split": ["val"],
            "size": [1024, 512],
            "resize": "squeeze",
        },
        "method": {"name": "source_only"},
        **{section: {} for section in ("model", "train")},  # Nothing is trained.
    }
