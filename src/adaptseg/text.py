"""Text from outside (class names, file names, descriptions) stays text: one function for each medium.

HTML needs none: templates and `markupsafe.Markup` escape what they are given.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")
"""Characters that end a line, or that a terminal obeys."""
MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
ENTITIES = {"&": "&amp;", "<": "&lt;"}


def plain(text: str) -> str:
    r"""Return one line without control characters: they are written out (`\n`)."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def for_rich(text: str) -> Text:
    """Return what rich shows as it is, whatever brackets and colons are in it."""
    from rich.text import Text

    return Text(plain(text))


def for_markdown(text: str) -> str:
    """Return what Markdown shows as it is, in a table's cell too: no links, HTML or emphasis."""
    escaped = MARKDOWN.sub(lambda found: f"\\{found[0]}", plain(text))
    return re.sub("[&<]", lambda found: ENTITIES[found[0]], escaped)
