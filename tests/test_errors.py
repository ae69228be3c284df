from __future__ import annotations

import pickle

import pytest

from adaptseg.errors import LONGEST_MESSAGE, InputError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines.png", r"two\nlines.png"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\0b\x85\u2028", r"a\x00b\x85\u2028"),
        ("straße 道路 £.png", "straße 道路 £.png"),
    ],
)
def test_names_with_control_characters_stay_on_the_line(name: str, shown: str) -> None:
    error = InputError(f"{name}: not a readable image; replace the file")
    assert str(error) == f"{shown}: not a readable image; replace the file"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # a loader's process sends it to the training's


def test_a_long_message_keeps_its_beginning_and_its_cure() -> None:
    text = str(InputError(f"a.yaml: key {'x' * 10**6} is unknown; remove it"))
    assert len(text) == LONGEST_MESSAGE
    assert text.startswith("a.yaml: key xxx")
    assert text.endswith("xxx is unknown; remove it")
    assert " … " in text
