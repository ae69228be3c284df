"""Structured inputs: experiments with wrong types, unknown keys and extreme values, and overrides of their keys."""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from random import Random
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from adaptseg.config import DomainConfig, ExperimentConfig, ModelConfig, OptimizerConfig, TrainConfig
from adaptseg.data.layouts.registry import LAYOUTS
from adaptseg.methods import METHODS
from adaptseg.models.discriminator import DiscriminatorConfig

Value = TypeVar("Value")
Edit = tuple[tuple[str, ...], Any]
"""Where in an experiment, and what is put there."""

SECTIONS: dict[str, Any] = {
    **dict.fromkeys(("source", "target", "target_labelled", "evaluation"), DomainConfig),
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
}
PATHS: dict[tuple[str, ...], str] = {
    **{(field.name,): str(field.type) for field in fields(ExperimentConfig)},
    **{(section, field.name): str(field.type) for section, kind in SECTIONS.items() for field in fields(kind)},
    **{("method", field.name): str(field.type) for options, _ in METHODS.values() for field in fields(options)},
    **{("method", "discriminator", field.name): str(field.type) for field in fields(DiscriminatorConfig)},
}
"""Every key of an experiment, of every method, and its type as it is written."""

BASE = {
    "label_space": ["road", "car", "sky"],
    "source": {"layout": "streets", "root": "game", "label_map": {0: "road", 1: "car", 2: "sky"}, "size": [64, 48]},
    "target": {"layout": "streets", "root": "camera", "include": ["*"]},
    "evaluation": {"classes": ["road", "car", "sky"], "split": ["val"], "count": 2},
    "model": {"backbone": "resnet18", "width": 8, "levels": 1},
    "method": {"name": "adaptsegnet", "lambda_seg": [1.0], "lambda_adv": [0.01], "discriminator": {"channels": 4}},
    "optimizer": {"name": "adam", "lr": 0.001},
    "train": {"steps": 4, "batch": 2, "device": "cpu"},
}

numbers = st.sampled_from(
    (0, 1, -1, 7, 8, 255, 256, 65536, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"), float("inf"))
)
names = (
    "",
    "~",
    "null",
    "1",
    "[",
    "[a",
    "{x",
    "{key}",
    "{data}",
    "..",
    "../..",
    "/",
    "*",
    "a\0b",
    "two\nlines",
    "\x1b[2J",
    "é",
)
words = st.sampled_from(
    (*names, "x" * 5000, "auto", "void", "road", "game", "cityscapes19", "http://[", *LAYOUTS, *METHODS)
)
values = st.recursive(
    st.none() | st.booleans() | numbers | words | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | numbers | st.none(), inner, max_size=3),
    max_leaves=6,
)
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "dict": st.dictionaries(numbers, words, max_size=3),
    "list": st.lists(words, max_size=3),
    "tuple": st.lists(numbers, min_size=1, max_size=3),
    "bool": st.booleans(),
    "int": numbers,
    "float": numbers | st.floats(),
    "str": words,
}
"""What a reader takes for a value of a type, at first."""


def _value(path: tuple[str, ...]) -> st.SearchStrategy[Edit]:
    kind = next((name for name in OF_TYPE if name in PATHS[path]), "str")
    return st.tuples(st.just(path), OF_TYPE[kind])


known = st.sampled_from(list(PATHS))
unknown = st.lists(words, min_size=1, max_size=3).map(tuple)
edits = known.flatmap(_value) | known.flatmap(_value) | st.tuples(known | unknown, values)


def _edited(changes: list[Edit]) -> dict[str, Any]:
    content: dict[str, Any] = copy.deepcopy(BASE)
    for path, value in changes:
        place: Any = content
        for key in path[:-1]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[path[-1]] = value
    return content


experiments = st.lists(edits, min_size=1, max_size=3).map(_edited)
"""A good experiment with one to three keys changed or added."""


def _option(edit: Edit, form: int) -> list[str]:
    key, value = "--" + ".".join(edit[0]), edit[1]
    text = value if isinstance(value, str) else json.dumps(value, default=str) if form % 2 else str(value)
    return [[f"{key}={text}"], [key, text], [key], [f"{key}+={text}"], [key[1:], text]][form // 2]


stray = words | st.sampled_from(("--", "-", "---", "=x", "--=x", "-x", "--method.name", "--model.help", "@file"))
options = st.builds(_option, edits, st.sampled_from((0, 1, 0, 1, 0, 1, 2, 3, 4, 6, 8)))
overrides = st.lists(options | options | options | stray.map(lambda word: [word]), min_size=1, max_size=3).map(
    lambda tokens: [token for pair in tokens for token in pair]
)
"""Command-line arguments after `adaptseg train EXPERIMENT`."""


def draw(strategy: st.SearchStrategy[Value], rng: Random) -> Value:
    """Return one value of a strategy; equal generators give equal values."""
    drawn: list[Value] = []

    @settings(database=None, deadline=None)
    @given(strategy)
    def keep(value: Value) -> None:
        drawn.append(value)

    while not drawn:  # Bytes that a strategy cannot use draw nothing.
        keep.hypothesis.fuzz_one_input(rng.randbytes(4096))  # type: ignore[attr-defined]
    return drawn[0]
