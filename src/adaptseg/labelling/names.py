"""What can be chosen on the command line, cheap to import: criteria and formats."""

from __future__ import annotations

CRITERIA = ("random", "entropy", "disagreement", "rarity", "diversity", "combined")
DEFAULT = "combined"
FORMATS = ("png", "cvat", "coco", "labelme", "labelstudio")
