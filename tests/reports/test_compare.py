"""Seeds as the command line has them."""

from __future__ import annotations

import pytest

from adaptseg.errors import InputError
from adaptseg.reports.compare import parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("1,5,7", [1, 5, 7]), ("5,", [5]), ("0,", [0]), ("1", [0])]
)
def test_a_number_of_seeds_or_a_list(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "1,,2", "2,,", "x", "0", "-1,", "1,1"])
def test_neither_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--seeds"):
        parse_seeds(text)


def test_a_large_number_is_most_likely_one_seed() -> None:
    with pytest.raises(InputError, match="--seeds 2026,"):
        parse_seeds("2026")
    assert parse_seeds("2026,") == [2026]
