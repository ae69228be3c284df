"""Which layouts there are: how a data set lies on disk. Each gives names, images, labels and class names."""

from __future__ import annotations

from collections.abc import Callable

from adaptseg.config import OF_LAYOUT_FOLDER, DomainConfig
from adaptseg.data.layouts.embedded import Streets
from adaptseg.data.layouts.folder import folder_layout
from adaptseg.data.layouts.paired_files import Layout
from adaptseg.data.layouts.published import PUBLISHED, published_layout
from adaptseg.errors import InputError

LAYOUTS: dict[str, Callable[[DomainConfig], Layout]] = {
    "streets": Streets,
    "folder": folder_layout,
    **dict.fromkeys(PUBLISHED, published_layout),
}


def open_layout(config: DomainConfig) -> Layout:
    """Return the samples of a domain as they lie on disk.

    Raises:
        InputError: the layout is unknown, or its files are not there.
    """
    if config.layout not in LAYOUTS:
        raise InputError(f"layout {config.layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    own = [key for key in OF_LAYOUT_FOLDER if getattr(config, key) is not None]
    if own and config.layout != "folder":
        raise InputError(f"{own[0]} is a key of layout folder, but the layout is {config.layout}; leave it out")
    return LAYOUTS[config.layout](config)
