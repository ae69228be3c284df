"""How corrected labels come back: the lines of an experiment that train on them."""

from __future__ import annotations

from pathlib import Path

import yaml

from adaptseg.data.label_spaces import LabelSpace


def yaml_block(out: Path, space: LabelSpace) -> str:
    """Return the lines of an experiment that train on the labels in a folder."""
    content = {"layout": "folder", "root": str(out.absolute()), "classes": list(space.classes)}
    text: str = yaml.safe_dump({"target_labelled": content}, sort_keys=False, allow_unicode=True, width=100)
    return text
