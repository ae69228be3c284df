"""What is read ahead keeps its order and its bounds, and ends with its errors."""

from __future__ import annotations

import time

import pytest

from adaptseg.data.ahead import ahead, mapped_ahead
from adaptseg.errors import InputError


def test_items_come_in_order_and_few_are_made_ahead() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        made.append(number)
        return number

    for number in mapped_ahead(make, range(30), threads=3, waiting=4):
        assert len(made) <= number + 5
    assert sorted(made) == list(range(30))
    assert list(ahead(iter(range(5)), 2)) == list(range(5))


def test_an_error_comes_where_its_item_would() -> None:
    def broken() -> object:
        yield 1
        raise InputError("broken")

    found = ahead(broken(), 3)  # type: ignore[arg-type, var-annotated]
    assert next(found) == 1
    with pytest.raises(InputError, match="broken"):
        next(found)
