"""adaptseg: unsupervised domain adaptation for semantic segmentation.

import adaptseg
train_ids = adaptseg.load_model("runs/streets").predict("photo.jpg")
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptseg.reports.adapt import adapt
    from adaptseg.segmenter.loading import load_model
    from adaptseg.segmenter.segmenter import Segmenter

try:
    __version__ = version("adaptseg")
except PackageNotFoundError:  # The source tree alone, by PYTHONPATH.
    __version__ = "0+source"
__all__ = ["Segmenter", "adapt", "load_model"]

_PLACES = {
    "Segmenter": "adaptseg.segmenter.segmenter",
    "adapt": "adaptseg.reports.adapt",
    "load_model": "adaptseg.segmenter.loading",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that `import adaptseg` costs nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module 'adaptseg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
