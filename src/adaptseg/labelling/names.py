"""What can be chosen on the command line, cheap to import: the criteria."""

from __future__ import annotations

CRITERIA = ("random", "entropy", "disagreement", "rarity", "diversity", "combined")
DEFAULT = "random"
