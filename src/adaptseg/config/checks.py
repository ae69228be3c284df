"""What the values of an experiment's keys must be: each refusal names the key and the cure."""

from __future__ import annotations

import math

from adaptseg.errors import InputError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded (decompression bombs)."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError` with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def require_in(key: str, value: float, low: float, high: float = math.inf, below: bool = False) -> None:
    """Raise `InputError` unless a number is finite and in low … high, with `below` not `high` itself."""
    if not (low <= value <= high and math.isfinite(value) and not (below and value == high)):
        last = "" if high == math.inf else f" to {'below ' if below else ''}{high:g}"
        raise InputError(f"{key} is {value}; give a number from {low:g}{last or ' up'}")


def require_size(key: str, size: tuple[int, int] | None) -> None:
    """Raise `InputError` unless a width and height, where there are any, make an image."""
    require(
        size is None or (len(size) == 2 and min(size) >= 8),
        f"{key} is {size}; give [width, height], each at least 8 pixels",
    )
    require(
        size is None or size[0] * size[1] <= MAX_PIXELS,
        f"{key} is {size}; give [width, height] of at most {MAX_PIXELS} pixels together",
    )
